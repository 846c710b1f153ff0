"""A home whose classifier is a model, and that model's API on this machine."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from engagement_pipeline.scoring.levels import Thresholds, with_baseline
from engagement_pipeline.scoring.profiles import Profile
from engagement_pipeline.scoring.sharing import with_shared_profiles
from engagement_pipeline.settings import Settings
from tests.anthropic_api import AnthropicApi, expected_level
from tests.home import settings_of

DAY = timedelta(days=1)


def use_model(patch: pytest.MonkeyPatch, api: AnthropicApi, home: Path, **settings: object) -> None:
    """Point this process, and runs it starts, at the server's model."""
    patch.setenv("ENGAGEMENT_HOME", str(home))
    patch.setenv("DAGSTER_HOME", str(home / ".dagster"))
    patch.setenv("ENGAGEMENT_PROFILE", "test")
    patch.setenv("ANTHROPIC_API_KEY", api.key)
    patch.setenv("ANTHROPIC_BASE_URL", api.base_url)
    for name, value in {"classifier": "anthropic", **settings}.items():
        patch.setenv(f"ENGAGEMENT_{name.upper()}", str(value))


def model_settings(home: Path, source: Path) -> Settings:
    """The settings of such a home, as the environment has them."""
    return settings_of(home, source)


def policy_levels(signals: pl.DataFrame) -> Mapping[tuple[str, str], str]:
    """The level that the server's model gives each member, or the rules' where that is vetoed."""
    thresholds = Thresholds()
    found = {}
    members = pl.concat(
        with_shared_profiles(with_baseline(org, thresholds), thresholds, min_members=5)
        for org in signals.partition_by("org_id")
    )
    for org, user, text, baseline in members.select(
        "org_id", "user_id", "profile", "baseline_level"
    ).iter_rows():
        level = expected_level(text)
        is_vetoed = Profile(text).is_new(thresholds) and level in ("at_risk", "inactive")
        found[org, user] = baseline if is_vetoed else level
    return found
