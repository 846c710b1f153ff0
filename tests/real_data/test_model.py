"""Public data put to a model: everybody gets its level, and nobody's id leaves."""

from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest

from tests.anthropic_api import AnthropicApi
from tests.home import published, run_pipeline
from tests.model_home import model_settings, policy_levels, use_model
from tests.real_data.conftest import DATA


@pytest.mark.parametrize(
    ("folder", "as_of", "members", "most_profiles"),
    [
        ("meetup_montana", datetime(2016, 6, 4, tzinfo=UTC), 1_941, 107),
        ("cdnow_sample", datetime(1998, 7, 1, tzinfo=UTC), 2_357, 100),
    ],
)
def test_every_member_gets_the_models_level_from_a_few_profiles(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    folder: str,
    as_of: datetime,
    members: int,
    most_profiles: int,
) -> None:
    source = DATA / folder
    if not source.is_dir():
        pytest.skip("the public data is not here")
    with AnthropicApi() as api:
        use_model(monkeypatch, api, tmp_path / "home")
        settings = model_settings(tmp_path / "home", source)
        assert run_pipeline(settings, as_of).failures == []
        sent = "\n".join(str(request.body) for request in api.messages)
        assert 0 < sum(len(request.profiles) for request in api.messages) <= most_profiles
    with duckdb.connect(str(settings.warehouse_path), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        signals = pl.DataFrame(connection.sql("SELECT * FROM signals.member_90d")).with_columns(
            pl.col(pl.Datetime).dt.convert_time_zone("UTC")
        )
    found = published(
        settings, "SELECT org_id, user_id, computed_level FROM marts.member_engagement"
    )
    assert len(found) == members
    assert {(org, user): level for org, user, level in found} == policy_levels(signals)
    longest = max(signals["user_id"].to_list(), key=len)
    assert len(longest) < 5 or longest not in sent
