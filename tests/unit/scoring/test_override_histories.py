"""Override histories in general: whatever is asked, in whatever order and however many runs."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from engagement_pipeline.contracts import contract, vocabulary
from engagement_pipeline.scoring import (
    OverrideOutcome,
    apply_requests,
    in_force,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
END = 22
MEMBERS = ("m", "late", "gone")
HISTORY = contract("scores.override_history")
NO_HISTORY = HISTORY.empty()

Row = dict[str, Any]


def day(number: float) -> datetime:
    return START + timedelta(days=number)


MEMBERSHIPS = pl.DataFrame(
    [
        ("o", "admin", "admin", day(-9), None),
        ("o", "left", "admin", day(-9), day(10)),
        ("o", "plain", "member", day(-9), None),
        ("o", "m", "member", day(-9), None),
        ("o", "late", "member", day(10), None),
        ("o", "gone", "member", day(-9), day(10)),
    ],
    schema=dict(contract("raw.memberships").polars_schema),
    orient="row",
)

LEVELS = pl.DataFrame(
    [
        ("o", "m", day(12), "at_risk"),
        ("o", "m", day(4), "moderate"),
        ("o", "late", day(12), "new"),
        ("p", "m", day(2), "inactive"),
    ],
    schema={"org_id": pl.String, "user_id": pl.String, "as_of": pl.Datetime("us", "UTC"),
            "level": pl.String},
    orient="row",
)  # fmt: skip


def request(request_id: str, performed: float, action: str, **asked: Any) -> Row:
    return {
        "request_id": request_id,
        "org_id": "o",
        "action": action,
        "performed_at": day(performed),
        **asked,
    }


def applied(*rows: Row, until: float = END, history: pl.DataFrame = NO_HISTORY) -> OverrideOutcome:
    asked = pl.DataFrame(list(rows), schema=contract("raw.override_requests").polars_schema)
    return apply_requests(
        asked, MEMBERSHIPS, history, LEVELS, as_of=day(until), recorded_at=day(until + 1)
    )


def reasons(outcome: OverrideOutcome) -> dict[str, str]:
    return dict(outcome.rejected.select("request_id", "reason").iter_rows())


some_days = st.integers(0, 20)
some_requests = st.lists(
    st.builds(
        request,
        st.sampled_from("abcdefghij"),
        some_days,
        st.sampled_from(["override", "override", "clear"]),
        user_id=st.sampled_from(["m", "m", *MEMBERS]),
        level=st.sampled_from([*vocabulary.LEVELS, None]),
        notes=st.sampled_from(["Why not.", "Why not.", "Why not.", ""]),
        performed_by=st.sampled_from(["admin", "admin", "left", "plain"]),
        expires_at=st.none() | some_days.map(day),
    ),
    max_size=9,
    unique_by=lambda row: row["request_id"],
)


def level_computed(user_id: str, moment: datetime) -> str | None:
    found = None
    for org_id, who, as_of, level in LEVELS.sort("as_of").iter_rows():
        if (org_id, who) == ("o", user_id) and as_of <= moment:
            found = level
    return found


def belongs(user_id: str, moment: datetime, roles: Sequence[str]) -> bool:
    return any(
        (row["org_id"], row["user_id"]) == ("o", user_id)
        and row["role"] in roles
        and row["joined_at"] <= moment
        and (row["left_at"] is None or moment < row["left_at"])
        for row in MEMBERSHIPS.iter_rows(named=True)
    )


class Clockwork:
    """The same rules told another way: every instant in turn, all members at once."""

    def __init__(self, rows: list[Row], until: datetime) -> None:
        self.holding: dict[str, Row] = {}
        self.rows: set[tuple[Any, ...]] = set()
        self.bad: dict[str, str] = {}
        self.seen: dict[tuple[str, datetime], str | None] = {}
        instants = {r["performed_at"] for r in rows} | {r["expires_at"] for r in rows}
        probes = {day(half / 2) for half in range(2 * END)}
        for now in sorted((instants - {None}) | probes):
            if now > until:
                break
            for user_id, held in list(self.holding.items()):
                if held["expires_at"] == now:
                    self.change(held, "expire", now, None)
                    del self.holding[user_id]
            for row in sorted(rows, key=lambda r: r["request_id"]):
                if row["performed_at"] == now:
                    self.ask(row, now)
            for user_id in MEMBERS:
                self.seen[user_id, now] = self.effective(user_id, now)

    def effective(self, user_id: str, now: datetime) -> str | None:
        held = self.holding.get(user_id)
        return held["level"] if held else level_computed(user_id, now)

    def change(self, row: Row, action: str, now: datetime, level: str | None) -> None:
        before = self.effective(row["user_id"], now)
        after = level or level_computed(row["user_id"], now)
        self.rows.add((row["request_id"], action, now, before, after))

    def ask(self, row: Row, now: datetime) -> None:
        is_clear = row["action"] == "clear"
        if not belongs(row["performed_by"], now, ["admin"]):
            reason = "not_an_admin"
        elif not belongs(row["user_id"], now, ["admin", "member"]):
            reason = "unknown_member"
        elif not row["notes"]:
            reason = "missing_notes"
        elif not is_clear and not row["level"]:
            reason = "missing_level"
        elif row["expires_at"] and row["expires_at"] <= now:
            reason = "expires_before_performed"
        elif is_clear and row["user_id"] not in self.holding:
            reason = "nothing_to_clear"
        elif is_clear:
            self.change(row, "clear", now, None)
            del self.holding[row["user_id"]]
            return
        else:
            self.change(row, "override", now, row["level"])
            self.holding[row["user_id"]] = row
            return
        self.bad[row["request_id"]] = reason


def facts(history: pl.DataFrame) -> list[tuple[Any, ...]]:
    return sorted(
        history.select(
            "request_id", "action", "performed_at", "previous_level", "new_level"
        ).rows()
    )  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(some_requests, st.integers(0, END))
def test_history_and_rejects_are_those_of_a_clock_that_ticks_through(
    rows: list[Row], until: int
) -> None:
    told = Clockwork(rows, day(until))
    outcome = applied(*rows, until=until)
    assert set(facts(outcome.new_history)) == told.rows
    assert len(outcome.new_history) == len(told.rows)
    assert reasons(outcome) == told.bad


@settings(max_examples=50, deadline=None)
@given(some_requests)
def test_the_effective_level_at_any_moment_is_that_of_the_clock(rows: list[Row]) -> None:
    told = Clockwork(rows, day(END))
    history = applied(*rows).new_history
    for moment in sorted({moment for _, moment in told.seen}):
        held = in_force(history, as_of=moment)
        overridden = dict(held.select("user_id", "override_level").iter_rows())
        for user_id in MEMBERS:
            effective = overridden.get(user_id) or level_computed(user_id, moment)
            assert effective == told.seen[user_id, moment]


@settings(max_examples=100, deadline=None)
@given(some_requests, st.lists(st.integers(0, END), max_size=3))
def test_many_runs_write_together_what_one_run_writes(rows: list[Row], stops: list[int]) -> None:
    history = NO_HISTORY
    # The stops come in any order, so that some of the runs are in the past.
    for until in [*stops, END, END]:
        added = applied(*rows, history=history, until=until)
        history = pl.concat([history, added.new_history])
    at_once = applied(*rows, until=END)
    assert facts(history) == facts(at_once.new_history)
    assert added.new_history.is_empty()
    assert added.rejected.equals(at_once.rejected)


@settings(max_examples=60, deadline=None)
@given(some_requests, st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(rows: list[Row], dice: Any) -> None:
    shuffled = dice.sample(rows, len(rows))
    one, other = applied(*rows), applied(*shuffled)
    assert one.new_history.equals(other.new_history)
    assert one.rejected.equals(other.rejected)
    mixed = one.new_history.sample(fraction=1, shuffle=True, seed=dice.randint(0, 99))
    assert in_force(mixed, as_of=day(15)).equals(in_force(one.new_history, as_of=day(15)))
    assert applied(*shuffled, history=mixed).new_history.is_empty()


@settings(max_examples=100, deadline=None)
@given(some_requests, some_requests, some_days, some_days)
def test_whenever_requests_arrive_each_acts_once_and_expires_at_most_once(
    rows: list[Row], late_rows: list[Row], first: int, second: int
) -> None:
    known = {row["request_id"] for row in rows}
    late_rows = [row for row in late_rows if row["request_id"] not in known]
    history = applied(*rows, until=first).new_history
    for until in (second, END):
        added = applied(*rows, *late_rows, history=history, until=until).new_history
        history = pl.concat([history, added])
    HISTORY.validate(history)
    asked = history.filter(pl.col("action") != "expire")["request_id"]
    assert asked.is_unique().all()
    expired = history.filter(pl.col("action") == "expire")
    assert expired["request_id"].is_unique().all()
    assert (expired["performed_at"] == expired["expires_at"]).all()
    assert set(expired["performed_by"]) <= {"system"}
    held = in_force(history, as_of=day(END))
    assert held.select("org_id", "user_id").is_unique().all()
