"""What is planned for a member: within the caps, at the right time, whoever else there is."""

from datetime import UTC, datetime, timedelta
from itertools import combinations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.contracts import contract, vocabulary
from engagement_pipeline.outreach.candidates import MAX_PER_CYCLE
from engagement_pipeline.outreach.decision import MemberState
from engagement_pipeline.outreach.occasions import message_id
from engagement_pipeline.outreach.planning import (
    Candidate,
    Cycle,
    Planned,
    Recipient,
    StaleSignalsError,
    caps_reach,
    check_signals,
    evaluate_whether_active_or_not,
    message_rows,
    plan_member,
    withheld_rows,
)
from engagement_pipeline.outreach.policy import Policy
from engagement_pipeline.outreach.send_times import QuietHours, quiet_until
from engagement_pipeline.outreach.templates import Template, Templates, catalogue
from engagement_pipeline.outreach.wording import FEATURE_WORDS, Wording

NOW = datetime(2026, 3, 4, 10, 20, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
OFTEN = Policy(message_frequency_hours=0, min_gap_hours=0, daily_cap=10)
WORDING = Wording(catalogue(), arms=None, floor=0.05, seed=1)


def cycle_of(policy: Policy = OFTEN) -> Cycle:
    return Cycle("engagement", "engagement:now", NOW, policy)


def candidate(number: int = 0, kind: str = "re_engagement", tries: int = 0) -> Candidate:
    return Candidate(kind, "absent", f"absent:{number}", 0.6, tries)


def recipient(*times: datetime, **given: object) -> Recipient:
    known = {
        "org_id": "choir",
        "user_id": "ada",
        "segment": "dormant",
        "tone": "playful",
        "zone": "UTC",
        "best_hour": 14,
        "quiet": None,
        "times": times,
        "slots": (("name", "Ada"), ("org", "The Choir")),
    }
    return Recipient(**{**known, **given})  # type: ignore[arg-type]


def plan(who: Recipient, *said: Candidate, policy: Policy = OFTEN) -> list[Planned]:
    return plan_member(who, said, cycle_of(policy), WORDING)


# --- How much.


def test_no_more_than_two_messages_are_planned_in_a_cycle() -> None:
    planned = plan(recipient(), *(candidate(n) for n in range(5)))
    assert [one.candidate.occasion for one in planned] == ["absent:0", "absent:1"]


def test_a_message_that_was_just_planned_counts_for_the_next() -> None:
    assert len(plan(recipient(), candidate(0), candidate(1), policy=Policy())) == 1


def test_a_message_just_as_far_off_as_the_caps_demand_is_no_obstacle() -> None:
    at = NOW.replace(hour=14, minute=0)
    for sign in (-1, 1):
        near, far = (
            recipient(at + sign * (DAY - gap)) for gap in (timedelta(0), timedelta.resolution)
        )
        assert len(plan(near, candidate(), policy=Policy())) == 1
        assert plan(far, candidate(), policy=Policy()) == []


times = st.lists(
    st.integers(-72 * 60, 72 * 60).map(lambda m: NOW + timedelta(minutes=m)), max_size=6
)
policies = st.builds(
    Policy,
    message_frequency_hours=st.integers(0, 48),
    min_gap_hours=st.integers(0, 48),
    daily_cap=st.integers(0, 4),
)
zones = st.sampled_from(["UTC", "Asia/Tokyo", "America/New_York", "Nowhere/Else", None])
clocks = st.times().map(lambda at: at.replace(second=0, microsecond=0).strftime("%H:%M"))


@given(times, policies, zones, st.integers(0, 23), clocks, clocks, st.integers(0, 4))
def test_whatever_was_and_will_be_sent_what_is_planned_breaks_no_cap_and_no_quiet_hour(
    earlier: list[datetime],
    policy: Policy,
    zone: str | None,
    hour: int,
    start: str,
    end: str,
    said: int,
) -> None:
    quiet = QuietHours.of(start, end)
    who = recipient(*earlier, zone=zone, best_hour=hour, quiet=quiet)
    planned = plan(who, *(candidate(n) for n in range(said)), policy=policy)
    assert len(planned) <= min(MAX_PER_CYCLE, said)
    new = [one.send_at for one in planned]
    assert all(at >= NOW and quiet_until(at, zone, quiet) is None for at in new)
    for place, at in enumerate(new):
        others = earlier + new[:place]
        gap = timedelta(hours=max(policy.message_frequency_hours, policy.min_gap_hours))
        assert all(abs(other - at) >= gap for other in others)
        # No set of messages with this one in it is larger than the cap and within 24 hours.
        size = policy.daily_cap
        assert size
        for group in combinations(others, size):
            assert max(*group, at) - min(*group, at) >= DAY


# --- What and when.


def test_a_message_is_known_by_what_it_is_about_and_by_its_tries() -> None:
    (first,) = plan(recipient(), candidate())
    (again,) = plan(recipient(), candidate(tries=1))
    ids = [message_id("choir", "ada", "re_engagement", "absent:0", tries) for tries in (0, 1)]
    assert [first.message_id, again.message_id] == ids


def test_members_of_the_holdout_are_planned_for_alike_but_without_words() -> None:
    said = [candidate(n) for n in range(3)]
    treated, held = (plan(recipient(is_held_out=out), *said) for out in (False, True))
    assert [one[1:4] for one in treated] == [one[1:4] for one in held]
    assert all(one.worded for one in treated)
    assert not any(one.worded for one in held)
    assert message_rows(held, cycle_of()).is_empty()
    assert withheld_rows(treated, cycle_of()).is_empty()
    assert withheld_rows(held, cycle_of())["message_id"].to_list() == [m.message_id for m in held]


def test_what_the_same_cycle_planned_before_is_planned_again_at_its_time() -> None:
    (planned,) = plan(recipient(), candidate(), policy=Policy())
    standing = {planned.message_id: planned.send_at}
    # Though by now the member's best hour is another one.
    later = recipient(standing=standing, best_hour=20)
    (again,) = plan(later, candidate(), policy=Policy())
    assert (again.message_id, again.send_at) == (planned.message_id, planned.send_at)
    # What is new is looked at together with it.
    assert plan(later, candidate(1), policy=Policy()) == []


def test_rows_keep_their_contracts() -> None:
    planned = plan(recipient(), candidate()) + plan(recipient(is_held_out=True), candidate(1))
    told, withheld = message_rows(planned, cycle_of()), withheld_rows(planned, cycle_of())
    contract("outreach.messages").validate(told)
    contract("outreach.withheld").validate(withheld)
    assert told["status"].to_list() == ["scheduled"]
    assert (told.height, withheld.height) == (1, 1)
    for rows, name in ((message_rows([], cycle_of()), "messages"), (withheld[:0], "withheld")):
        contract(f"outreach.{name}").validate(rows)


# --- Words.


@pytest.mark.parametrize("kind", vocabulary.OUTREACH_TYPES)
@pytest.mark.parametrize("trigger", vocabulary.TRIGGERS)
@pytest.mark.parametrize("tone", vocabulary.TONES)
def test_there_are_words_for_whatever_there_is_to_say(kind: str, trigger: str, tone: str) -> None:
    for slots in ((), (("name", "Ada"), ("topic", "Madrigals"), ("feature", "voice"))):
        found = WORDING.words("choir", kind, trigger, tone, slots, key="m")
        assert "{" not in found.text
        assert 0 < found.propensity <= 1
        assert not found.is_learned


def test_what_a_member_should_not_read_is_not_known() -> None:
    texts = [
        WORDING.words(
            "choir", "re_engagement", "absent", "playful", (("name", name),), key=str(key)
        )
        for name in ("at risk", "https://x.example", "", None)
        for key in range(20)
    ]
    assert all("{" not in one.text and "at risk" not in one.text for one in texts)
    assert all("example" not in one.text for one in texts)


def test_kinds_of_interaction_have_words_of_their_own() -> None:
    assert set(FEATURE_WORDS) == set(vocabulary.INTERACTION_TYPES)
    one = Template("t", "feature_suggestion", "warm", "Perhaps you would enjoy {feature} too.")
    wording = Wording(Templates([one]), arms=None, floor=0.05, seed=1)
    found = wording.words(
        "o", "feature_suggestion", "feature", "warm", (("feature", "voice"),), key="m"
    )
    assert found.text == "Perhaps you would enjoy voice messages too."


def test_where_a_text_cannot_be_shown_another_template_is_chosen() -> None:
    texts = {"a": "Hello dis{name}, all is well.", "b": "Hello there, all is well."}
    templates = Templates(
        Template(key, "re_engagement", "warm", text) for key, text in texts.items()
    )
    wording = Wording(templates, arms=None, floor=0.0, seed=1)
    chosen = [
        wording.words("o", "re_engagement", "absent", "warm", (("name", "engaged"),), key=str(key))
        for key in range(20)
    ]
    assert {one.template_id for one in chosen} == {"b"}


def test_what_is_on_record_is_the_probability_of_the_choice_among_what_can_be_shown() -> None:
    """Weighed by one over it, choices come out alike however they were drawn (Horvitz, 1952)."""
    texts = {"a": "Hello dis{name}, all is well.", "b": "Hello there.", "c": "Good to have you."}
    templates = Templates(
        Template(key, "re_engagement", "warm", text) for key, text in texts.items()
    )
    arms = pl.DataFrame(
        {
            "org_id": "o",
            "outreach_type": "re_engagement",
            "template_id": list(texts),
            "alpha": [5.0, 9.0, 2.0],
            "beta": [1.0, 2.0, 4.0],
        }
    )
    for known in (None, arms):
        wording = Wording(templates, arms=known, floor=0.4, seed=1)
        slots = (("name", "engaged"),)
        chosen = [
            wording.words("o", "re_engagement", "absent", "warm", slots, key=str(key))
            for key in range(3_000)
        ]
        by_template = {one.template_id: one.propensity for one in chosen}
        assert set(by_template) == {"b", "c"}
        assert sum(by_template.values()) == pytest.approx(1)
        assert len({(one.template_id, one.propensity) for one in chosen}) == 2
        for name, propensity in by_template.items():
            n = sum(one.template_id == name for one in chosen)
            assert n / len(chosen) / propensity == pytest.approx(1, abs=0.15)


def test_templates_are_chosen_by_what_the_organisation_itself_believes() -> None:
    fitting = catalogue().fitting("re_engagement", "playful", {"name"}, trigger="absent")
    arms = pl.DataFrame(
        {
            "org_id": ["choir"],
            "outreach_type": ["re_engagement"],
            "template_id": [fitting[0].template_id],
            "alpha": [900.0],
            "beta": [1.0],
        }
    )
    wording = Wording(catalogue(), arms=arms, floor=0.1, seed=1)
    slots = (("name", "Ada"),)
    chosen = {
        org_id: [
            wording.words(org_id, "re_engagement", "absent", "playful", slots, key=str(key))
            for key in range(200)
        ]
        for org_id in ("choir", "garden")
    }
    shares = {
        org_id: sum(one.template_id == fitting[0].template_id for one in found) / len(found)
        for org_id, found in chosen.items()
    }
    assert shares["choir"] > 0.85
    assert shares["garden"] < 0.7
    assert {org_id: found[0].is_learned for org_id, found in chosen.items()} == {
        "choir": True,
        "garden": False,
    }
    assert {one.propensity for one in chosen["garden"]} == {1 / len(fitting)}


@given(st.permutations(range(6)))
def test_whom_else_is_planned_for_changes_nothing(order: list[int]) -> None:
    said = [candidate(0), candidate(1, "topic_follow_up")]
    whom = {n: recipient(user_id=f"m{n}", best_hour=n) for n in range(6)}
    alone = {n: plan(whom[n], *said) for n in range(6)}
    wording = Wording(catalogue(), arms=None, floor=0.05, seed=1)
    assert {n: plan_member(whom[n], said, cycle_of(), wording) for n in order} == alone


# --- Gates.


def test_being_active_is_no_reason_against_a_celebration_and_all_others_are() -> None:
    state = MemberState("choir", "ada", NOW - 400 * DAY, NOW, False, False, False)
    assert evaluate_whether_active_or_not(state, Policy(), NOW).eligible
    reasons = [
        evaluate_whether_active_or_not(state._replace(**changed), Policy(), NOW).reason
        for changed in (
            {"is_opted_out": True},
            {"is_held_out": True},
            {"is_erased": True},
            {"message_times": (NOW - HOUR,)},
        )
    ]
    assert reasons == ["opted_out", "held_out", "erased", "recently_messaged"]


def test_caps_reach_as_far_as_the_longest_of_them() -> None:
    assert caps_reach(Policy(message_frequency_hours=1, min_gap_hours=2)) == DAY
    assert caps_reach(Policy(message_frequency_hours=30, min_gap_hours=2)) == 30 * HOUR
    assert caps_reach(Policy(message_frequency_hours=30, min_gap_hours=40)) == 40 * HOUR


def test_signals_are_gone_by_only_if_they_are_of_the_time() -> None:
    for as_of in (NOW, NOW - 48 * HOUR):
        check_signals(as_of, NOW, max_age_hours=48)
    for as_of in (None, NOW + timedelta.resolution, NOW - 48 * HOUR - timedelta.resolution):
        with pytest.raises(StaleSignalsError, match="2026-03-04 10:20 UTC"):
            check_signals(as_of, NOW, max_age_hours=48)
