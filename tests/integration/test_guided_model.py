"""What admins corrected guides the model, and what a run was billed corrects the next estimate."""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from engagement_pipeline.defs.asking import estimate_open, open_questions
from engagement_pipeline.defs.guidance import guides_at
from engagement_pipeline.defs.model import model_classifier
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse import predictions
from engagement_pipeline.warehouse.calibrations import record_uses
from engagement_pipeline.warehouse.classifications import stored_orgs
from engagement_pipeline.warehouse.connection import Warehouse
from tests.anthropic_api import AnthropicApi
from tests.asked_home import ask_and_label, copy_home
from tests.loop_home import put, rows
from tests.model_home import model_settings, use_model
from tests.varied_source import AS_OF, member_id, org_id

ORG = org_id(1)
PROFILE = "3 2 1 0 8 0 180 ? 0 x +"
OTHER_PROFILE = "3 2 1 0 8 0 180 ? 0 x ="
LEARNED = AS_OF - timedelta(days=1)
TICK = timedelta(microseconds=1)


@pytest.fixture
def api() -> Iterator[AnthropicApi]:
    with AnthropicApi() as api:
        yield api


@pytest.fixture
def settings(
    varied_home: Path, tmp_path: Path, api: AnthropicApi, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    home = copy_home(varied_home, tmp_path / "home")
    use_model(monkeypatch, api, home)
    return model_settings(home, tmp_path / "source")


def _correct(settings: Settings) -> None:
    """Put on record that the organisation's admins corrected a profile."""
    put(settings, "loops.corrections", [_correction(LEARNED, 1)])
    _learned(settings, LEARNED)


def _correction(moment: datetime, place: int, profile: str = PROFILE) -> dict[str, object]:
    return {
        "org_id": ORG,
        "computed_at": moment,
        "place": place,
        "profile": profile,
        "computed_level": "at_risk",
        "admin_level": "moderate",
        "corrected_at": moment,
    }


def _learned(settings: Settings, moment: datetime, outcome: str = "learned") -> None:
    run = {
        "org_id": ORG,
        "archetype": "suggestion",
        "as_of": moment,
        "outcome": outcome,
        "calibrations": 1,
        "computed_at": moment,
    }
    # Another loop's learning says nothing of corrections.
    other = {**run, "archetype": "threshold", "as_of": moment + timedelta(minutes=1)}
    put(settings, "loops.learning_runs", [run, other])


def _told(settings: Settings, moment: datetime) -> list[str]:
    """The profiles that a model that is asked at a moment is told of."""
    with Warehouse.of(settings).open() as connection:
        guides = guides_at(connection, settings, as_of=moment)
    return [one.profile for one in guides.of(ORG).corrections]


def _calibration(key: str, value: float) -> dict[str, object]:
    return {
        "org_id": ORG,
        "key": key,
        "value": value,
        "n": 5,
        "window_start": LEARNED - timedelta(days=180),
        "window_end": LEARNED,
        "computed_at": LEARNED,
        "expires_at": LEARNED + timedelta(days=30),
    }


def _turns(api: AnthropicApi) -> list[str]:
    return [request.body["messages"][0]["content"] for request in api.requests]


def test_only_the_organisation_whose_admins_corrected_is_asked_anew_and_told_of_it(
    settings: Settings, api: AnthropicApi
) -> None:
    ask_and_label(settings, "run-1")
    assert not any("admins corrected" in turn for turn in _turns(api))
    api.reset()
    _correct(settings)
    asked = ask_and_label(settings, "run-2")
    line = f"admins corrected (guidance, not rows): {PROFILE} => moderate"
    assert _turns(api)
    assert all(turn.split("\n")[2] == line for turn in _turns(api))
    # Nothing of the member, the admin or the day goes with it.
    assert not any(member_id(1, number) in turn for turn in _turns(api) for number in range(30))
    sources = dict(asked.rows.group_by("org_id").agg("source").iter_rows())
    assert set(sources.pop(ORG)) <= {"llm", "vetoed"}
    api.reset()
    ask_and_label(settings, "run-3")
    assert _turns(api) == []


def test_corrections_do_not_outlive_what_was_learned_with_them(
    settings: Settings, api: AnthropicApi
) -> None:
    _correct(settings)
    expired = LEARNED + timedelta(days=30)
    for moment in (LEARNED, AS_OF, expired - TICK):
        assert _told(settings, moment) == [PROFILE]
    for moment in (LEARNED - TICK, expired):
        assert _told(settings, moment) == []
    assert api.requests == []


def test_what_a_later_learning_found_changes_nothing_for_an_earlier_moment(
    settings: Settings,
) -> None:
    _correct(settings)
    again, emptied, failed = (LEARNED + timedelta(days=days) for days in (7, 14, 21))
    found = [_correction(again, 1, OTHER_PROFILE), _correction(again, 2)]
    put(settings, "loops.corrections", [*found, _correction(failed, 1)])
    _learned(settings, again)
    _learned(settings, emptied)
    _learned(settings, failed, "failed")
    assert _told(settings, again - TICK) == [PROFILE]
    for moment in (again, emptied - TICK):
        assert _told(settings, moment) == [OTHER_PROFILE, PROFILE]
    # Nothing was found then, and what was found after it belongs to a learning that failed.
    for moment in (emptied, failed):
        assert _told(settings, moment) == []


@pytest.mark.parametrize(
    ("column", "text", "expected"),
    [
        ("profile", "3 2 1", "has 3 cells; expected 11"),
        ("profile", PROFILE.replace("180", "many"), "has 'many' in the cell 'joined'"),
        ("computed_level", "lukewarm", "computed_level: expected one of .*, found 'lukewarm'"),
        ("admin_level", "lukewarm", "admin_level: expected one of .*, found 'lukewarm'"),
    ],
)
def test_a_correction_that_another_release_wrote_is_left_out_and_said_so(
    settings: Settings, caplog: pytest.LogCaptureFixture, column: str, text: str, expected: str
) -> None:
    _correct(settings)
    put(settings, "loops.corrections", [_correction(LEARNED, 2, OTHER_PROFILE)])
    with Warehouse.of(settings).open() as connection:
        connection.execute(f"UPDATE loops.corrections SET {column} = ? WHERE place = 1", [text])
    assert _told(settings, AS_OF) == [OTHER_PROFILE]
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert re.search(f"a correction of {ORG} is left out.*{expected}", record.getMessage())


def test_what_was_last_used_never_moves_back(settings: Settings) -> None:
    others = (org_id(0), org_id(2))
    with Warehouse.of(settings).open() as connection:
        for days, used in (
            (0, {ORG: 1, others[0]: 1}),
            (-1, {ORG: 2, others[1]: 2}),
            (0, {others[0]: 3}),
            (1, {others[1]: 4}),
        ):
            record_uses(
                connection, "suggestion", "prompt", used, as_of=AS_OF + timedelta(days=days)
            )
        record_uses(connection, "suggestion", "other", {ORG: 5}, as_of=LEARNED)
    found = rows(
        settings, "SELECT org_id, consumer, used_at, calibrations FROM loops.consumer_uses"
    )
    assert {tuple(row.values()) for row in found} == {
        (ORG, "prompt", AS_OF, 1),
        (others[0], "prompt", AS_OF, 3),
        (others[1], "prompt", AS_OF + timedelta(days=1), 4),
        (ORG, "other", LEARNED, 5),
    }
    assert len(found) == 4


def test_with_the_loops_off_the_model_is_told_of_no_correction(
    settings: Settings, api: AnthropicApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    _correct(settings)
    monkeypatch.setenv("LOOPS_ENABLED", "false")
    ask_and_label(model_settings(settings.home, settings.source_folder), "run-1")
    assert _turns(api)
    assert not any("admins corrected" in turn for turn in _turns(api))
    assert rows(settings, "SELECT * FROM loops.predictions WHERE kind <> 'churn'") == []


def test_a_run_keeps_what_it_expected_of_each_organisation_and_the_bill_is_held_against_it(
    settings: Settings,
) -> None:
    ask_and_label(settings, "run-1")
    kept = rows(
        settings,
        "SELECT org_id, kind, predicted FROM loops.predictions WHERE kind <> 'churn' "
        "ORDER BY org_id, kind",
    )
    assert [(row["org_id"], row["kind"]) for row in kept] == [
        (org_id(number), f"cost:{side}_tokens")
        for number in range(3)
        for side in ("input", "output")
    ]
    with Warehouse.of(settings).open() as connection:
        billed = predictions.calls_of(connection, ["run-1"])
    assert billed["ended_at"].null_count() == 0
    expected = sum(row["predicted"] for row in kept if row["kind"] == "cost:input_tokens")
    assert expected == pytest.approx(billed["input_tokens"].sum(), rel=0.15)


def test_an_organisation_that_took_twice_the_tokens_is_expected_to_again(
    settings: Settings, api: AnthropicApi
) -> None:
    put(
        settings,
        "loops.calibrations",
        [_calibration(f"cost-ratio:{side}_tokens", 2.0) for side in ("input", "output")],
    )
    with Warehouse.of(settings).open() as connection:
        orgs = [org for org in stored_orgs(connection) if org.org_id == ORG]
        guides = guides_at(connection, settings, as_of=AS_OF)
        classifier = model_classifier(settings)
        asked = open_questions(connection, settings, orgs, guides, classifier, as_of=AS_OF)
        pending = [one.pending for one in asked]
        corrected = estimate_open(connection, settings, pending, guides)
        without = guides_at(connection, settings, as_of=AS_OF + timedelta(days=60))
        plain = estimate_open(connection, settings, pending, without)
    assert corrected.cost_usd == pytest.approx(2 * plain.cost_usd, rel=0.01)
    assert corrected.uncorrected_tokens == plain.uncorrected_tokens
    assert api.requests == []
