"""Batches: made once, found again when lost, taken in whatever comes back, never paid for twice."""

from collections.abc import Callable, Iterator
from pathlib import Path

import anthropic
import duckdb
import pytest

from engagement_pipeline.scoring.anthropic import batch_session
from engagement_pipeline.scoring.anthropic.budget import CostRefusedError
from engagement_pipeline.scoring.anthropic.sending import StopRunError
from engagement_pipeline.settings import Settings
from tests.anthropic_api import AnthropicApi, Fault, Place
from tests.asked_home import Asked, ask_and_label, copy_home
from tests.home import stored
from tests.model_home import model_settings, use_model
from tests.varied_source import org_id, org_name

MEMBERS = 90


@pytest.fixture
def api() -> Iterator[AnthropicApi]:
    with AnthropicApi(batch_polls=0) as server:
        yield server


@pytest.fixture
def settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: AnthropicApi, varied_home: Path
) -> Settings:
    home = copy_home(varied_home, tmp_path / "home")
    use_model(monkeypatch, api, home, classifier="anthropic-batch")
    # Waiting for a batch that was perhaps taken would make every test of it slow.
    monkeypatch.setattr(batch_session, "backoff_seconds", lambda *_: 0.01)
    return model_settings(home, tmp_path)


@pytest.fixture
def run(settings: Settings) -> Callable[[], Asked]:
    """One run after the other, each with an id of its own."""
    runs = iter(range(100))
    return lambda: ask_and_label(settings, f"run{next(runs)}")


Run = Callable[[], Asked]


def _made(api: AnthropicApi) -> int:
    return len([r for r in api.requests_at(Place.BATCH_CREATE) if r.status == 200])


def _value(settings: Settings, sql: str) -> object:
    return stored(settings, sql)[0][0]


def _forget_the_batch(settings: Settings) -> None:
    """As a run leaves it that is killed before it could note that the batch was taken."""
    with duckdb.connect(str(settings.warehouse_path)) as connection:
        connection.execute(
            "UPDATE scores.llm_batches SET state = 'creating', batch_id = NULL, "
            "created_at = created_at - INTERVAL 5 MINUTE"
        )


def test_one_batch_at_half_the_price_labels_everybody(
    run: Run, settings: Settings, api: AnthropicApi
) -> None:
    first = run()
    assert first.rows.is_empty()
    assert first.labels.waiting == {org_id(org) for org in range(3)}
    assert run().rows.height == MEMBERS
    assert _made(api) == 1
    assert api.messages == []
    spent = _value(settings, "SELECT sum(spent_usd) FROM scores.llm_calls")
    assert spent == pytest.approx(api.billed_usd)
    usage = api.totals.usage
    assert spent == pytest.approx((usage.input + 5 * usage.output) / 2e6)
    assert stored(settings, "SELECT DISTINCT state FROM scores.llm_batches") == [("collected",)]


def test_what_is_out_is_not_sent_again(run: Run, api: AnthropicApi) -> None:
    api.misbehave(Fault.SERVER_ERROR, times=2, at=Place.BATCH_RETRIEVE)  # no news of it
    for _ in range(3):
        assert run().rows.is_empty()
    assert run().rows.height == MEMBERS
    assert _made(api) == 1


@pytest.mark.parametrize(
    "fault", [Fault.BATCH_LOST_RESET, Fault.BATCH_LOST_500, Fault.BATCH_LOST_504]
)
def test_a_batch_whose_acceptance_was_lost_is_found_and_not_made_again(
    run: Run, api: AnthropicApi, fault: Fault
) -> None:
    api.misbehave(fault)
    run()
    assert run().rows.height == MEMBERS
    assert len(api.requests_at(Place.BATCH_CREATE)) == 1


def test_a_batch_that_was_surely_refused_is_made_again(run: Run, api: AnthropicApi) -> None:
    api.misbehave(Fault.OVERLOADED, times=2, at=Place.BATCH_CREATE)
    run()
    assert run().rows.height == MEMBERS
    assert _made(api) == 1
    assert len(api.requests_at(Place.BATCH_CREATE)) == 3


def test_a_refused_key_stops_the_run_and_leaves_no_batch_to_look_for(
    run: Run, settings: Settings, api: AnthropicApi
) -> None:
    api.misbehave(Fault.UNAUTHORIZED, at=Place.BATCH_CREATE)
    with pytest.raises(StopRunError, match="HTTP 401"):
        run()
    assert stored(settings, "SELECT state FROM scores.llm_batches") == [("failed",)]
    run()
    assert run().rows.height == MEMBERS
    assert _made(api) == 1


def test_where_it_cannot_be_told_whether_a_batch_was_taken_nothing_is_sent_again(
    run: Run, api: AnthropicApi
) -> None:
    api.misbehave(Fault.BATCH_LOST_500)
    api.misbehave(Fault.SERVER_ERROR, times=3, at=Place.BATCH_LIST)
    failed = run().failed
    assert failed.keys() == {org_id(org) for org in range(3)}
    assert "it cannot be told whether a batch was taken" in failed[org_id(0)]
    run()
    assert run().rows.height == MEMBERS
    assert len(api.requests_at(Place.BATCH_CREATE)) == 1


def test_a_run_killed_between_making_a_batch_and_noting_it_finds_it_again(
    run: Run, settings: Settings, api: AnthropicApi
) -> None:
    run()
    _forget_the_batch(settings)
    assert run().rows.height == MEMBERS
    assert len(api.requests_at(Place.BATCH_CREATE)) == 1


def test_a_run_killed_before_a_batch_reached_the_api_sends_it_then(
    run: Run, settings: Settings, api: AnthropicApi
) -> None:
    run()
    api.reset()  # as if the batch had never come
    _forget_the_batch(settings)
    assert run().rows.height == MEMBERS
    assert _made(api) == 1


def test_somebody_elses_batch_of_the_same_size_is_not_taken_for_ours(
    run: Run, settings: Settings, api: AnthropicApi
) -> None:
    run()
    requests = api.requests_at(Place.BATCH_CREATE)[0].body["requests"]
    strangers = [{**request, "custom_id": f"stranger-{n}"} for n, request in enumerate(requests)]
    api.reset()  # the stranger's is there, ours was never made
    with anthropic.Anthropic(api_key=api.key, base_url=api.base_url, max_retries=0) as client:
        client.messages.batches.create(requests=strangers)
    _forget_the_batch(settings)
    assert run().rows.is_empty()
    assert run().rows.height == MEMBERS
    states = stored(settings, "SELECT state FROM scores.llm_batches ORDER BY 1")
    assert states == [("collected",), ("foreign",)]
    assert _made(api) == 2


@pytest.mark.parametrize(
    "fault",
    [
        Fault.BATCH_EXPIRED,
        Fault.BATCH_EXPIRED_IN_PART,
        Fault.BATCH_FAILED,
        Fault.ITEM_API_ERROR,
        Fault.ITEM_CANCELED,
        Fault.ITEM_EXPIRED,
    ],
)
def test_requests_that_came_back_unanswered_go_into_another_batch(
    run: Run, settings: Settings, api: AnthropicApi, fault: Fault
) -> None:
    api.misbehave(fault)
    for _ in range(2):
        run()
    assert run().rows.height == MEMBERS
    assert _made(api) == 2
    spent = _value(settings, "SELECT sum(spent_usd) FROM scores.llm_calls")
    assert spent == pytest.approx(api.billed_usd)


def test_batches_that_bring_nothing_again_and_again_fail_their_organisations(
    run: Run, api: AnthropicApi, settings: Settings
) -> None:
    assert settings.max_attempts == 8
    api.misbehave(Fault.BATCH_EXPIRED, times=100)
    for _ in range(8):
        assert run().failed == {}
    assert run().failed == {org_id(org): "8 batches brought no answer" for org in range(3)}
    assert _made(api) == 8


def test_a_request_that_the_api_refuses_fails_its_organisation_alone(
    run: Run, api: AnthropicApi
) -> None:
    api.misbehave(Fault.ITEM_INVALID, times=10, when=lambda body: org_name(1) in str(body))
    run()
    found = run()
    assert found.failed.keys() == {org_id(1)}
    assert "the API refuses what was asked" in found.failed[org_id(1)]
    assert found.rows.height == MEMBERS * 2 // 3


@pytest.mark.parametrize("fault", [Fault.ROW_MISSING, Fault.DIGITS, Fault.MAX_TOKENS])
def test_rows_that_were_answered_badly_are_asked_again_at_once(
    run: Run, api: AnthropicApi, fault: Fault
) -> None:
    api.misbehave(fault, at=Place.BATCH_ITEM)
    run()
    found = run()
    assert found.rows.height == MEMBERS
    assert found.rows["source"].unique().to_list() == ["llm"]
    assert _made(api) == 1
    assert 1 <= len(api.messages) <= 3


def test_results_that_break_off_are_fetched_again_and_no_answer_is_lost(
    run: Run, api: AnthropicApi
) -> None:
    api.misbehave(Fault.RESULTS_CUT, times=2)
    run()
    assert run().rows.height == MEMBERS
    assert len(api.requests_at(Place.BATCH_RESULTS)) == 3
    assert _made(api) == 1
    assert api.messages == []


def test_results_that_keep_breaking_off_fail_the_run_and_the_next_takes_the_rest(
    run: Run, settings: Settings, api: AnthropicApi
) -> None:
    api.misbehave(Fault.RESULTS_CUT, times=3)
    run()
    failed = run().failed
    assert failed
    assert all("cannot be read, in 3 downloads" in why for why in failed.values())
    kept = _value(settings, "SELECT count(*) FROM scores.llm_answers")
    assert isinstance(kept, int)
    assert kept > 0
    assert run().rows.height == MEMBERS
    assert _made(api) == 1


def test_results_elsewhere_than_at_the_api_are_never_fetched(run: Run, api: AnthropicApi) -> None:
    api.misbehave(Fault.RESULTS_ELSEWHERE, times=100)
    run()
    failed = run().failed
    assert failed.keys() == {org_id(org) for org in range(3)}
    assert "nothing was fetched, since the key would go along" in failed[org_id(0)]
    assert not any(request.is_foreign for request in api.requests)
    assert api.requests_at(Place.BATCH_RESULTS) == []


def test_a_batch_in_trouble_holds_up_only_those_whose_answers_are_in_it(
    run: Run, settings: Settings, api: AnthropicApi
) -> None:
    run()
    run()
    with duckdb.connect(str(settings.warehouse_path)) as connection:
        connection.execute("DELETE FROM scores.llm_answers WHERE org_id = ?", [org_id(1)])
    api.misbehave(Fault.RESULTS_ELSEWHERE, times=100)
    assert run().labels.waiting == {org_id(1)}
    found = run()
    assert found.failed.keys() == {org_id(1)}
    assert found.rows.height == MEMBERS * 2 // 3


def test_a_batch_asked_of_another_model_than_is_set_now_is_taken_in_as_it_was_asked(
    run: Run, settings: Settings, api: AnthropicApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    monkeypatch.setenv("ENGAGEMENT_MODEL", "claude-haiku-5-5")
    monkeypatch.setenv("ENGAGEMENT_OUTPUT_MODE", "json")
    ask_and_label(model_settings(settings.home, settings.source_folder), "other")
    spent = _value(
        settings, "SELECT sum(spent_usd) FROM scores.llm_calls WHERE outcome <> 'pending'"
    )
    usage = api.requests_at(Place.BATCH_ITEM)
    billed = sum(item.usd for item in usage if item.body["model"].startswith("claude-haiku-4"))
    assert spent == pytest.approx(billed)
    assert api.messages == []  # nothing had to be mended


def test_a_lost_batch_whose_organisation_was_renamed_since_is_not_sent_as_it_was(
    run: Run, settings: Settings, api: AnthropicApi
) -> None:
    run()
    api.reset()
    _forget_the_batch(settings)
    with duckdb.connect(str(settings.warehouse_path)) as connection:
        connection.execute("UPDATE raw.organizations SET name = 'Renamed'")
    run()
    assert run().rows.height == MEMBERS
    sent = str(api.requests_at(Place.BATCH_CREATE)[0].body)
    assert "Renamed" in sent
    assert "Society" not in sent


def test_what_a_batch_asks_carries_nobodys_id(run: Run, api: AnthropicApi) -> None:
    run()
    (batch,) = api.requests_at(Place.BATCH_CREATE)
    assert "membertoken" not in str(batch.body)
    assert "orgid" not in str(batch.body)
    for request in batch.body["requests"]:
        assert sum(f"orgtoken{org:04d}" in str(request) for org in range(3)) == 1


def test_a_batch_over_the_budget_is_refused_before_it_is_sent(
    api: AnthropicApi, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setenv("ENGAGEMENT_MAX_COST_USD", "0.0001")
    with pytest.raises(CostRefusedError, match="nothing was sent"):
        ask_and_label(model_settings(settings.home, settings.source_folder), "run")
    assert api.requests == []


def test_what_is_out_in_a_batch_is_not_asked_call_by_call_meanwhile(
    run: Run, settings: Settings, api: AnthropicApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.misbehave(Fault.SERVER_ERROR, times=1, at=Place.BATCH_RETRIEVE)  # no news of it
    run()
    monkeypatch.setenv("ENGAGEMENT_CLASSIFIER", "anthropic")
    direct = model_settings(settings.home, settings.source_folder)
    assert ask_and_label(direct, "direct").labels.waiting == {org_id(org) for org in range(3)}
    assert api.messages == []
    assert ask_and_label(direct, "later").rows.height == MEMBERS
    assert api.messages == []
    assert _made(api) == 1


def test_organisations_that_were_never_asked_do_not_pay_for_others_batches(
    settings: Settings, api: AnthropicApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGAGEMENT_MAX_ATTEMPTS", "2")
    bold = model_settings(settings.home, settings.source_folder)
    for number in range(3):  # each run sends one organisation's, and takes in the one before
        asked = ask_and_label(bold, f"run{number}", only={org_id(number)})
        assert asked.failed == {}
    assert _made(api) == 3


def test_a_refused_batch_counts_as_no_try(
    run: Run, api: AnthropicApi, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setenv("ENGAGEMENT_MAX_ATTEMPTS", "1")
    bold = model_settings(settings.home, settings.source_folder)
    api.misbehave(Fault.UNAUTHORIZED, times=3, at=Place.BATCH_CREATE)
    for number in range(3):
        with pytest.raises(StopRunError):
            ask_and_label(bold, f"run{number}")
    assert run().failed == {}


def test_odd_ends_of_lines_within_a_result_part_nothing(run: Run, api: AnthropicApi) -> None:
    api.misbehave(Fault.TOO_LONG, at=Place.BATCH_ITEM, text="long \u2028 \x85 \x0b text " * 30)
    run()
    assert run().rows.height == MEMBERS


def test_results_that_are_gone_are_asked_anew(
    run: Run, settings: Settings, api: AnthropicApi
) -> None:
    run()
    api.misbehave(Fault.NOT_FOUND, at=Place.BATCH_RESULTS)
    run()
    assert stored(settings, "SELECT state FROM scores.llm_batches ORDER BY 1") == [
        ("collected",),
        ("in_progress",),
    ]
    uncertain = _value(
        settings, "SELECT sum(spent_usd) FROM scores.llm_calls WHERE NOT is_spent_certain"
    )
    assert isinstance(uncertain, float)
    assert uncertain > 0
    assert run().rows.height == MEMBERS


def test_calls_in_the_words_of_an_older_version_stop_nobody(run: Run, settings: Settings) -> None:
    run()
    with duckdb.connect(str(settings.warehouse_path)) as connection:
        connection.execute("UPDATE scores.llm_calls SET asked = replace(asked, ' =\"', ' older\"')")
    for _ in range(2):
        found = run()
    assert found.rows.height == MEMBERS


def test_no_two_calls_of_a_run_that_mends_and_asks_have_one_name(
    settings: Settings, api: AnthropicApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.misbehave(Fault.DIGITS, at=Place.BATCH_ITEM, rows=None)
    ask_and_label(settings, "first", only={org_id(0)})
    monkeypatch.setenv("ENGAGEMENT_CLASSIFIER", "anthropic")
    direct = model_settings(settings.home, settings.source_folder)
    assert ask_and_label(direct, "both").rows.height == MEMBERS
    names = stored(settings, "SELECT call_id FROM scores.llm_calls WHERE run_id = 'both'")
    assert len(names) == len(set(names)) == len(api.messages)
    orgs = stored(settings, "SELECT DISTINCT org_id FROM scores.llm_calls WHERE run_id = 'both'")
    assert len(orgs) == 3  # one mended, two asked
