"""The page about the model shows what is really sent."""

import json
import re

from engagement_pipeline.scoring.anthropic.models import DEFAULT_MODEL, KNOWN_MODELS
from engagement_pipeline.scoring.anthropic.requests import message_params
from engagement_pipeline.scoring.golden import expected
from engagement_pipeline.scoring.levels import OrgContext, Thresholds
from engagement_pipeline.scoring.profiles import Profile
from engagement_pipeline.settings import PROJECT_FOLDER

PAGE = (PROJECT_FOLDER / "docs" / "model.md").read_text(encoding="utf-8")


def test_the_request_on_the_page_is_the_one_that_is_sent() -> None:
    shown = json.loads(re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[0])
    rows = shown["messages"][0]["content"].split("\n")[2:]
    profiles = [Profile(row.partition(" ")[2]) for row in rows]
    org = OrgContext("choir-7", "Riverside Choir", "Amateur singers, all ages.", Thresholds())
    assert shown == message_params(KNOWN_MODELS[DEFAULT_MODEL], org, profiles)
    assert org.org_id not in json.dumps(shown)


def test_the_page_names_every_built_in_model_with_its_prices() -> None:
    for spec in KNOWN_MODELS.values():
        if spec.name == "claude-haiku-4-5":
            continue  # the default's short name
        assert f"`{spec.name}`" in PAGE
        assert f"{spec.input_usd:.2f} / {spec.output_usd:.2f}" in PAGE


def test_the_page_tells_the_golden_sets_size() -> None:
    assert f"puts {len(expected())} described members" in PAGE
