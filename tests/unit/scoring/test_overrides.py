"""Overrides, case by case: how each request is judged, and what then holds."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from engagement_pipeline.contracts import contract
from engagement_pipeline.scoring import (
    IN_FORCE_SCHEMA,
    REJECTED_SCHEMA,
    REJECTION_REASONS,
    OverrideOutcome,
    apply_requests,
    in_force,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
END = 30
HISTORY = contract("scores.override_history")
NO_HISTORY = HISTORY.empty()

Row = dict[str, Any]


def day(number: float) -> datetime:
    return START + timedelta(days=number)


# The admin `left` goes on day 10; the member `late` comes on day 10; `gone` leaves on day 10.
MEMBERSHIPS = pl.DataFrame(
    [
        ("o", "admin", "admin", day(-9), None),
        ("o", "left", "admin", day(-9), day(10)),
        ("o", "plain", "member", day(-9), None),
        ("p", "elsewhere", "admin", day(-9), None),
        ("p", "m", "member", day(-9), None),
        ("p", "admin", "member", day(-9), None),
        ("o", "m", "member", day(-9), None),
        ("o", "late", "member", day(10), None),
        ("o", "gone", "member", day(-9), day(10)),
    ],
    schema=contract("raw.memberships").polars_schema.names(),
    orient="row",
).cast(dict(contract("raw.memberships").polars_schema))  # type: ignore[arg-type]

LEVELS = pl.DataFrame(
    [
        ("o", "m", day(4), "moderate"),
        ("o", "m", day(12), "at_risk"),
        ("o", "late", day(12), "new"),
        ("p", "m", day(2), "inactive"),
    ],
    schema={"org_id": pl.String, "user_id": pl.String, "as_of": IN_FORCE_SCHEMA["overridden_at"],
            "level": pl.String},
    orient="row",
)  # fmt: skip


def request(request_id: str, performed: float, action: str = "override", **changes: Any) -> Row:
    usual = {
        "request_id": request_id,
        "org_id": "o",
        "user_id": "m",
        "action": action,
        "level": "new" if action == "override" else None,
        "notes": f"Because of {request_id}.",
        "performed_by": "admin",
        "performed_at": day(performed),
        "expires_at": None,
    }
    return usual | changes


def table(*rows: Row) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=contract("raw.override_requests").polars_schema)


def applied(
    *rows: Row,
    until: float = END,
    history: pl.DataFrame = NO_HISTORY,
    levels: pl.DataFrame = LEVELS,
) -> OverrideOutcome:
    return apply_requests(
        table(*rows), MEMBERSHIPS, history, levels, as_of=day(until), recorded_at=day(until + 1)
    )


def story(history: pl.DataFrame) -> list[tuple[str, str, float, str | None, str | None]]:
    """Rows as (request, action, day, level before, level after)."""
    return [
        (r["request_id"], r["action"], (r["performed_at"] - START) / timedelta(days=1),
         r["previous_level"], r["new_level"])
        for r in history.iter_rows(named=True)
    ]  # fmt: skip


def reasons(outcome: OverrideOutcome) -> list[tuple[str, str]]:
    return outcome.rejected.select("request_id", "reason").rows()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"performed_by": "plain"}, "not_an_admin"),
        ({"performed_by": "nobody"}, "not_an_admin"),
        ({"performed_by": "elsewhere"}, "not_an_admin"),
        ({"performed_by": "left", "performed_at": day(10)}, "not_an_admin"),
        ({"performed_by": "admin", "performed_at": day(-10)}, "not_an_admin"),
        ({"user_id": "nobody"}, "unknown_member"),
        ({"user_id": "late", "performed_at": day(9)}, "unknown_member"),
        ({"user_id": "gone", "performed_at": day(10)}, "unknown_member"),
        ({"org_id": "p", "performed_by": "elsewhere", "user_id": "late"}, "unknown_member"),
        ({"notes": " \n\t\u00a0"}, "missing_notes"),
        ({"notes": ""}, "missing_notes"),
        ({"level": None}, "missing_level"),
        ({"level": "keen"}, "unknown_level"),
        ({"expires_at": day(5)}, "expires_before_performed"),
        ({"expires_at": day(4)}, "expires_before_performed"),
        ({"action": "clear", "level": None}, "nothing_to_clear"),
    ],
)
def test_a_request_that_is_no_good_is_rejected_with_its_reason(changes: Row, reason: str) -> None:
    outcome = applied(request("r", 5) | changes)
    assert reasons(outcome) == [("r", reason)]
    assert outcome.new_history.is_empty()
    assert outcome.rejected.schema == REJECTED_SCHEMA
    asked = request("r", 5) | changes
    assert {k: v for k, v in outcome.rejected.row(0, named=True).items() if k != "reason"} == asked


@pytest.mark.parametrize(
    "changes",
    [
        {"performed_by": "left", "performed_at": day(9.99)},
        {"user_id": "late", "performed_at": day(10)},
        {"user_id": "gone", "performed_at": day(9.99)},
        {"expires_at": day(5.01)},
        {"user_id": "admin"},
        {"org_id": "p", "performed_by": "elsewhere"},
    ],
)
def test_a_request_that_is_good_takes_effect(changes: Row) -> None:
    outcome = applied(request("r", 5) | changes)
    assert reasons(outcome) == []
    assert outcome.new_history["action"][0] == "override"


def test_every_reason_is_tried_above() -> None:
    tried = test_a_request_that_is_no_good_is_rejected_with_its_reason.pytestmark[0].args[1]
    assert {reason for _, reason in tried} == set(REJECTION_REASONS)


def test_an_override_then_its_clearing_show_the_levels_that_held() -> None:
    outcome = applied(request("a", 5), request("b", 13, "clear"))
    assert story(outcome.new_history) == [
        ("a", "override", 5, "moderate", "new"),
        ("b", "clear", 13, "new", "at_risk"),
    ]
    assert set(outcome.new_history["recorded_at"]) == {day(END + 1)}


def test_an_expiry_that_a_clear_names_means_nothing() -> None:
    outcome = applied(request("a", 5), request("b", 6, "clear", expires_at=day(8)))
    assert outcome.new_history["action"].to_list() == ["override", "clear"]
    assert outcome.new_history["expires_at"].to_list() == [None, None]


def test_levels_before_anything_was_computed_are_unknown() -> None:
    outcome = applied(request("a", 3.99), request("b", 3.995, "clear"), until=4)
    assert story(outcome.new_history) == [
        ("a", "override", 3.99, None, "new"),
        ("b", "clear", 3.995, "new", None),
    ]


def test_a_level_computed_at_that_very_moment_counts() -> None:
    assert story(applied(request("a", 4)).new_history)[0][3] == "moderate"


def test_an_expiry_is_one_row_by_the_system_in_the_words_of_the_override() -> None:
    (row,) = (
        applied(request("a", 5, expires_at=day(13)))
        .new_history.filter(pl.col("action") == "expire")
        .iter_rows(named=True)
    )
    assert row == {
        "org_id": "o",
        "user_id": "m",
        "previous_level": "new",
        "new_level": "at_risk",
        "notes": "Because of a.",
        "action": "expire",
        "performed_by": "system",
        "performed_at": day(13),
        "expires_at": day(13),
        "request_id": "a",
        "recorded_at": day(END + 1),
    }


def test_an_override_expires_at_its_very_instant_and_not_before() -> None:
    early = applied(request("a", 5, expires_at=day(13)), until=12.99)
    assert early.new_history["action"].to_list() == ["override"]
    on_time = applied(request("a", 5, expires_at=day(13)), until=13)
    assert on_time.new_history["action"].to_list() == ["override", "expire"]


def test_what_is_superseded_or_cleared_before_its_expiry_never_expires() -> None:
    superseded = applied(request("a", 5, expires_at=day(9)), request("b", 8, level="inactive"))
    assert story(superseded.new_history) == [
        ("a", "override", 5, "moderate", "new"),
        ("b", "override", 8, "new", "inactive"),
    ]
    cleared = applied(request("a", 5, expires_at=day(9)), request("b", 8, "clear"))
    assert cleared.new_history["action"].to_list() == ["override", "clear"]


def test_at_the_instant_of_expiry_nothing_is_left_to_clear() -> None:
    outcome = applied(request("a", 5, expires_at=day(9)), request("b", 9, "clear"))
    assert reasons(outcome) == [("b", "nothing_to_clear")]
    assert outcome.new_history["action"].to_list() == ["override", "expire"]


def test_a_rejected_clear_leaves_the_override_in_force() -> None:
    outcome = applied(request("a", 5), request("b", 6, "clear", performed_by="plain"))
    assert in_force(outcome.new_history, as_of=day(7))["override_level"].to_list() == ["new"]


def test_a_request_from_after_as_of_is_invisible() -> None:
    outcome = applied(request("a", 5.01), request("b", 6, notes=""), until=5)
    assert outcome.new_history.is_empty()
    assert outcome.rejected.is_empty()
    assert outcome.new_history.schema == HISTORY.polars_schema
    assert outcome.rejected.schema == REJECTED_SCHEMA


def test_requests_of_one_instant_act_in_order_of_their_ids() -> None:
    outcome = applied(request("b", 5, level="inactive"), request("a", 5))
    assert [row[0] for row in story(outcome.new_history)] == ["a", "b"]
    written = outcome.new_history
    for history in (written, pl.concat([written.tail(1), written.head(1)])):
        assert in_force(history, as_of=day(5))["override_level"].to_list() == ["inactive"]


def test_a_settled_request_stays_so_when_its_admin_loses_the_role_or_its_row_goes() -> None:
    history = applied(request("a", 5, expires_at=day(20)), until=6).new_history
    demoted = MEMBERSHIPS.with_columns(role=pl.lit("member"))
    for requests in (table(request("a", 5, expires_at=day(20))), table()):
        outcome = apply_requests(
            requests, demoted, history, LEVELS, as_of=day(END), recorded_at=day(END)
        )
        assert story(outcome.new_history) == [("a", "expire", 20, "new", "at_risk")]
        assert outcome.rejected.is_empty()


def test_a_settled_request_that_is_sent_again_otherwise_changes_nothing() -> None:
    history = applied(request("a", 5)).new_history
    again = applied(request("a", 5, level="inactive"), request("a", 5, "clear"), history=history)
    assert again.new_history.is_empty()
    assert again.rejected.is_empty()


def test_a_late_request_takes_its_place_and_no_written_row_is_written_again() -> None:
    first = applied(request("a", 5, expires_at=day(9)), request("c", 12)).new_history
    late = applied(request("b", 7, level="inactive"), history=first)
    assert story(late.new_history) == [("b", "override", 7, "new", "inactive")]
    history = pl.concat([first, late.new_history])
    assert in_force(history, as_of=day(10))["override_level"].to_list() == ["inactive"]
    assert in_force(history, as_of=day(13))["overridden_at"].to_list() == [day(12)]


def test_a_run_in_the_past_writes_nothing_of_what_came_later() -> None:
    rows = [
        request("a", 5, expires_at=day(9)),
        request("b", 8, level="inactive"),
        request("c", 20, "clear"),
    ]
    history = applied(*rows).new_history
    for past in (0, 5, 6, 8, 9, 15):
        assert applied(*rows, history=history, until=past).new_history.is_empty()


def test_a_run_in_the_past_lets_a_late_request_go_no_further_than_its_own_moment() -> None:
    history = applied(request("c", 12)).new_history
    late = applied(request("a", 5, expires_at=day(9)), history=history, until=6)
    assert story(late.new_history) == [("a", "override", 5, "moderate", "new")]


@pytest.mark.parametrize("name", ["as_of", "recorded_at"])
def test_a_time_without_a_zone_is_refused(name: str) -> None:
    times = {"as_of": day(1), "recorded_at": day(1)}
    times[name] = times[name].replace(tzinfo=None)
    with pytest.raises(ValueError, match=f"{name} must have a time zone"):
        apply_requests(table(), MEMBERSHIPS, NO_HISTORY, LEVELS, **times)


def test_in_force_gives_what_an_admin_needs_to_see() -> None:
    history = applied(request("a", 5, expires_at=day(40))).new_history
    found = in_force(history, as_of=day(6))
    assert found.schema == IN_FORCE_SCHEMA
    assert found.row(0) == ("o", "m", "new", "Because of a.", "admin", day(5), day(40), False)
    assert in_force(NO_HISTORY, as_of=day(6)).schema == IN_FORCE_SCHEMA


def test_an_override_does_not_hold_past_its_expiry_though_that_is_not_written_yet() -> None:
    history = applied(request("a", 5, expires_at=day(9)), until=6).new_history
    assert len(in_force(history, as_of=day(8.99))) == 1
    assert in_force(history, as_of=day(9)).is_empty()
    assert in_force(history, as_of=day(4.99)).is_empty()


def test_an_override_is_stale_when_it_is_older_than_allowed_and_never_expires() -> None:
    endless = applied(request("a", 5)).new_history
    ending = applied(request("a", 5, expires_at=day(500))).new_history

    def is_stale(history: pl.DataFrame, at: float, **after: int) -> bool:
        return bool(in_force(history, as_of=day(at), **after)["is_stale_override"][0])

    assert not is_stale(endless, 95)
    assert is_stale(endless, 95.01)
    assert not is_stale(ending, 400)
    assert is_stale(endless, 12, stale_after_days=6)


def test_one_member_in_two_organisations_is_overridden_in_each_apart() -> None:
    outcome = applied(
        request("a", 5), request("b", 6, org_id="p", performed_by="elsewhere", level="moderate")
    )
    assert story(outcome.new_history)[1] == ("b", "override", 6, "inactive", "moderate")
    assert in_force(outcome.new_history, as_of=day(7))["org_id"].to_list() == ["o", "p"]
