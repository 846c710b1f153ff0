"""A cycle of outreach on a real warehouse: who is decided on how, and what is planned for whom."""

import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from engagement_pipeline.contracts import contract
from engagement_pipeline.defs.outreach_occasional import (
    UnknownMemberError,
    plan_celebrations,
    plan_manual,
)
from engagement_pipeline.outreach.planning import StaleSignalsError
from engagement_pipeline.outreach.templates import catalogue
from engagement_pipeline.outreach.wording import Wording
from engagement_pipeline.scoring.due import UnknownOrgError
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse import outreach_members
from tests.outreach_home import (
    DAY,
    HOUR,
    LOG,
    NOW,
    World,
    close_all,
    connection_of,
    cycle,
    everything,
    execute,
    messages,
    outreach_settings,
    rows_of,
    someone_held_out,
)

SECOND = timedelta(seconds=1)


@pytest.fixture(autouse=True)
def _closed_in_the_end() -> Iterator[None]:
    yield
    close_all()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return outreach_settings(tmp_path / "home")


def _decisions(settings: Settings) -> dict[tuple[str, str], tuple[Any, ...]]:
    """(organisation, member) -> segment, tone and reason."""
    rows = rows_of(settings, "SELECT * FROM outreach.decisions")
    return {(r["org_id"], r["user_id"]): (r["segment"], r["tone"], r["reason"]) for r in rows}


def _planned(settings: Settings) -> dict[str, list[tuple[str, str]]]:
    """Member -> trigger and occasion of what is planned, the first to go first."""
    found: dict[str, list[tuple[str, str]]] = {}
    for row in messages(settings):
        found.setdefault(row["user_id"], []).append((row["trigger"], row["occasion"]))
    return found


# --- Decisions.


def test_each_member_is_decided_on_for_the_reason_that_is_theirs(tmp_path: Path) -> None:
    settings = outreach_settings(tmp_path / "home", holdout_share=0.05, daily_cap=2)
    held = someone_held_out(settings, "choir")
    world = (
        World("choir")
        .member("choir", "away", absent=3 * DAY)
        .member("choir", "quiet", absent=3 * DAY - SECOND)
        .member("choir", "young", absent=None, here_for=HOUR + SECOND)
        .member("choir", "younger", absent=None, here_for=HOUR)
        .member("choir", "here", absent=DAY)
        .member("choir", "no-mail")
        .member("choir", held)
        .member("choir", "forgotten")
        .member("choir", "just-told")
        .member("choir", "told-twice")
        .member("choir", "told-yesterday")
        .preference("no-mail", opted_out=True)
        .add("raw.erasure_requests", user_id="forgotten", requested_at=NOW)
        .message("choir", "just-told", at=NOW - 23 * HOUR)
        .message("choir", "told-yesterday", at=NOW - DAY)
    )
    world.put(settings)
    cycle(settings)
    assert _decisions(settings) == {
        ("choir", "away"): ("dormant", "playful", None),
        ("choir", "quiet"): ("normal", "neutral", None),
        ("choir", "young"): ("new_user", "warm", None),
        ("choir", "younger"): (None, None, "active"),
        ("choir", "here"): (None, None, "active"),
        ("choir", "no-mail"): (None, None, "opted_out"),
        ("choir", held): (None, None, "held_out"),
        ("choir", "forgotten"): (None, None, "erased"),
        ("choir", "just-told"): (None, None, "recently_messaged"),
        ("choir", "told-twice"): ("dormant", "playful", None),
        ("choir", "told-yesterday"): ("dormant", "playful", None),
    }


def test_what_is_counted_is_what_was_decided(settings: Settings) -> None:
    world = World("choir", "garden")
    for number in range(5):
        world.member("choir", f"away-{number}")
        world.member("garden", f"here-{number}", absent=HOUR)
    world.put(settings)
    outcome = cycle(settings)
    counted = rows_of(settings, "SELECT * FROM outreach.cycles ORDER BY org_id")
    assert [(r["org_id"], r["total"], r["dormant"], r["active"]) for r in counted] == [
        ("choir", 5, 5, 0),
        ("garden", 5, 0, 5),
    ]
    assert [r["messages"] for r in counted] == [5, 0]
    assert outcome.stats.total == 10
    assert outcome.messages == {"re_engagement": 5}


def test_an_opt_out_of_one_organisation_leaves_the_others(settings: Settings) -> None:
    world = World("choir", "garden")
    for org_id in ("choir", "garden"):
        world.member(org_id, "picky").member(org_id, "done")
    # The newer row of the two does not take the other's word back.
    world.preference("picky", "choir", opted_out=True, updated_at=NOW - 20 * DAY)
    world.preference("picky", opted_out=False, updated_at=NOW - DAY)
    world.preference("done", opted_out=True, updated_at=NOW - 20 * DAY)
    world.preference("done", "garden", opted_out=False, updated_at=NOW - DAY)
    world.put(settings)
    cycle(settings)
    assert {pair: found[2] for pair, found in _decisions(settings).items()} == {
        ("choir", "picky"): "opted_out",
        ("choir", "done"): "opted_out",
        ("garden", "picky"): None,
        ("garden", "done"): "opted_out",
    }


def test_what_came_later_is_not_known(settings: Settings) -> None:
    later = NOW + SECOND
    world = (
        World("choir")
        .member("choir", "opts-out")
        .preference("opts-out", opted_out=True, updated_at=later)
        .member("choir", "asks")
        .add("raw.erasure_requests", user_id="asks", requested_at=later)
        .member("choir", "joins", here_for=-SECOND)
        .member("choir", "told")
        .message("choir", "told", at=later)
        .member("choir", "leaves")
        .profile("leaves", created_at=later)
    )
    world.rows["raw.memberships"][-1]["left_at"] = later
    world.put(settings)
    cycle(settings)
    assert set(_decisions(settings).values()) == {("dormant", "playful", None)}
    assert {user for _, user in _decisions(settings)} == {"opts-out", "asks", "told", "leaves"}
    # But what goes later counts for what is planned beside it.
    assert "told" not in _planned(settings)


def test_who_left_is_not_decided_on(settings: Settings) -> None:
    world = World("choir").member("choir", "gone").member("choir", "there")
    world.rows["raw.memberships"][0]["left_at"] = NOW
    world.member("lost-org", "nobody").put(settings)
    cycle(settings)
    assert list(_decisions(settings)) == [("choir", "there")]


def test_a_member_without_signals_counts_from_the_accounts_creation(settings: Settings) -> None:
    world = World("choir").member("choir", "since-joining", here_for=4 * DAY)
    world.member("choir", "older-account", here_for=HOUR)
    world.profile("older-account", created_at=NOW - 10 * DAY)
    del world.rows["signals.member_90d"]
    world.put(settings)
    cycle(settings)
    assert {found[0] for found in _decisions(settings).values()} == {"dormant"}


@pytest.mark.parametrize(
    ("signals_at", "told"),
    [
        (NOW - 48 * HOUR - SECOND, "2026-03-02 10:19 UTC"),
        (NOW + SECOND, "not known yet"),
        (None, "found none"),
    ],
)
def test_nobody_is_decided_on_by_signals_of_another_time(
    settings: Settings, signals_at: datetime | None, told: str
) -> None:
    world = World("choir", signals_at=signals_at or NOW).member("choir", "away")
    world.put(settings, has_signals=signals_at is not None)
    with pytest.raises(StaleSignalsError, match=told) as raised:
        cycle(settings)
    assert "2026-03-04 10:20 UTC" in str(raised.value)
    assert "engagement run" in str(raised.value)
    assert everything(settings) == {
        name: [] for name in ("decisions", "cycles", "messages", "withheld")
    }


def test_who_is_active_every_day_is_active_between_two_refreshes(settings: Settings) -> None:
    """Here every day at nine; refreshed at four, and decided on at three in the afternoon."""
    now = NOW.replace(hour=15, minute=0)
    world = World("choir", signals_at=now - 11 * HOUR).catalogue("first", "First Song")
    world.member("choir", "daily", absent=19 * HOUR)
    world.member("choir", "just-silent", absent=DAY + SECOND)
    world.member("choir", "just-dormant", absent=3 * DAY)
    world.member("choir", "almost-dormant", absent=3 * DAY - SECOND)
    world.member("choir", "called", absent=5 * DAY + SECOND)
    world.member("choir", "not-called", absent=5 * DAY)
    world.milestone("choir", "almost-dormant", "first", share=1.0, reached_at=NOW - HOUR)
    world.add(
        "raw.memberships",
        org_id="choir",
        user_id="joined-since",
        role="member",
        joined_at=now - 2 * HOUR,
    )
    world.put(settings)
    cycle(settings, now)
    assert {user_id: found for (_, user_id), found in _decisions(settings).items()} == {
        "daily": (None, None, "active"),
        "just-silent": ("normal", "neutral", None),
        "just-dormant": ("dormant", "playful", None),
        "almost-dormant": ("normal", "neutral", None),
        "called": ("dormant", "playful", None),
        "not-called": ("dormant", "playful", None),
        "joined-since": ("new_user", "warm", None),
    }
    # An occasion names the moment itself at which the member was last active.
    last = now - 11 * HOUR - 5 * DAY - SECOND
    assert _planned(settings) == {
        "almost-dormant": [("milestone_reached", "milestone_reached:first")],
        "called": [("absent", f"absent:5d:{last.isoformat()}")],
        "joined-since": [("new_member", "welcome")],
    }


def test_signals_of_just_the_oldest_age_are_gone_by(settings: Settings) -> None:
    World("choir", signals_at=NOW - 48 * HOUR).member("choir", "away").put(settings)
    assert cycle(settings).stats.eligible == 1


# --- What is planned.


def test_each_message_is_about_what_is_known_of_its_member(settings: Settings) -> None:
    world = World("choir").catalogue("first", "First Song").catalogue("near", "Hundred Songs")
    for user_id in ("leaving", "proud", "close", "less", "sad", "away", "came", "curious", "calm"):
        world.member("choir", user_id, absent=6 * DAY if user_id == "away" else 2 * DAY)
    world.member("choir", "young", absent=None, here_for=2 * HOUR)
    world.prediction("choir", "leaving", churn_probability=0.81)
    world.prediction("choir", "calm", churn_probability=0.99, churn_model="heuristic")
    world.prediction("choir", "sad", mood_now=-0.31)
    world.milestone("choir", "proud", "first", share=1.0, reached_at=NOW - 14 * DAY)
    world.milestone("choir", "close", "near", share=0.81)
    world.pattern("choir", "less", is_declining=True, top_types="message,voice")
    world.pattern("choir", "away", top_types="message,voice")
    world.pattern("choir", "came", top_types="message,voice")
    world.pattern("choir", "curious", top_types="message")
    world.add(
        "raw.events",
        event_id="e1",
        org_id="choir",
        title="Evening of Madrigals",
        starts_at=NOW - 3 * DAY,
    )
    world.add(
        "raw.attendance",
        org_id="choir",
        event_id="e1",
        user_id="came",
        status="attended",
        created_at=NOW - 3 * DAY,
    )
    world.put(settings)
    cycle(settings)
    last = "2026-03-02T04:20:00+00:00"
    assert _planned(settings) == {
        "leaving": [("churn", f"churn:{last}")],
        "proud": [("milestone_reached", "milestone_reached:first")],
        "close": [("milestone_near", "milestone_near:near")],
        "less": [("declining", "declining:2026-03")],
        "sad": [("low_mood", "low_mood:2026-03")],
        "young": [("new_member", "welcome")],
        "away": [("absent", "absent:5d:2026-02-26T04:20:00+00:00")],
        "came": [("topic", "topic:e1")],
        "curious": [("feature", "feature:voice")],
    }
    texts = {row["user_id"]: row["text"] for row in messages(settings)}
    assert all("{" not in text for text in texts.values())
    assert all(row["status"] == "scheduled" for row in messages(settings))


def test_a_message_goes_at_the_best_hour_outside_the_quiet_hours(settings: Settings) -> None:
    world = World("choir")
    for user_id in ("plain", "tokyo", "sleeper", "own-hours", "traveller"):
        world.member("choir", user_id)
    world.profile("tokyo", timezone="Asia/Tokyo")
    world.profile("sleeper", timezone="Asia/Tokyo")
    world.preference("sleeper", quiet_start="13:00", quiet_end="15:30")
    world.preference("own-hours", quiet_start="13:00", quiet_end="15:30")
    world.preference("own-hours", "choir", quiet_start="09:00", quiet_end="10:00")
    world.profile("traveller", timezone="Asia/Tokyo")
    world.prediction("choir", "traveller", timezone="America/New_York", best_hour=6)
    world.put(settings)
    cycle(settings)
    at = {row["user_id"]: row["send_at"].isoformat() for row in messages(settings)}
    assert at == {
        "plain": "2026-03-04T14:00:00+00:00",
        "tokyo": "2026-03-05T05:00:00+00:00",
        "sleeper": "2026-03-05T06:30:00+00:00",
        "own-hours": "2026-03-04T14:00:00+00:00",
        "traveller": "2026-03-04T13:00:00+00:00",  # the settings' quiet hours end at eight
    }


def test_the_settings_quiet_hours_are_for_who_set_none(tmp_path: Path) -> None:
    settings = outreach_settings(tmp_path / "home", quiet_start="12:00", quiet_end="18:00")
    world = World("choir").member("choir", "default").member("choir", "own")
    world.preference("own", quiet_start="01:00", quiet_end="02:00").put(settings)
    cycle(settings)
    assert [row["send_at"].hour for row in messages(settings)] == [18, 14]


def test_the_same_cycle_again_changes_nothing(settings: Settings) -> None:
    _crowd("choir", "garden").put(settings)
    first = cycle(settings)
    before = everything(settings)
    again = cycle(settings)
    assert everything(settings) == before
    assert first.added == len(before["messages"]) > 10
    assert (again.added, again.messages) == (0, first.messages)
    assert again.by_org == first.by_org


def test_a_later_cycle_says_nothing_twice(settings: Settings) -> None:
    _crowd("choir", "garden").put(settings)
    cycle(settings)
    planned = messages(settings)
    cycle(settings, NOW + HOUR)
    assert messages(settings) == planned
    # Nor when all has been sent, and the caps would allow another.
    execute(settings, "UPDATE outreach.messages SET status = 'sent', sent_at = send_at")
    cycle(settings, NOW + 41 * HOUR)
    said = [(r["user_id"], r["outreach_type"], r["occasion"]) for r in messages(settings)]
    assert len(said) == len(set(said))


def test_a_cancelled_message_may_have_another_and_a_failed_one_may_not(settings: Settings) -> None:
    world = World("choir").member("choir", "missed").member("choir", "broken")
    world.put(settings)
    cycle(settings)
    execute(
        settings,
        "UPDATE outreach.messages SET status = CASE WHEN user_id = 'missed' THEN 'cancelled' "
        "ELSE 'failed' END, reason = CASE WHEN user_id = 'missed' THEN 'missed_window' END",
    )
    cycle(settings, NOW + 6 * HOUR)
    found = [(r["user_id"], r["tries"], r["status"]) for r in messages(settings)]
    assert found == [
        ("broken", 0, "failed"),
        ("missed", 0, "cancelled"),
        ("missed", 1, "scheduled"),
    ]
    assert len({r["message_id"] for r in messages(settings)}) == 3


@pytest.mark.parametrize("outcome", ["timed_out", "connection_lost", "server_error", "refused"])
@pytest.mark.parametrize("status", ["scheduled", "cancelled", "failed"])
def test_what_may_have_reached_a_member_counts_whatever_became_of_it(
    settings: Settings, outcome: str, status: str
) -> None:
    is_doubtful = outcome != "refused"
    world = World("choir").member("choir", "told")
    cancelled = {"reason": "missed_window"} if status == "cancelled" else {}
    world.message(
        "choir",
        "told",
        at=NOW + 9 * DAY,
        planned_at=NOW - 2 * DAY,
        status=status,
        message_id="earlier:tried",
        outreach_type="re_engagement",
        occasion=f"absent:5d:{(world.signals_at - 6 * DAY).isoformat()}",
        reserved_at=None,
        sent_at=None,
        **cancelled,
    )
    for attempt, at in enumerate((NOW - 2 * DAY, NOW - 23 * HOUR)):
        world.add(
            "outreach.deliveries",
            message_id="earlier:tried",
            attempt=attempt + 1,
            channel="webhook",
            attempted_at=at,
            outcome=outcome,
        )
    world.put(settings)
    cycle(settings)
    reason = "recently_messaged" if is_doubtful else None
    assert _decisions(settings)["choir", "told"][2] == reason
    # And once the caps allow it nothing is said of the same again, but for what was cancelled and
    # surely did not get there.
    cycle(settings, NOW + 2 * HOUR)
    is_tried_again = status == "cancelled" and not is_doubtful
    assert [row["tries"] for row in messages(settings)] == [1] * is_tried_again


def test_decisions_are_kept_for_as_long_as_the_settings_say(settings: Settings) -> None:
    World("choir").member("choir", "away").put(settings)
    days = settings.decision_retention_days
    assert days == 7
    execute(
        settings,
        "INSERT INTO outreach.decisions BY NAME SELECT 'earlier' AS cycle_id, 'choir' AS org_id, "
        "d.name AS user_id, d.decided_at, true AS eligible, 'normal' AS segment, "
        "'neutral' AS tone, true AS is_target FROM (VALUES "
        f"('old', TIMESTAMPTZ '{(NOW - days * DAY - SECOND).isoformat()}'), "
        f"('kept', TIMESTAMPTZ '{(NOW - days * DAY).isoformat()}')) AS d(name, decided_at)",
    )
    before = everything(settings)
    cycle(settings, is_dry_run=True)
    assert everything(settings) == before
    cycle(settings)
    assert {user_id for _, user_id in _decisions(settings)} == {"kept", "away"}


def test_a_cycle_computed_again_in_another_world_keeps_the_caps(settings: Settings) -> None:
    world = World("choir").member("choir", "away").prediction("choir", "away")
    world.put(settings)
    cycle(settings)
    (planned,) = messages(settings)
    # Now there is something better to say, and at another hour.
    execute(
        settings,
        "UPDATE behavior.predictions SET churn_probability = 0.95, best_hour = 20",
    )
    outcome = cycle(settings)
    assert messages(settings) == [planned]
    assert outcome.stats.eligible == 1


def test_messages_planned_for_later_count_for_what_is_planned(settings: Settings) -> None:
    world = World("choir").member("choir", "told-later").member("choir", "told-much-later")
    world.message("choir", "told-later", at=NOW + 20 * HOUR, status="scheduled")
    # Fourteen o'clock is three hours and forty minutes off.
    much_later = NOW + 3 * HOUR + 40 * 60 * SECOND + 24 * HOUR
    world.message("choir", "told-much-later", at=much_later, status="scheduled")
    world.put(settings)
    outcome = cycle(settings)
    assert outcome.stats.eligible == 2
    assert set(_planned(settings)) == {"told-much-later"}


def test_caps_are_a_members_and_not_a_persons(settings: Settings) -> None:
    world = World("choir", "garden").member("choir", "both").member("garden", "both")
    world.message("garden", "both", at=NOW - HOUR).put(settings)
    cycle(settings)
    assert [row["org_id"] for row in messages(settings)] == ["choir"]


def test_a_message_that_may_have_left_counts_as_one_that_has(settings: Settings) -> None:
    world = World("choir").member("choir", "in-hand")
    world.message("choir", "in-hand", at=NOW - HOUR, status="reserved").put(settings)
    cycle(settings)
    assert _decisions(settings)["choir", "in-hand"][2] == "recently_messaged"


def test_nothing_is_planned_for_whom_the_channel_does_not_reach(settings: Settings) -> None:
    world = World("choir").member("choir", "unreachable").member("choir", "by-webhook")
    for user_id, channel in (("unreachable", "log"), ("by-webhook", "webhook")):
        world.add(
            "outreach.channel_opt_outs",
            org_id="choir",
            user_id=user_id,
            channel=channel,
            opted_out_at=NOW - DAY,
            message_id="earlier",
        )
    world.put(settings)
    outcome = cycle(settings)
    assert outcome.stats.eligible == 2
    assert set(_planned(settings)) == {"by-webhook"}


@pytest.mark.parametrize(
    ("org_id", "given", "is_reached"),
    [
        ("choir", {"updated_at": NOW - DAY + SECOND}, True),
        (None, {"updated_at": NOW}, True),
        (None, {"updated_at": NOW - DAY}, False),
        (None, {"updated_at": NOW + SECOND}, False),
        ("garden", {"updated_at": NOW}, False),
        ("garden", {"updated_at": NOW, "opted_out": True}, False),
    ],
)
def test_who_wants_messages_again_is_reached_for_again(
    settings: Settings, org_id: str | None, given: dict[str, Any], is_reached: bool
) -> None:
    world = World("choir", "garden").member("choir", "back")
    world.preference("back", org_id, **given)
    world.add(
        "outreach.channel_opt_outs",
        org_id="choir",
        user_id="back",
        channel="log",
        opted_out_at=NOW - DAY,
        message_id="earlier",
    )
    world.put(settings)
    cycle(settings)
    assert ("back" in _planned(settings)) is is_reached


@pytest.mark.parametrize(
    ("default", "own", "is_on"),
    [(1, "0", False), (1, None, True), (0, None, False), (0, "1", True)],
)
def test_without_gamification_no_milestone_is_spoken_of(
    tmp_path: Path, default: int, own: str | None, is_on: bool
) -> None:
    settings = outreach_settings(tmp_path / "home", gamification_enabled=default)
    world = World("choir").catalogue("first", "First Song").catalogue("near", "Hundred Songs")
    for user_id in ("proud", "close"):
        world.member("choir", user_id, absent=2 * DAY)
    world.milestone("choir", "proud", "first", share=1.0, reached_at=NOW - HOUR)
    world.milestone("choir", "close", "near", share=0.9)
    if own is not None:
        world.add("raw.org_settings", org_id="choir", setting="gamification_enabled", value=own)
    world.put(settings)
    assert _celebrate(settings).added == is_on
    cycle(settings)
    found = {"proud", "close"} if is_on else set()
    assert {row["user_id"] for row in messages(settings)} == found


def test_who_ever_used_a_feature_is_not_told_of_it(settings: Settings) -> None:
    world = World("choir")
    kinds = {"messages": "message", "voices": "voice", "inline_queries": "inline_query"}
    counts = [
        name
        for name in contract("milestones.daily").column_names
        if name not in ("org_id", "user_id", "day", "mean_quality", "mean_sentiment")
    ]
    for column, kind in kinds.items():
        for user_id in (f"new-to-{kind}", f"used-{kind}"):
            world.member("choir", user_id, absent=2 * DAY)
            others = ",".join(sorted(set(kinds.values()) - {kind}))
            world.pattern("choir", user_id, top_types=others)
        for user_id, used, day in (
            (f"used-{kind}", 1, NOW - 300 * DAY),
            (f"used-{kind}", 0, NOW - DAY),
            (f"new-to-{kind}", 0, NOW - DAY),
            (f"new-to-{kind}", 1, NOW + 2 * DAY),
        ):
            given = {**dict.fromkeys(counts, 0), column: used}
            world.add("milestones.daily", org_id="choir", user_id=user_id, day=day.date(), **given)
    world.put(settings)
    cycle(settings)
    assert _planned(settings) == {
        f"new-to-{kind}": [("feature", f"feature:{kind}")] for kind in kinds.values()
    }


def test_a_feature_is_the_commonest_that_a_quarter_use_and_the_member_does_not(
    settings: Settings,
) -> None:
    """Against a count of the same habits in plain Python."""
    dice = random.Random(5)
    kinds = ("message", "voice", "sticker", "reaction", "document")
    habits: dict[tuple[str, str], list[str]] = {}
    world = World("choir", "garden")
    for org_id in ("choir", "garden"):
        for number in range(40):
            user_id = f"m{number:02d}"
            used = dice.sample(kinds, dice.choice([0, 1, 2, 3]))
            habits[org_id, user_id] = used
            world.member(org_id, user_id, absent=2 * DAY)
            world.pattern(org_id, user_id, top_types=",".join(used) or None)
    world.put(settings)
    cycle(settings)
    expected = {}
    for (org_id, user_id), used in habits.items():
        theirs = [found for (org, _), found in habits.items() if org == org_id and found]
        users = {kind: sum(kind in found for found in theirs) for kind in kinds}
        common = [kind for kind in kinds if users[kind] >= len(theirs) / 4 and kind not in used]
        if used and common:
            best = min(common, key=lambda kind: (-users[kind], kind))
            expected[org_id, user_id] = f"feature:{best}"
    found = {(r["org_id"], r["user_id"]): r["occasion"] for r in messages(settings)}
    assert found == expected
    assert len(set(expected.values())) > 2


def test_predictions_of_long_ago_say_nothing_but_the_hour(settings: Settings) -> None:
    world = World("choir").member("choir", "was-leaving")
    world.prediction(
        "choir", "was-leaving", churn_probability=0.95, best_hour=20, as_of=NOW - 49 * HOUR
    )
    world.put(settings)
    cycle(settings)
    (row,) = messages(settings)
    assert (row["trigger"], row["send_at"].hour) == ("absent", 20)


# --- Order, slices and trouble.


def test_neither_slices_nor_the_order_of_rows_change_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, found = _crowd("choir", "garden"), []
    for place, slice_members in enumerate((outreach_members.SLICE_MEMBERS, 7)):
        monkeypatch.setattr(outreach_members, "SLICE_MEMBERS", slice_members)
        home = outreach_settings(tmp_path / str(place), holdout_share=0.2)
        cycle(world.put(home))
        found.append(everything(home))
        for rows in world.rows.values():
            random.Random(3).shuffle(rows)
    assert found[0] == found[1]
    assert all(found[0].values())


def _breaking(monkeypatch: pytest.MonkeyPatch, *org_ids: str) -> None:
    words: Callable[..., Any] = Wording.words

    def broken(self: Wording, org_id: str, *args: Any, **named: Any) -> Any:
        if org_id in org_ids:
            raise RuntimeError(f"no words for {org_id}")
        return words(self, org_id, *args, **named)

    monkeypatch.setattr(Wording, "words", broken)


def test_an_organisation_in_trouble_stops_no_other_and_nothing_of_it_stays(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    orgs = ("choir", "garden", "runners", "sailors", "writers")
    _crowd(*orgs).put(settings)
    monkeypatch.setattr(outreach_members, "SLICE_MEMBERS", 9)
    _breaking(monkeypatch, "garden", "writers")
    outcome = cycle(settings)
    fine = {"choir", "runners", "sailors"}
    assert outcome.failed == {
        org_id: f"RuntimeError: no words for {org_id}" for org_id in ("garden", "writers")
    }
    assert set(outcome.by_org) == fine
    for table, rows in everything(settings).items():
        assert {row["org_id"] for row in rows} == (set() if table == "withheld" else fine), table
    monkeypatch.undo()
    again = cycle(settings)
    assert again.failed == {}
    assert set(again.by_org) == set(orgs)


def test_an_organisations_trouble_does_not_change_what_others_get(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = _crowd("choir", "garden", "runners")
    whole, broken = (outreach_settings(tmp_path / name) for name in ("whole", "broken"))
    cycle(world.put(whole))
    _breaking(monkeypatch, "garden")
    cycle(world.put(broken))
    kept = {
        name: [row for row in rows if row["org_id"] != "garden"]
        for name, rows in everything(whole).items()
    }
    assert everything(broken) == kept


def test_only_the_organisations_that_are_asked_for_are_decided_on_anew(settings: Settings) -> None:
    _crowd("choir", "garden").put(settings)
    cycle(settings)
    before = everything(settings)
    execute(settings, "UPDATE signals.member_90d SET last_active_at = as_of")
    outcome = cycle(settings, org_ids=["garden"])
    assert outcome.stats.eligible == 0
    after = everything(settings)
    for name in ("decisions", "cycles"):
        theirs, others = (
            [
                [row for row in rows[name] if (row["org_id"] == "garden") == is_asked]
                for rows in (before, after)
            ]
            for is_asked in (True, False)
        )
        assert theirs[0] != theirs[1], name
        assert others[0] == others[1], name
    with pytest.raises(UnknownOrgError, match="choir, garden"):
        cycle(settings, org_ids=["nowhere"])


def test_a_dry_run_writes_nothing_and_shows_what_a_run_would_do(tmp_path: Path) -> None:
    settings = outreach_settings(tmp_path / "home", holdout_share=0.2)
    _crowd("choir", "garden").put(settings)
    nothing = everything(settings)
    shown = cycle(settings, is_dry_run=True)
    assert everything(settings) == nothing
    done = cycle(settings)
    after = everything(settings)
    assert shown.by_org == done.by_org
    assert shown.messages == done.messages
    assert sorted(one.message_id for one in shown.planned) == sorted(
        row["message_id"] for name in ("messages", "withheld") for row in after[name]
    )
    texts = {row["message_id"]: row["text"] for row in after["messages"]}
    assert {one.message_id: one.worded.text for one in shown.planned if one.worded} == texts
    (decisions,) = shown.decisions
    assert decisions.sort(decisions.columns).to_dicts() == after["decisions"]


# --- The holdout.


def test_nothing_is_ever_planned_for_who_is_held_out_but_it_is_known_what_would_be(
    tmp_path: Path,
) -> None:
    world = _crowd("choir", "garden")
    treated, held = (
        outreach_settings(tmp_path / str(share), holdout_share=share) for share in (0.0, 0.3)
    )
    cycle(world.put(treated))
    cycle(world.put(held))
    told, withheld = messages(held), everything(held)["withheld"]
    decided = {(r["org_id"], r["user_id"]): r for r in everything(held)["decisions"]}
    out = {pair for pair, row in decided.items() if row["reason"] == "held_out"}
    assert out
    assert not out & {(row["org_id"], row["user_id"]) for row in told}
    assert {(row["org_id"], row["user_id"]) for row in withheld} <= out
    # Members of the holdout are planned for just as if they were not.
    columns = withheld[0].keys()
    both = [{name: row[name] for name in columns} for row in told] + withheld
    all_told = [{name: row[name] for name in columns} for row in messages(treated)]
    by_id: Callable[[dict[str, Any]], str] = lambda row: row["message_id"]  # noqa: E731
    assert sorted(both, key=by_id) == sorted(all_told, key=by_id)
    targets = {pair for pair, row in decided.items() if row["is_target"]}
    eligible = {pair for pair, found in _decisions(treated).items() if found[2] is None}
    assert targets == eligible
    assert targets & out


def test_what_is_withheld_counts_for_the_caps_as_if_it_was_sent(tmp_path: Path) -> None:
    settings = outreach_settings(tmp_path / "home", holdout_share=0.3)
    held = someone_held_out(settings, "choir")
    World("choir").member("choir", held, absent=5 * DAY + HOUR).put(settings)
    cycle(settings, NOW + 5 * HOUR)
    (first,) = rows_of(settings, "SELECT * FROM outreach.withheld")
    assert first["send_at"] == datetime.fromisoformat("2026-03-05T14:00:00Z")
    before, after = NOW + 18 * HOUR, NOW + 28 * HOUR
    for as_of in (before, after):
        cycle(settings, as_of)
    rows = rows_of(settings, "SELECT * FROM outreach.decisions ORDER BY decided_at")
    assert [row["is_target"] for row in rows] == [True, True, False]
    assert {row["reason"] for row in rows} == {"held_out"}


# --- What was learned.


def _believing(world: World, org_id: str, template_id: str) -> World:
    return world.add(
        "loops.arm_posteriors",
        org_id=org_id,
        outreach_type="re_engagement",
        template_id=template_id,
        alpha=400.0,
        beta=2.0,
        n=400,
        computed_at=NOW - DAY,
        expires_at=NOW + DAY,
    )


def test_what_was_learned_of_templates_is_gone_by_and_that_is_written_down(tmp_path: Path) -> None:
    best = "re_engagement.playful.kettle"
    world = World("choir", "garden")
    for number in range(60):
        world.member("choir", f"m{number}").member("garden", f"m{number}")
    _believing(world, "choir", best)
    chosen = {}
    for is_on in (True, False):
        settings = outreach_settings(tmp_path / str(is_on), loops_enabled=is_on)
        cycle(world.put(settings))
        shares = rows_of(
            settings,
            f"SELECT org_id, avg((template_id = '{best}')::INT) AS n, max(propensity) AS p "
            "FROM outreach.messages GROUP BY org_id ORDER BY org_id",
        )
        chosen[is_on] = [row["n"] for row in shares]
        uses = rows_of(
            settings, "SELECT org_id, archetype, consumer, calibrations FROM loops.consumer_uses"
        )
        expected = {
            "org_id": "choir",
            "archetype": "ranking",
            "consumer": "template_choice",
            "calibrations": 60,
        }
        assert uses == ([expected] if is_on else [])
    assert chosen[True][0] > 0.85
    assert max(chosen[True][1], *chosen[False]) < 0.7


def test_a_models_words_take_the_place_of_ours_and_that_is_noted(settings: Settings) -> None:
    World("choir").member("choir", "sad", absent=2 * DAY).prediction(
        "choir", "sad", mood_now=-0.9
    ).put(settings)
    ours = [one.template_id for one in catalogue() if one.outreach_type == "mood_support"]
    cycle(settings, templates=catalogue().reworded(dict.fromkeys(ours, "We are here if you like.")))
    (row,) = messages(settings)
    assert (row["text"], row["is_rewritten"]) == ("We are here if you like.", True)


# --- Celebrations.


def _celebrate(settings: Settings, as_of: datetime = NOW) -> Any:
    return plan_celebrations(
        connection_of(settings), settings, as_of=as_of, computed_at=as_of, log=LOG
    )


def test_a_milestone_is_celebrated_once_also_with_who_is_active(tmp_path: Path) -> None:
    settings = outreach_settings(tmp_path / "home", holdout_share=0.05)
    held = someone_held_out(settings, "choir")
    world = World("choir").catalogue("first", "First Song").catalogue("next", "Second Song")
    for user_id in ("here", "away", "no-mail", "told", "close", held):
        world.member("choir", user_id, absent=5 * DAY if user_id == "away" else HOUR)
        reached = None if user_id == "close" else NOW - HOUR
        world.milestone("choir", user_id, "first", share=0.9, reached_at=reached)
    world.milestone("choir", "here", "next", share=1.0, reached_at=NOW - 15 * DAY)
    world.preference("no-mail", opted_out=True)
    world.message("choir", "told", at=NOW - HOUR)
    world.put(settings)
    outcome = _celebrate(settings)
    assert (outcome.added, outcome.withheld, outcome.failed) == (2, 1, {})
    found = {r["user_id"]: (r["tone"], r["engine"], r["occasion"]) for r in messages(settings)}
    assert found == {
        "away": ("playful", "milestones", "milestone_reached:first"),
        "here": ("neutral", "milestones", "milestone_reached:first"),
    }
    withheld = rows_of(settings, "SELECT user_id FROM outreach.withheld")
    assert withheld == [{"user_id": held}]
    assert _celebrate(settings).added == 0
    # A day later the caps allow it to who was told something else, and nobody is told again.
    assert [_celebrate(settings, NOW + DAY).added for _ in range(2)] == [1, 0]
    assert len({row["user_id"] for row in messages(settings)}) == len(messages(settings)) == 3


def test_where_nothing_is_to_be_celebrated_no_member_is_read(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    World("choir").member("choir", "here").put(settings)
    monkeypatch.setattr(outreach_members, "slices_of", None)
    assert _celebrate(settings).added == 0


def test_the_cycle_and_celebrations_share_the_caps(settings: Settings) -> None:
    world = World("choir").catalogue("first", "First Song").member("choir", "away")
    world.milestone("choir", "away", "first", share=1.0, reached_at=NOW - HOUR)
    world.put(settings)
    cycle(settings)
    _celebrate(settings)
    (row,) = messages(settings)
    assert (row["engine"], row["outreach_type"]) == ("engagement", "milestone_celebration")


# --- By hand.


def _ask(settings: Settings, user_id: str, org_id: str | None = None, **given: Any) -> Any:
    kind = given.pop("outreach_type", "personalized_checkin")
    return plan_manual(
        connection_of(settings),
        settings,
        user_id=user_id,
        org_id=org_id,
        outreach_type=kind,
        log=LOG,
        **{"as_of": NOW, **given},
    )


def test_a_message_by_hand_goes_to_all_of_a_persons_organisations_or_to_one(
    settings: Settings,
) -> None:
    world = World("choir", "garden").member("choir", "both", absent=HOUR).member("garden", "both")
    world.put(settings)
    assert [one.recipient.org_id for one in _ask(settings, "both", "garden").planned] == ["garden"]
    asked = _ask(settings, "both", as_of=NOW + HOUR)
    assert [one.recipient.org_id for one in asked.planned] == ["choir"]
    assert asked.refused == {"garden": "recently_messaged"}
    found = {(r["org_id"], r["engine"], r["trigger"], r["tone"]) for r in messages(settings)}
    assert found == {
        ("choir", "manual", "manual", "neutral"),
        ("garden", "manual", "manual", "playful"),
    }


def test_a_message_by_hand_is_refused_for_the_reason_that_holds(tmp_path: Path) -> None:
    settings = outreach_settings(tmp_path / "home", holdout_share=0.05)
    held = someone_held_out(settings, "choir")
    world = World("choir")
    for user_id in ("no-mail", "forgotten", "told", held):
        world.member("choir", user_id)
    world.preference("no-mail", opted_out=True)
    world.add("raw.erasure_requests", user_id="forgotten", requested_at=NOW - DAY)
    world.message("choir", "told", at=NOW - HOUR)
    world.put(settings)
    reasons = {
        user_id: _ask(settings, user_id).refused["choir"]
        for user_id in ("no-mail", "forgotten", "told", held)
    }
    assert reasons == {
        "no-mail": "opted_out",
        "forgotten": "erased",
        "told": "recently_messaged",
        held: "held_out",
    }
    assert messages(settings) == []
    assert rows_of(settings, "SELECT * FROM outreach.withheld") == []
    with pytest.raises(UnknownMemberError, match="'nobody'"):
        _ask(settings, "nobody")
    with pytest.raises(UnknownOrgError, match="choir"):
        _ask(settings, "told", "nowhere")
    with pytest.raises(ValueError, match="re_engagement"):
        _ask(settings, "told", outreach_type="spam")


def _crowd(*orgs: str) -> World:
    """Members of all sorts, by a seed of their own."""
    dice = random.Random(17)
    world = World(*orgs).catalogue("first", "First Song")
    for org_id in orgs:
        for number in range(25):
            user_id = f"{org_id}-{number:02d}"
            world.member(org_id, user_id, absent=dice.uniform(0.2, 40) * DAY)
            world.profile(
                user_id,
                display_name=f"Robin {user_id}",
                timezone=dice.choice(
                    ["Europe/Amsterdam", "America/New_York", "Nowhere/Else", None]
                ),
            )
            if dice.random() < 0.6:
                world.prediction(
                    org_id,
                    user_id,
                    churn_probability=dice.random(),
                    best_hour=dice.randrange(24),
                    mood_now=dice.choice([None, -0.8, 0.3]),
                )
            if dice.random() < 0.3:
                share = dice.choice([0.2, 0.9])
                world.milestone(org_id, user_id, "first", share=share)
            if dice.random() < 0.2:
                world.message(org_id, user_id, at=NOW - dice.uniform(1, 60) * HOUR)
            if dice.random() < 0.2:
                world.preference(user_id, opted_out=dice.random() < 0.5)
    return world
