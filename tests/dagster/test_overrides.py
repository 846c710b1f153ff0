"""An admin's decision, from the terminal to the published file."""

from engagement_pipeline.terminal import daily
from tests.dagster.conftest import Pipeline
from tests.home import published, run_pipeline, run_unpublished, stored
from tests.small_source import ADMIN, AS_OF

_MEMBER = {"org_id": "choir", "user_id": "lost", "notes": "moved away", "performed_by": ADMIN}


_AT_AS_OF = {"performed_at": AS_OF.isoformat()}
_TWO_HOURS_LATER = {"performed_at": AS_OF.replace(hour=6).isoformat()}
_NOW: dict[str, str] = {}  # the default, as `engagement override` leaves it out


def _set(pipeline: Pipeline, when: dict[str, str] = _AT_AS_OF, **given: str) -> daily.Outcome:
    config = {**_MEMBER, "level": "inactive", **when, **given}
    return daily.override(
        pipeline.settings, "override_engagement", "set_override", config, is_verbose=False
    )


def _clear(pipeline: Pipeline, when: dict[str, str] = _TWO_HOURS_LATER) -> daily.Outcome:
    config = {**_MEMBER, **when}
    return daily.override(
        pipeline.settings, "clear_override", "remove_override", config, is_verbose=False
    )


def _shown(pipeline: Pipeline) -> list[tuple[object, ...]]:
    return published(
        pipeline.settings,
        "SELECT effective_level, computed_level, is_overridden, user_label "
        "FROM marts.member_engagement WHERE org_id = 'choir' AND user_id = 'lost'",
    )


def test_an_override_is_published_at_once_and_a_clear_takes_it_back(ran: Pipeline) -> None:
    assert _shown(ran) == [("at_risk", "at_risk", False, "Reconnecting")]
    assert _set(ran).failures == []
    assert _shown(ran) == [("inactive", "at_risk", True, "Taking a break")]
    # Cleared later than the moment shown, but decided since: it shows at once, and stays.
    assert _clear(ran).failures == []
    assert _shown(ran) == [("at_risk", "at_risk", False, "Reconnecting")]
    assert run_pipeline(ran.settings, AS_OF.replace(hour=8)).failures == []
    assert _shown(ran) == [("at_risk", "at_risk", False, "Reconnecting")]
    history = stored(
        ran.settings,
        "SELECT action, previous_level, new_level, performed_by FROM scores.override_history "
        "ORDER BY performed_at",
    )
    assert history == [
        ("override", "at_risk", "inactive", ADMIN),
        ("clear", "inactive", "at_risk", ADMIN),
    ]


def test_a_decision_of_now_is_published_at_once(ran: Pipeline) -> None:
    assert _set(ran, _NOW).failures == []
    assert _shown(ran) == [("inactive", "at_risk", True, "Taking a break")]
    assert _clear(ran, _NOW).failures == []
    assert _shown(ran) == [("at_risk", "at_risk", False, "Reconnecting")]


def test_a_later_run_of_a_past_moment_shows_the_overrides_of_that_moment(
    ran: Pipeline,
) -> None:
    _set(ran, _NOW)
    ran.run()
    assert _shown(ran) == [("at_risk", "at_risk", False, "Reconnecting")]


def test_a_request_that_is_not_an_admins_is_rejected_with_its_reason(ran: Pipeline) -> None:
    outcome = _set(ran, performed_by="keen")
    assert any("not_an_admin" in failure for failure in outcome.failures)
    assert [job.job_name for job in outcome.jobs] == ["override_engagement"]
    assert stored(ran.settings, "SELECT count(*) FROM scores.override_history") == [(0,)]
    rejects = stored(ran.settings, "SELECT table_name, path, reason FROM raw.rejects")
    assert rejects == [("override_requests", "cli", "not_an_admin")]


def test_an_override_expires_by_itself_once(ran: Pipeline) -> None:
    expires = AS_OF.replace(day=3)
    assert _set(ran, expires_at=expires.isoformat()).failures == []
    for day in (5, 5):
        assert run_unpublished(ran.settings, AS_OF.replace(day=day)).failures == []
    assert run_pipeline(ran.settings, AS_OF.replace(day=6)).failures == []
    history = stored(
        ran.settings,
        "SELECT action, performed_by, performed_at FROM scores.override_history "
        "ORDER BY performed_at",
    )
    assert history == [("override", ADMIN, AS_OF), ("expire", "system", expires)]
    assert _shown(ran)[0][2] is False


def test_an_override_without_expiry_is_stale_after_ninety_days(ran: Pipeline) -> None:
    assert _set(ran).failures == []
    ran.run()  # of the same moment again: else it is judged at the clock's
    sql = (
        "SELECT is_stale_override FROM marts.member_engagement "
        "WHERE org_id = 'choir' AND user_id = 'lost'"
    )
    assert published(ran.settings, sql) == [(False,)]
    run_pipeline(ran.settings, AS_OF.replace(month=6))
    assert published(ran.settings, sql) == [(True,)]
