"""The daily run with a model behind it: in a real Dagster instance, against a real HTTP server."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import polars as pl
import pytest

from engagement_pipeline.definitions import defs
from engagement_pipeline.defs.classifying import CLASSIFICATIONS
from engagement_pipeline.defs.scoring import SCORING_RUNS
from engagement_pipeline.settings import Settings
from engagement_pipeline.terminal import daily, plan
from engagement_pipeline.terminal.running import dagster_instance
from tests.anthropic_api import AnthropicApi, Fault
from tests.home import published, run_pipeline, run_unpublished, stored, tables
from tests.model_home import DAY, model_settings, policy_levels, use_model
from tests.varied_source import AS_OF, org_id, org_name, write_varied_source


@pytest.fixture
def api() -> Iterator[AnthropicApi]:
    with AnthropicApi() as server:
        yield server


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: AnthropicApi) -> Path:
    use_model(monkeypatch, api, tmp_path / "home")
    return tmp_path / "home"


def _settings(home: Path, *, orgs: int = 3, members: int = 40, **source: Any) -> Settings:
    folder = write_varied_source(home.parent / "source", orgs=orgs, members=members, **source)
    return model_settings(home, folder)


@dataclass(frozen=True)
class Ran:
    """A home whose model has been asked once, about five organisations."""

    settings: Settings
    api: AnthropicApi


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    folder = tmp_path_factory.mktemp("ran")
    with AnthropicApi() as server, pytest.MonkeyPatch.context() as patch:
        use_model(patch, server, folder / "home")
        settings = _settings(folder / "home", orgs=5)
        assert run_pipeline(settings, AS_OF).failures == []
        yield Ran(settings, server)


def _signals(settings: Settings) -> pl.DataFrame:
    with duckdb.connect(str(settings.warehouse_path), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return pl.DataFrame(connection.sql("SELECT * FROM signals.member_90d")).with_columns(
            pl.col(pl.Datetime).dt.convert_time_zone("UTC")
        )


def _computed(settings: Settings) -> dict[tuple[str, str], str]:
    rows = published(
        settings, "SELECT org_id, user_id, computed_level FROM marts.member_engagement"
    )
    return {(str(org), str(user)): str(level) for org, user, level in rows}


def test_every_member_gets_the_level_that_the_model_gave_their_profile(ran: Ran) -> None:
    settings = ran.settings
    assert _computed(settings) == policy_levels(_signals(settings))
    sources = published(settings, "SELECT DISTINCT source FROM marts.member_engagement")
    assert sources == [("llm",)]
    (profiles,) = stored(settings, "SELECT count(DISTINCT fingerprint) FROM scores.llm_answers")[0]
    assert sum(len(request.profiles) for request in ran.api.messages) == profiles < 200


def test_what_was_answered_once_is_never_asked_again(
    home: Path, api: AnthropicApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGAGEMENT_MEMBERS_PER_PROFILE", "1")
    settings = _settings(home)
    run_unpublished(settings, AS_OF)
    paid = len(api.messages)
    assert run_unpublished(settings, AS_OF).failures == []
    assert len(api.messages) == paid  # the same moment: nothing is due
    assert run_pipeline(settings, AS_OF + DAY).failures == []
    asked_next_day = sum(len(request.profiles) for request in api.messages[paid:])
    first_day = sum(len(request.profiles) for request in api.messages[:paid])
    # A day moves some members over the edge of a bucket, and nobody else is asked about.
    assert 0 < asked_next_day < first_day / 3
    shares = dict(
        published(settings, "SELECT source, count(*) FROM marts.member_engagement GROUP BY 1")
    )
    assert shares["llm_cached"] > shares["llm"] > 0
    twice = stored(
        settings, "SELECT fingerprint FROM scores.llm_answers GROUP BY 1 HAVING count(*) > 1"
    )
    assert twice == []


def test_an_answer_is_asked_for_anew_once_it_is_too_old(
    home: Path, api: AnthropicApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGAGEMENT_LABEL_MAX_AGE_DAYS", "0")
    settings = _settings(home, orgs=1, members=5)
    run_unpublished(settings, AS_OF)
    paid = len(api.messages)
    run_unpublished(settings, AS_OF + DAY)
    assert len(api.messages) == 2 * paid


def test_a_resumed_or_repeated_moment_says_the_same_as_one_that_went_through(
    home: Path,
) -> None:
    settings = _settings(home)
    run_unpublished(settings, AS_OF)
    before = tables(settings.warehouse_path, "scores")["scores.classifications"]
    with duckdb.connect(str(settings.warehouse_path)) as connection:
        connection.execute("DELETE FROM scores.org_runs")
        connection.execute("DELETE FROM scores.classifications")
    assert run_unpublished(settings, AS_OF).failures == []
    assert tables(settings.warehouse_path, "scores")["scores.classifications"].equals(before)


@pytest.mark.slow
def test_five_failing_organisations_of_two_hundred_stop_nobody_else_and_are_made_up_for(
    home: Path, api: AnthropicApi
) -> None:
    settings = _settings(home, orgs=200, members=4)
    bad = {org_name(org): org_id(org) for org in (3, 50, 51, 120, 199)}
    for name in bad:
        api.misbehave(
            Fault.INVALID_REQUEST,
            times=1,
            when=lambda body, name=name: name in body["messages"][0]["content"],
        )
    outcome = run_pipeline(settings, AS_OF)
    (failure,) = outcome.failures
    assert all(identity in failure for identity in bad.values())
    assert failure.startswith("scores__gate: 5 of the organisations")
    labelled = published(settings, "SELECT DISTINCT org_id FROM marts.member_engagement")
    assert len(labelled) == 195
    paid = len(api.messages)
    again = daily.run(settings, as_of=AS_OF.isoformat(), org_ids=sorted(bad.values()))
    assert again.failures == []
    assert len(api.messages) == paid + 5
    labelled = published(settings, "SELECT DISTINCT org_id FROM marts.member_engagement")
    assert len(labelled) == 200


def test_a_key_that_is_refused_stops_the_run_with_one_clear_error(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-wrong-secret")
    settings = _settings(home)
    (failure,) = run_pipeline(settings, AS_OF).failures
    assert "HTTP 401" in failure
    assert "the model cannot be asked" in failure
    assert "sk-ant" not in failure
    assert not settings.published_path.exists()


def test_a_model_without_a_key_is_refused_before_anything_is_sent(
    home: Path, api: AnthropicApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    (failure,) = run_pipeline(_settings(home), AS_OF).failures
    assert api.requests == []
    assert "ANTHROPIC_API_KEY was expected in the environment" in failure


def test_a_run_over_its_budget_is_refused_and_the_plan_says_so_beforehand(
    home: Path, api: AnthropicApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGAGEMENT_MAX_COST_USD", "0.0001")
    settings = _settings(home)
    (failure,) = run_pipeline(settings, AS_OF).failures
    assert "more than max_cost_usd = $0.0001; nothing was sent" in failure
    assert api.messages == []
    found = plan.plan(settings, as_of=AS_OF.isoformat(), org_ids=[])
    assert found.refusal is not None
    assert found.refusal in failure
    assert found.cached == 0 < found.profiles
    monkeypatch.setenv("ENGAGEMENT_MAX_COST_USD", "5")
    affordable = plan.plan(model_settings(home, settings.source_folder), as_of=None, org_ids=[])
    assert affordable.refusal is None
    assert affordable.calls > 0


def test_a_profile_that_falls_back_is_published_and_keeps_nothing_from_being(
    home: Path, api: AnthropicApi
) -> None:
    settings = _settings(home, orgs=2)
    api.misbehave(Fault.DIGITS, times=1_000, when=lambda body: org_name(0) in str(body), rows=1)
    assert run_pipeline(settings, AS_OF).failures == []
    sources = dict(
        published(settings, "SELECT source, count(*) FROM marts.member_engagement GROUP BY 1")  # type: ignore[arg-type]
    )
    assert sources["fallback"] > 0 < sources["llm"]
    (row,) = published(
        settings, "SELECT profiles_cached, profiles_fallen_back > 0 FROM marts.run_costs"
    )
    assert row == (0, True)


def test_what_a_stopped_run_spent_is_that_runs_cost(home: Path, api: AnthropicApi) -> None:
    settings = _settings(home)
    api.misbehave(Fault.UNAUTHORIZED, when=lambda body: org_name(2) in str(body))
    assert len(run_unpublished(settings, AS_OF).failures) == 1
    spent = api.billed_usd
    assert run_pipeline(settings, AS_OF).failures == []
    costs = published(settings, "SELECT spent_usd FROM marts.run_costs ORDER BY computed_at")
    assert [cost for (cost,) in costs] == [
        pytest.approx(spent),
        pytest.approx(api.billed_usd - spent),
    ]


def test_the_plan_foresees_calls_and_dollars(home: Path, api: AnthropicApi) -> None:
    settings = _settings(home)
    run_unpublished(settings, AS_OF, org_id(0))
    spent, calls = api.billed_usd, len(api.messages)
    found = plan.plan(settings, as_of=AS_OF.isoformat(), org_ids=[])
    assert found.due_orgs == 2
    assert found.cached == 0
    assert run_unpublished(settings, AS_OF).failures == []
    assert len(api.messages) - calls == found.calls
    assert api.billed_usd - spent == pytest.approx(found.cost_usd, rel=0.15)


def test_the_ledger_and_the_costs_agree_with_what_the_api_billed(ran: Ran) -> None:
    settings, api = ran.settings, ran.api
    rows = published(
        settings,
        "SELECT calls, input_tokens, output_tokens, spent_usd, uncertain_usd, members, profiles, "
        "one_call_a_member_usd - saved_usd - spent_usd FROM marts.run_costs",
    )
    usage = api.totals.usage
    assert rows == [
        (
            len(api.messages),
            usage.input,
            usage.output,
            pytest.approx(api.billed_usd),
            0.0,
            200,
            sum(len(request.profiles) for request in api.messages),
            pytest.approx(0.0, abs=1e-12),
        )
    ]


def test_nothing_of_a_member_leaves_and_an_organisation_only_in_its_own_requests(ran: Ran) -> None:
    assert len(ran.api.messages) >= 5
    for request in ran.api.messages:
        sent = f"{request.headers} {request.path} {request.body}"
        assert "membertoken" not in sent
        assert "orgid" not in sent
        tokens = {org for org in range(5) if f"orgtoken{org:04d}" in sent}
        assert len(tokens) == 1


def test_the_key_is_nowhere_in_what_a_run_leaves_behind(ran: Ran) -> None:
    holding = [
        path
        for path in ran.settings.home.rglob("*")
        if path.is_file() and ran.api.key.encode() in path.read_bytes()
    ]
    assert holding == []


def test_each_organisation_and_the_run_tell_what_asking_took(ran: Ran) -> None:
    settings, api = ran.settings, ran.api
    with dagster_instance(settings) as instance:
        records = instance.fetch_materializations(CLASSIFICATIONS, limit=10).records
        facts = [
            {name: value.value for name, value in record.asset_materialization.metadata.items()}  # type: ignore[union-attr]
            for record in records
        ]
        summary = instance.get_latest_materialization_event(SCORING_RUNS)
    assert sum(fact["calls"] for fact in facts) == len(api.messages)
    assert sum(fact["spent_usd"] for fact in facts) == pytest.approx(api.billed_usd)
    assert {fact["cache_share"] for fact in facts} == {0.0}
    assert summary is not None
    assert summary.asset_materialization is not None
    told = summary.asset_materialization.metadata
    assert told["spent_usd"].value == pytest.approx(api.billed_usd)
    assert told["saved_usd"].value > 0  # type: ignore[operator]


def test_levels_that_shift_within_a_month_warn_and_fail_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGAGEMENT_CLASSIFIER", "rules")
    settings = _settings(home, orgs=1, members=300)
    run_unpublished(settings, AS_OF)
    monkeypatch.setenv("ENGAGEMENT_HIGHLY_ENGAGED_MIN", "1")
    monkeypatch.setenv("ENGAGEMENT_INACTIVE_DAYS", "1")
    later = model_settings(home, settings.source_folder)
    assert run_unpublished(later, AS_OF + DAY).failures == []
    with dagster_instance(settings) as instance:
        check = dg.AssetCheckKey(SCORING_RUNS, "level_drift")
        checks = instance.event_log_storage.get_asset_check_execution_history(check, limit=2)
    latest, first = (one.event.dagster_event.asset_check_evaluation_data for one in checks)  # type: ignore[union-attr]
    assert first.passed
    assert not latest.passed
    assert latest.severity is dg.AssetCheckSeverity.WARN
    assert org_id(0) in str(latest.metadata["shifted"].value)


def test_the_code_location_lists_the_ledger_among_its_assets() -> None:
    keys = {key.to_user_string() for key in defs.resolve_all_asset_keys()}
    assert {"scores/llm_calls", "scores/llm_answers", "marts/run_costs"} <= keys
