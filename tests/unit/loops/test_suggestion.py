"""What admins make of suggested levels, and what is learned from it."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from engagement_pipeline.contracts import contract, vocabulary
from engagement_pipeline.loops.calibration import LEARNED_SCHEMA, in_force, new_versions
from engagement_pipeline.loops.suggestion import (
    JUDGEMENTS_SCHEMA,
    SPELLS_SCHEMA,
    corrections,
    judgements,
    label_agreement,
    learn_acceptance,
    review_levels,
)
from engagement_pipeline.scoring.overrides import in_force as overrides_in_force

Row = dict[str, Any]

START = datetime(2026, 1, 1, tzinfo=UTC)
HISTORY = contract("scores.override_history")


def day(number: float) -> datetime:
    return START + timedelta(days=number)


def spell(began: float, ended: float | None, level: str = "at_risk", **more: Any) -> Row:
    member = {"org_id": "o", "user_id": "u", "prompt_version": "p", "model_version": "m"}
    ended_at = None if ended is None else day(ended)
    return {**member, "level": level, "began_at": day(began), "ended_at": ended_at, **more}


def action(performed: float, level: str | None = "moderate", **more: Any) -> Row:
    return {
        "org_id": "o",
        "user_id": "u",
        "new_level": level,
        "notes": "Why not.",
        "action": "override",
        "performed_by": "admin",
        "performed_at": day(performed),
        "expires_at": None,
        "request_id": f"r{performed}",
        "recorded_at": day(performed),
        **more,
    }


def spells_of(*rows: Row) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=SPELLS_SCHEMA)


def history_of(*rows: Row) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=HISTORY.polars_schema)


def judged(
    spells: list[Row], history: list[Row], *, as_of: float = 60, since: float = -60
) -> list[tuple[str, str, str, datetime]]:
    """Kind, computed level, admins' level and moment of each judgement."""
    found = judgements(
        spells_of(*spells), history_of(*history), as_of=day(as_of), window_start=day(since)
    )
    assert found.schema == JUDGEMENTS_SCHEMA
    assert not any(found.null_count().row(0))
    assert not found["source_key"].is_duplicated().any()
    return found.select("kind", "computed_level", "admin_level", "occurred_at").rows()


# --- Judgements one by one -----------------------------------------------------------------------


def test_a_level_that_stands_for_seven_days_is_accepted_then() -> None:
    accepted = ("ACCEPT", "at_risk", "at_risk", day(7))
    assert judged([spell(0, None)], []) == [accepted]
    assert judged([spell(0, 7)], []) == [accepted]
    assert judged([spell(0, None)], [], as_of=7) == [accepted]


def test_a_level_that_stood_for_less_is_not_judged() -> None:
    assert judged([spell(0, 6.99)], []) == []
    assert judged([spell(0, None)], [], as_of=6.99) == []


def test_an_override_rejects_the_level_that_was_computed_then() -> None:
    spells = [spell(0, 5), spell(5, None, "inactive")]
    rejected = ("REJECT", "inactive", "moderate", day(5))
    assert judged(spells, [action(5)]) == [rejected]
    assert judged(spells, [action(4.99)])[0] == ("REJECT", "at_risk", "moderate", day(4.99))


def test_an_admin_who_sets_the_computed_level_accepts_it() -> None:
    found = judged([spell(0, None)], [action(2, "at_risk")])
    assert found == [("ACCEPT", "at_risk", "at_risk", day(2))]


def test_an_override_where_no_level_was_computed_judges_none() -> None:
    assert judged([spell(0, 3)], [action(-1), action(3), action(9)]) == []
    assert judged([spell(0, 3)], [action(1, user_id="v"), action(1, org_id="p")]) == []


def test_an_override_after_the_seven_days_leaves_the_acceptance_before_it() -> None:
    found = judged([spell(0, None)], [action(7)])
    assert {kind for kind, *_ in found} == {"ACCEPT", "REJECT"}
    assert [kind for kind, *_ in judged([spell(0, None)], [action(6.99)])] == ["REJECT"]


def test_a_level_that_nobody_saw_under_an_override_is_not_accepted() -> None:
    later = [spell(10, None, "inactive")]
    assert judged(later, [action(5)]) == []
    assert judged(later, [action(5, expires_at=day(10.01))]) == []
    assert len(judged(later, [action(5, expires_at=day(10))])) == 1
    ended = action(9, None, action="clear", request_id="c")
    assert len(judged(later, [action(5), ended])) == 1
    # A late request may have come before the expiry of another; the expiry ends only its own.
    expiry = action(9, None, action="expire", expires_at=day(9), request_id="r0")
    assert judged(later, [action(5), expiry]) == []


@pytest.mark.parametrize("is_turned", [False, True])
@pytest.mark.parametrize(("cleared_by", "judgements"), [("r2", 1), ("r0", 0)])
def test_of_two_actions_at_one_instant_the_later_request_holds(
    cleared_by: str, judgements: int, is_turned: bool
) -> None:
    ended = action(5, None, action="clear", request_id=cleared_by)
    history = [action(5, request_id="r1"), ended]
    spells = [spell(10, None, "inactive")]
    assert len(judged(spells, history[::-1] if is_turned else history)) == judgements


def test_clearing_an_override_judges_nothing() -> None:
    cleared = action(1, "at_risk", action="clear")
    assert judged([spell(0, None)], [cleared]) == [("ACCEPT", "at_risk", "at_risk", day(7))]


def test_what_happens_outside_the_window_does_not_count() -> None:
    spells, history = [spell(0, None)], [action(9)]
    assert judged(spells, history, as_of=8, since=7) == []
    assert [kind for kind, *_ in judged(spells, history, as_of=9, since=7)] == ["REJECT"]
    assert [kind for kind, *_ in judged(spells, history, as_of=8, since=6)] == ["ACCEPT"]


def test_ids_with_colons_never_give_two_spells_one_key() -> None:
    ids = [("a:1:b", "c"), ("a", "1:b:c"), ("a:1", "b:c"), ("1:a", ":"), ("1", "a::")]
    spells = [spell(0, None, org_id=org_id, user_id=user_id) for org_id, user_id in ids]
    assert len(judged(spells, [])) == len(ids)


def test_source_keys_stay_as_they_are() -> None:
    found = judgements(
        spells_of(spell(0, None, org_id="o:1")),
        history_of(action(20, org_id="o:1", request_id="req:7")),
        as_of=day(30),
        window_start=day(-1),
    )
    # Another way to write them would count every judgement ever kept a second time.
    assert found["source_key"].to_list() == [
        f"spell:3:o:1:1:u:at_risk:{int(START.timestamp())}000000",
        "override:req:7",
    ]


def test_no_spells_and_no_overrides_give_no_judgements() -> None:
    assert judged([], []) == judged([], [action(1)]) == []


def test_two_spells_of_a_member_that_begin_at_once_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one spell of a member at a time.*'u' in the org 'o'"):
        judged([spell(0, 3), spell(0, 9, "new")], [])


def test_spells_without_a_column_are_refused() -> None:
    with pytest.raises(ValueError, match="found none of level, ended_at"):
        judgements(
            spells_of().drop("level", "ended_at"), history_of(), as_of=day(1), window_start=START
        )


@pytest.mark.parametrize("name", ["as_of", "window_start"])
def test_a_window_without_a_time_zone_is_refused(name: str) -> None:
    times = {"as_of": day(1), "window_start": START, name: datetime(2026, 1, 1)}  # noqa: DTZ001
    with pytest.raises(ValueError, match=f"{name}: expected a time zone"):
        judgements(spells_of(), history_of(), **times)


def test_a_window_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(ValueError, match="window_start: expected a moment up to 2026-01-01"):
        judgements(spells_of(), history_of(), as_of=START, window_start=day(1))


# --- An oracle that goes from member to member and from spell to spell ---------------------------


def plain_holds(history: list[Row], moment: datetime) -> bool:
    """Whether an override of these, all of one member, holds at `moment`."""
    holding = None
    for row in sorted(history, key=lambda row: (row["performed_at"], row["request_id"])):
        if row["performed_at"] <= moment and row["action"] != "expire":
            holding = row if row["action"] == "override" else None
    return holding is not None and (holding["expires_at"] is None or moment < holding["expires_at"])


def plain_judgements(
    spells: list[Row], history: list[Row], as_of: datetime, since: datetime
) -> list[tuple[Any, ...]]:
    found = []
    for one in spells:
        began, ended, level = one["began_at"], one["ended_at"], one["level"]
        who = (one["org_id"], one["user_id"])
        own = [row for row in history if (row["org_id"], row["user_id"]) == who]
        performed = [row for row in own if row["action"] == "override"]
        for row in performed:
            if began <= row["performed_at"] and (ended is None or row["performed_at"] < ended):
                kind = "ACCEPT" if row["new_level"] == level else "REJECT"
                found.append((*who, kind, level, row["new_level"], row["performed_at"]))
        stood_at = began + timedelta(days=7)
        is_disturbed = any(began <= row["performed_at"] < stood_at for row in performed)
        has_lasted = ended is None or ended >= stood_at
        if has_lasted and not is_disturbed and not plain_holds(own, began):
            found.append((*who, "ACCEPT", level, level, stood_at))
    return sorted(row for row in found if since < row[-1] <= as_of)


def some_history(random: Random) -> tuple[list[Row], list[Row]]:
    """Spells and overrides of a few members, on whole days so that edges meet."""
    spells, history = [], []
    for org_id in ("o", "p"):
        for user_id in ("u", "v", "w"):
            member = {"org_id": org_id, "user_id": user_id}
            at = random.randint(0, 5)
            while at < 40:
                lasts = random.choice((1, 3, 6, 7, 8, 15))
                is_last = random.random() < 0.2
                level = random.choice(vocabulary.LEVELS)
                model = random.choice("mn")
                spells.append(
                    spell(at, None if is_last else at + lasts, level, model_version=model, **member)
                )
                if is_last:
                    break
                at += lasts + random.choice((0, 0, 0, 2))
            for number in range(random.choice((0, 0, 1, 3, 6))):
                at = random.randint(-5, 45)
                ends = random.choice((None, day(at + random.randint(1, 20))))
                what = random.choice(("override", "override", "override", "clear", "expire"))
                level = random.choice(vocabulary.LEVELS)
                name = f"{org_id}{user_id}{number}"
                own = action(at, level, action=what, expires_at=ends, request_id=name, **member)
                history.append(own)
    random.shuffle(spells)
    random.shuffle(history)
    return spells, history


@settings(max_examples=100, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(-3, 60), st.integers(0, 60))
def test_judgements_are_what_going_from_spell_to_spell_finds(
    random: Random, since: int, length: int
) -> None:
    spells, history = some_history(random)
    window = {"as_of": day(since + length), "window_start": day(since)}
    found = judgements(spells_of(*spells), history_of(*history), **window)
    wanted = plain_judgements(spells, history, window["as_of"], window["window_start"])
    columns = ["org_id", "user_id", "kind", "computed_level", "admin_level", "occurred_at"]
    assert sorted(found.select(columns).rows()) == wanted
    assert not found["source_key"].is_duplicated().any()


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 50))
def test_windows_side_by_side_find_each_judgement_once(random: Random, middle: int) -> None:
    spells, history = some_history(random)
    frames = spells_of(*spells), history_of(*history)
    whole = judgements(*frames, as_of=day(60), window_start=day(-60))
    parts = [
        judgements(*frames, as_of=day(middle), window_start=day(-60)),
        judgements(*frames, as_of=day(60), window_start=day(middle)),
    ]
    assert sorted(pl.concat(parts).rows()) == sorted(whole.rows())


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 50))
def test_what_comes_later_changes_no_judgement_of_before(random: Random, moment: int) -> None:
    rows, actions = some_history(random)
    known = [
        {
            **row,
            "ended_at": None
            if row["ended_at"] and row["ended_at"] > day(moment)
            else row["ended_at"],
        }
        for row in rows
        if row["began_at"] <= day(moment)
    ]
    done = [row for row in actions if row["performed_at"] <= day(moment)]
    window = {"as_of": day(moment), "window_start": day(-60)}
    then = judgements(spells_of(*known), history_of(*done), **window)
    assert judgements(spells_of(*rows), history_of(*actions), **window).equals(then)


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False))
def test_a_level_is_never_accepted_while_an_override_holds_by_its_own_rules(
    random: Random,
) -> None:
    spells, history = some_history(random)
    found = judgements(
        spells_of(*spells), history_of(*history), as_of=day(60), window_start=day(-60)
    )
    silent = found.filter(pl.col("source_key").str.starts_with("spell:"))
    for org_id, user_id, occurred_at in silent.select("org_id", "user_id", "occurred_at").rows():
        holding = overrides_in_force(history_of(*history), as_of=occurred_at - timedelta(days=7))
        assert (org_id, user_id) not in set(holding.select("org_id", "user_id").rows())


# --- What is learned -----------------------------------------------------------------------------


def judgement(computed: str, by_admins: str, number: int = 0, **more: Any) -> Row:
    return {
        "org_id": "o",
        "user_id": "u",
        "kind": "ACCEPT" if computed == by_admins else "REJECT",
        "computed_level": computed,
        "admin_level": by_admins,
        "prompt_version": "p",
        "model_version": "m",
        "occurred_at": day(number),
        "source_key": f"override:{number}",
        **more,
    }


def judgements_of(*rows: Row) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=JUDGEMENTS_SCHEMA)


some_judgements = st.lists(
    st.builds(
        judgement,
        st.sampled_from(vocabulary.LEVELS[:3]),
        st.sampled_from(vocabulary.LEVELS),
        org_id=st.sampled_from(["o", "p"]),
        model_version=st.sampled_from(["m", "n"]),
    ),
    max_size=40,
)


@settings(max_examples=50, deadline=None)
@given(some_judgements)
def test_the_acceptance_rate_is_the_share_accepted_in_its_interval(rows: list[Row]) -> None:
    learned = learn_acceptance(judgements_of(*rows))
    assert learned.schema == LEARNED_SCHEMA
    wanted = {}
    for org_id in ("o", "p"):
        for level in vocabulary.LEVELS:
            own = [r for r in rows if (r["org_id"], r["computed_level"]) == (org_id, level)]
            if own:
                accepted = sum(row["kind"] == "ACCEPT" for row in own)
                wanted[org_id, f"acceptance-rate:{level}"] = (accepted / len(own), len(own))
    found = {(row["org_id"], row["key"]): row for row in learned.to_dicts()}
    assert {name: (row["value"], row["n"]) for name, row in found.items()} == wanted
    for row in found.values():
        assert 0 <= row["lower"] <= row["value"] <= row["upper"] <= 1
        assert row["upper"] - row["lower"] > 0
    assert learned.rows() == sorted(learned.rows())


def test_the_interval_is_wilsons() -> None:
    rows = [judgement("new", "new" if n < 8 else "moderate", n) for n in range(10)]
    (learned,) = learn_acceptance(judgements_of(*rows)).to_dicts()
    # Wilson 1927, by hand for 8 of 10: (0.8 + 0.19207 -+ 0.35043...) / 1.38415.
    assert (learned["lower"], learned["upper"]) == pytest.approx((0.490162, 0.943318), abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(some_judgements)
def test_the_agreement_is_what_the_judgements_one_by_one_give(rows: list[Row]) -> None:
    found = label_agreement(judgements_of(*rows), window_start=START, as_of=day(9))
    assert found.schema == contract("loops.label_agreement").polars_schema
    judges = Counter((row["org_id"], row["model_version"]) for row in rows)
    pairs = Counter(
        (row["org_id"], row["model_version"], row["computed_level"], row["admin_level"])
        for row in rows
    )
    names = ["org_id", "model_version", "computed_level", "admin_level"]
    assert {tuple(row[n] for n in names): row["judgements"] for row in found.to_dicts()} == pairs
    for row in found.to_dicts():
        own = [
            r
            for r in rows
            if (r["org_id"], r["model_version"]) == (row["org_id"], row["model_version"])
        ]
        computed = [r["computed_level"] for r in own]
        by_admins = [r["admin_level"] for r in own]
        assert row["n"] == judges[row["org_id"], row["model_version"]]
        same = sum(a == b for a, b in zip(computed, by_admins, strict=True))
        assert row["agreement"] == pytest.approx(same / len(own))
        if len({*computed, *by_admins}) == 1:
            assert row["kappa"] is None
        else:
            assert row["kappa"] == pytest.approx(cohen_kappa_score(computed, by_admins))
        assert (row["window_start"], row["window_end"]) == (START, day(9))


def test_only_a_level_whose_whole_interval_is_under_the_setting_is_reviewed() -> None:
    rows = [judgement("at_risk", "moderate", n) for n in range(20)]
    rows += [judgement("new", "moderate", n) for n in range(2)]
    rows += [judgement("inactive", "inactive", n) for n in range(20)]
    learned = learn_acceptance(judgements_of(*rows))
    learned = learned.vstack(learned.head(1).with_columns(key=pl.lit("read-rate:x"), upper=0.0))
    none_yet = contract("loops.calibrations").empty()
    versions = new_versions(learned, window_start=START, as_of=day(30), versions=none_yet)
    found = review_levels(in_force(versions, as_of=day(31)), below=0.5, as_of=day(31))
    assert found.schema == contract("loops.review_queue").polars_schema
    (row,) = found.to_dicts()
    assert (row["level"], row["acceptance_rate"], row["n"]) == ("at_risk", 0.0, 20)
    assert row["acceptance_rate_lower"] == 0 < row["acceptance_rate_upper"] < 0.5
    assert (row["queued_at"], row["expires_at"]) == (day(31), day(60))
    upper = row["acceptance_rate_upper"]
    assert review_levels(versions, below=upper, as_of=day(31)).is_empty()


# --- Corrections ---------------------------------------------------------------------------------


def corrected(rows: list[Row], profiles: dict[int, str], **more: Any) -> list[tuple[Any, ...]]:
    """Place, profile, computed level and admins' level."""
    keys = pl.DataFrame(
        [(f"override:{number}", profile) for number, profile in profiles.items()],
        schema={"source_key": pl.String, "profile": pl.String},
        orient="row",
    )
    found = corrections(judgements_of(*rows), keys, as_of=day(40), **more)
    assert set(found["computed_at"]) <= {day(40)}
    assert found.schema == contract("loops.corrections").polars_schema
    return found.select("org_id", "place", "profile", "computed_level", "admin_level").rows()


def test_the_most_often_corrected_profiles_come_first_then_the_newest_then_by_text() -> None:
    told = {0: "a", 1: "b", 2: "b", 3: "d", 4: "c", 5: "e"}
    rows = [judgement("at_risk", "moderate", n) for n in told]
    rows[3]["occurred_at"] = rows[4]["occurred_at"] = rows[5]["occurred_at"] = day(9)
    places = [(place, profile) for _, place, profile, *_ in corrected(rows, told, at_most=5)]
    assert places == [(1, "b"), (2, "c"), (3, "d"), (4, "e"), (5, "a")]
    assert [profile for _, _, profile, *_ in corrected(rows, told)] == ["b", "c", "d"]


def test_of_corrections_that_contradict_each_other_the_newest_stands_alone() -> None:
    told = dict.fromkeys(range(4), "a")
    rows = [judgement("at_risk", "moderate", n) for n in range(3)]
    rows.append(judgement("at_risk", "inactive", 3))
    assert corrected(rows, told) == [("o", 1, "a", "at_risk", "inactive")]


def test_only_rejections_with_a_profile_are_corrections() -> None:
    rows = [judgement("at_risk", "at_risk", 0), judgement("at_risk", "moderate", 1)]
    assert corrected(rows, {0: "a"}) == []


def test_each_organisation_has_corrections_of_its_own() -> None:
    rows = [judgement("at_risk", "moderate", n, org_id="op"[n % 2]) for n in range(10)]
    found = corrected(rows, {n: f"profile {n}" for n in range(10)})
    assert [(org_id, place) for org_id, place, *_ in found] == [
        (org_id, place) for org_id in "op" for place in (1, 2, 3)
    ]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_corrections_are_what_counting_one_by_one_finds(data: st.DataObject) -> None:
    row = st.tuples(
        st.sampled_from("op"),
        st.sampled_from("abcde"),
        st.sampled_from(vocabulary.LEVELS[:2]),
        st.sampled_from(vocabulary.LEVELS[2:]),
        st.integers(0, 3),
    )
    drawn = data.draw(st.lists(row, max_size=25))
    rows = [
        judgement(computed, by_admins, n, org_id=org_id, occurred_at=day(at))
        for n, (org_id, _, computed, by_admins, at) in enumerate(drawn)
    ]
    wanted = []
    for org_id in "op":
        ranked = []
        for profile in "abcde":
            times = Counter(d[2:4] for d in drawn if d[:2] == (org_id, profile))
            if times:
                newest = {
                    pair: max(d[4] for d in drawn if d[:4] == (org_id, profile, *pair))
                    for pair in times
                }
                best = min(times, key=lambda p: (-newest[p], -times[p], p[1], p[0]))
                ranked.append((-times[best], -newest[best], profile, *best))
        wanted += [
            (org_id, place, profile, *pair)
            for place, (_, _, profile, *pair) in enumerate(sorted(ranked)[:3], start=1)
        ]
    assert corrected(rows, {n: d[1] for n, d in enumerate(drawn)}) == wanted
