"""Batches in the daily run: sent by one run, taken in by another, and never paid for twice."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from engagement_pipeline.defs.sensors import collect_batches
from engagement_pipeline.scoring.anthropic import batch_session
from engagement_pipeline.settings import Settings
from engagement_pipeline.terminal import daily, plan
from engagement_pipeline.terminal.daily import Outcome
from engagement_pipeline.terminal.running import dagster_instance
from tests.anthropic_api import AnthropicApi, Place
from tests.home import published, run_unpublished, tables
from tests.model_home import DAY, model_settings, use_model
from tests.varied_source import AS_OF, write_varied_source


@pytest.fixture
def api() -> Iterator[AnthropicApi]:
    with AnthropicApi(batch_polls=1) as server:
        yield server


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: AnthropicApi) -> Settings:
    home = tmp_path / "home"
    use_model(monkeypatch, api, home, classifier="anthropic-batch", batch_poll_seconds=0.05)
    # Waiting for a batch that was perhaps taken would make every test of it slow.
    monkeypatch.setattr(batch_session, "backoff_seconds", lambda *_: 0.01)
    return model_settings(home, write_varied_source(tmp_path / "source", orgs=3, members=30))


def _run(settings: Settings, *, waits: bool = True, as_of: datetime = AS_OF) -> Outcome:
    return daily.run(settings, as_of=as_of.isoformat(), org_ids=[], waits_for_batches=waits)


def _made(api: AnthropicApi) -> int:
    return len([r for r in api.requests_at(Place.BATCH_CREATE) if r.status == 200])


def _labelled(settings: Settings) -> int:
    return len(published(settings, "SELECT 1 FROM marts.member_engagement"))


def test_a_run_does_not_wait_and_leaves_what_is_published_as_it_was(
    settings: Settings, api: AnthropicApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _run(settings).failures == []
    before = tables(settings.published_path, "marts")["marts.member_engagement"]
    assert before["churn_probability"].null_count() == 0
    made = _made(api)
    monkeypatch.setenv("ENGAGEMENT_LABEL_MAX_AGE_DAYS", "0")
    assert _run(settings, waits=False, as_of=AS_OF + DAY).failures == []
    assert _made(api) == made + 1
    after = tables(settings.published_path, "marts")["marts.member_engagement"]
    # The last good labels, with their own as_of; who churns was predicted anew.
    assert after["churn_probability"].null_count() == 0
    assert after.drop("churn_probability").equals(before.drop("churn_probability"))
    now = model_settings(settings.home, settings.source_folder)
    found = plan.plan(now, as_of=(AS_OF + DAY).isoformat(), org_ids=[])
    assert found.waiting > 0 == found.calls


def test_the_sensor_starts_a_run_only_when_a_batch_has_been_answered(
    settings: Settings, api: AnthropicApi
) -> None:
    with dagster_instance(settings) as instance:
        assert isinstance(_tick(instance), dg.SkipReason)
    run_unpublished(settings, AS_OF, waits=False)
    with dagster_instance(settings) as instance:
        early = _tick(instance)
        assert isinstance(early, dg.SkipReason)
        assert "none of them has been answered" in str(early.skip_message)
        request = _tick(instance)
        assert isinstance(request, dg.RunRequest)
    assert run_unpublished(settings, AS_OF, waits=False).failures == []
    with dagster_instance(settings) as instance:
        skipped = _tick(instance)
    assert isinstance(skipped, dg.SkipReason)
    assert skipped.skip_message == "no batch is out"
    assert _made(api) == 1


def _tick(instance: dg.DagsterInstance) -> object:
    with dg.build_sensor_context(instance=instance) as context:
        return collect_batches(context)


def test_a_wait_of_days_starts_no_more_than_a_run_an_hour(
    settings: Settings,
) -> None:
    run_unpublished(settings, AS_OF, waits=False)
    with dagster_instance(settings) as instance:
        _tick(instance)
        keys = {_tick(instance).run_key for _ in range(3)}  # type: ignore[attr-defined]
    assert len(keys) <= 2  # the clock may pass the hour
    assert all(datetime.now(UTC).strftime("%Y-%m-%d") in str(key) for key in keys)
