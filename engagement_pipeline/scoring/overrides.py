"""Overrides: what admins ask for, judged and put in order, and what then holds.

Admins ask seldom, so a member's overrides are replayed one by one in plain Python. The history
alone says what holds: it is only ever added to, and a request it holds is settled for good, even
where its admin has since left. Where requests come from and rows go to belongs to the caller, and
the computed levels to the classifiers.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import polars as pl

from engagement_pipeline.contracts import contract, vocabulary

HISTORY_TABLE = "scores.override_history"
REQUESTS_TABLE = "raw.override_requests"

REJECTION_REASONS = (
    "not_an_admin",
    "unknown_member",
    "missing_notes",
    "missing_level",
    "unknown_level",
    "expires_before_performed",
    "nothing_to_clear",
)
"""Why a request changes nothing. The first that applies is given."""

REJECTION_MEANINGS = dict(
    zip(
        REJECTION_REASONS,
        (
            "who decides is not an admin of the organisation at that moment",
            "there was no such member of the organisation at that moment",
            "the notes must say why",
            "an override needs a level",
            "the level is none of the known ones",
            "it would end before it begins",
            "no override of the member was in force",
        ),
        strict=True,
    )
)
"""What each reason says to a person."""

REJECTED_SCHEMA = pl.Schema(
    {
        "request_id": pl.String(),
        "reason": pl.String(),
        **{
            name: dtype
            for name, dtype in contract(REQUESTS_TABLE).polars_schema.items()
            if name != "request_id"
        },
    }
)
"""A rejected request: its id, why, and the rest of what it asked."""

IN_FORCE_SCHEMA = pl.Schema(
    {
        "org_id": pl.String(),
        "user_id": pl.String(),
        "override_level": pl.String(),
        "override_notes": pl.String(),
        "overridden_by": pl.String(),
        "overridden_at": pl.Datetime("us", "UTC"),
        "override_expires_at": pl.Datetime("us", "UTC"),
        "is_stale_override": pl.Boolean(),
    }
)
"""An override that holds: one row per member who is under one."""

_Pair = tuple[str, str]
_Row = dict[str, Any]


@dataclass(frozen=True)
class OverrideOutcome:
    """What came of the requests.

    Attributes:
        new_history: rows to add to `scores.override_history`, in order of time.
        rejected: the requests that change nothing (`REJECTED_SCHEMA`), in order of time.
    """

    new_history: pl.DataFrame
    rejected: pl.DataFrame


@dataclass(frozen=True)
class _Membership:
    role: str
    joined_at: datetime
    left_at: datetime | None

    def holds_at(self, moment: datetime) -> bool:
        return self.joined_at <= moment and (self.left_at is None or self.left_at > moment)


@dataclass(frozen=True)
class _Step:
    """A change an admin asked for; `is_settled` where the history already holds it."""

    org_id: str
    user_id: str
    request_id: str
    action: str
    level: str | None
    notes: str | None
    performed_by: str
    performed_at: datetime
    expires_at: datetime | None
    is_settled: bool

    @property
    def member(self) -> _Pair:
        return (self.org_id, self.user_id)

    @property
    def place(self) -> tuple[datetime, str]:
        return (self.performed_at, self.request_id)


class _Registry:
    """Who belonged to which organisation when, and which levels were computed."""

    def __init__(
        self, memberships: pl.DataFrame, levels: pl.DataFrame, steps: Iterable[_Step]
    ) -> None:
        steps = list(steps)
        # Millions of rows stay in Polars; Python sees those of the few who are concerned.
        people = {s.member for s in steps} | {(s.org_id, s.performed_by) for s in steps}
        concerned = pl.DataFrame(
            sorted(people), schema={"org_id": pl.String, "user_id": pl.String}, orient="row"
        )
        self._memberships: dict[_Pair, list[_Membership]] = defaultdict(list)
        for org_id, user_id, *membership in (
            memberships.join(concerned, on=["org_id", "user_id"], how="semi")
            .select("org_id", "user_id", "role", "joined_at", "left_at")
            .iter_rows()
        ):
            self._memberships[org_id, user_id].append(_Membership(*membership))
        self._computed: dict[_Pair, tuple[list[datetime], list[str]]] = defaultdict(
            lambda: ([], [])
        )
        for org_id, user_id, moment, level in (
            levels.join(concerned, on=["org_id", "user_id"], how="semi")
            .select("org_id", "user_id", "as_of", "level")
            .sort("as_of")
            .iter_rows()
        ):
            moments, found = self._computed[org_id, user_id]
            moments.append(moment)
            found.append(level)

    def is_member(self, org_id: str, user_id: str, moment: datetime) -> bool:
        """Whether a membership of that person holds at `moment`."""
        return any(m.holds_at(moment) for m in self._memberships.get((org_id, user_id), []))

    def is_admin(self, org_id: str, user_id: str, moment: datetime) -> bool:
        """Whether a membership as admin holds at `moment`. Of roles, only today's is known."""
        found = self._memberships.get((org_id, user_id), [])
        return any(m.role == "admin" and m.holds_at(moment) for m in found)

    def computed_level(self, member: _Pair, moment: datetime) -> str | None:
        """The newest level computed at or before `moment`; None where there is none."""
        if member not in self._computed:
            return None
        moments, levels = self._computed[member]
        place = bisect_right(moments, moment)
        return levels[place - 1] if place else None


class _Replay:
    """One member's overrides, step by step, with what holds after each."""

    def __init__(self, member: _Pair, registry: _Registry) -> None:
        self._member = member
        self._registry = registry
        self._holding: _Step | None = None
        self.rows: list[_Row] = []
        self.rejected: list[tuple[_Step, str]] = []

    def take(self, step: _Step) -> None:
        """Let time run up to `step`, then apply it, or reject it if it is no good."""
        self.expire_until(step.performed_at)
        if not step.is_settled:
            reason = _reason_to_reject(step, self._registry, has_override=self._holding is not None)
            if reason is not None:
                self.rejected.append((step, reason))
                return
        before = self._effective_level(step.performed_at)
        self._holding = step if step.action == "override" else None
        self._record(step, step.action, before, step.performed_at)

    def expire_until(self, moment: datetime) -> None:
        """End the override that holds if its time is up at `moment`."""
        ended = self._holding
        if ended is None or ended.expires_at is None or ended.expires_at > moment:
            return
        before = self._effective_level(ended.expires_at)
        self._holding = None
        self._record(ended, "expire", before, ended.expires_at)

    def _effective_level(self, moment: datetime) -> str | None:
        if self._holding is not None:
            return self._holding.level
        return self._registry.computed_level(self._member, moment)

    def _record(self, step: _Step, action: str, before: str | None, moment: datetime) -> None:
        self.rows.append(
            {
                "org_id": step.org_id,
                "user_id": step.user_id,
                "previous_level": before,
                "new_level": self._effective_level(moment),
                "notes": step.notes or "Expired.",
                "action": action,
                "performed_by": "system" if action == "expire" else step.performed_by,
                "performed_at": moment,
                "expires_at": None if action == "clear" else step.expires_at,
                "request_id": step.request_id,
            }
        )


def apply_requests(
    requests: pl.DataFrame,
    memberships: pl.DataFrame,
    existing_history: pl.DataFrame,
    levels: pl.DataFrame,
    *,
    as_of: datetime,
    recorded_at: datetime,
) -> OverrideOutcome:
    """Judge the requests known at `as_of`, and give the history rows that are still missing.

    Requests act in order of `performed_at`, then `request_id`; an override whose time is up ends
    before anything else that happens at that instant. Run again, or in several steps of `as_of`,
    it gives the same rows in all, and each only once. A request that arrives late is put in its
    place; rows already written stay as they are.

    Args:
        requests: rows of `raw.override_requests`, in any order; later than `as_of` are invisible.
        memberships: rows of `raw.memberships`.
        existing_history: rows of `scores.override_history`: all of them, also those after `as_of`.
        levels: computed levels: `org_id`, `user_id`, `as_of`, `level`.
        as_of: the moment up to which things happen, with a time zone.
        recorded_at: when the rows are written, with a time zone.

    Raises:
        ValueError: `as_of` or `recorded_at` has no time zone.
        ContractViolationError: a row breaks the contract of `scores.override_history`.
    """
    moment, recorded = _utc(as_of, "as_of"), _utc(recorded_at, "recorded_at")
    steps = _settled_steps(existing_history, moment) + _fresh_steps(
        requests, existing_history, moment
    )
    registry = _Registry(memberships, levels, steps)
    rows: list[_Row] = []
    rejected: list[tuple[_Step, str]] = []
    ordered = sorted(steps, key=lambda step: (step.member, step.place))
    for member, own_steps in groupby(ordered, key=lambda step: step.member):
        replay = _Replay(member, registry)
        for step in own_steps:
            replay.take(step)
        replay.expire_until(moment)
        rows += replay.rows
        rejected += replay.rejected
    return OverrideOutcome(
        new_history=_new_rows(rows, existing_history, recorded),
        rejected=_rejected_frame(rejected),
    )


def in_force(history: pl.DataFrame, *, as_of: datetime, stale_after_days: int = 90) -> pl.DataFrame:
    """The overrides that hold at `as_of`, at most one per member.

    An override whose time is up does not hold, whether or not its expiry is in the history yet.

    Args:
        history: rows of `scores.override_history`, in any order.
        as_of: the moment, with a time zone; later rows are invisible.
        stale_after_days: days after which an override that never expires is stale.

    Returns:
        Rows of `IN_FORCE_SCHEMA`, sorted by `org_id, user_id`.

    Raises:
        ValueError: `as_of` has no time zone.
    """
    moment = _utc(as_of, "as_of")
    expires_at, performed_at = pl.col("expires_at"), pl.col("performed_at")
    return (
        # An expiry ends its own override and no other. Reading `expires_at` in its place keeps
        # one that a late request overtook from ending the override that came after.
        history.filter((performed_at <= moment) & (pl.col("action") != "expire"))
        .sort("performed_at", "request_id")
        .unique(["org_id", "user_id"], keep="last", maintain_order=True)
        .filter((pl.col("action") == "override") & (expires_at.is_null() | (expires_at > moment)))
        .select(
            "org_id",
            "user_id",
            override_level="new_level",
            override_notes="notes",
            overridden_by="performed_by",
            overridden_at="performed_at",
            override_expires_at="expires_at",
            is_stale_override=expires_at.is_null()
            & (performed_at < moment - timedelta(days=stale_after_days)),
        )
        .sort("org_id", "user_id")
    )


def _reason_to_reject(step: _Step, registry: _Registry, *, has_override: bool) -> str | None:
    """The first reason against a request, given whether an override holds when it is made."""
    is_override = step.action == "override"
    has_ended = step.expires_at is not None and step.expires_at <= step.performed_at
    is_against: Mapping[str, bool] = {
        "not_an_admin": not registry.is_admin(step.org_id, step.performed_by, step.performed_at),
        "unknown_member": not registry.is_member(*step.member, step.performed_at),
        "missing_notes": not (step.notes or "").strip(),
        "missing_level": is_override and step.level is None,
        "unknown_level": step.level is not None and step.level not in vocabulary.LEVELS,
        "expires_before_performed": has_ended,
        "nothing_to_clear": not is_override and not has_override,
    }
    return next((reason for reason in REJECTION_REASONS if is_against[reason]), None)


def _settled_steps(history: pl.DataFrame, as_of: datetime) -> list[_Step]:
    asked = history.filter((pl.col("action") != "expire") & (pl.col("performed_at") <= as_of))
    return [
        _step(row, level=row["new_level"], is_settled=True) for row in asked.iter_rows(named=True)
    ]


def _fresh_steps(requests: pl.DataFrame, history: pl.DataFrame, as_of: datetime) -> list[_Step]:
    fresh = requests.filter(pl.col("performed_at") <= as_of).join(
        history, on="request_id", how="anti"
    )
    return [_step(row, level=row["level"], is_settled=False) for row in fresh.iter_rows(named=True)]


def _step(row: _Row, *, level: str | None, is_settled: bool) -> _Step:
    return _Step(
        org_id=row["org_id"],
        user_id=row["user_id"],
        request_id=row["request_id"],
        action=row["action"],
        level=level,
        notes=row["notes"],
        performed_by=row["performed_by"],
        performed_at=row["performed_at"],
        expires_at=row["expires_at"],
        is_settled=is_settled,
    )


def _new_rows(rows: list[_Row], existing: pl.DataFrame, recorded_at: datetime) -> pl.DataFrame:
    table = contract(HISTORY_TABLE)
    stamped = [{**row, "recorded_at": recorded_at} for row in rows]
    return table.validate(
        pl.DataFrame(stamped, schema=table.polars_schema)
        .join(existing, on=list(table.key), how="anti")
        .sort("performed_at", "request_id", "action")
    )


def _rejected_frame(rejected: list[tuple[_Step, str]]) -> pl.DataFrame:
    asked = [name for name in REJECTED_SCHEMA if name != "reason"]
    rows = [
        {"reason": reason, **{name: getattr(step, name) for name in asked}}
        for step, reason in rejected
    ]
    return pl.DataFrame(rows, schema=REJECTED_SCHEMA).sort("performed_at", "request_id")


def _utc(moment: datetime, name: str) -> datetime:
    if moment.utcoffset() is None:
        raise ValueError(f"{name} must have a time zone, and {moment.isoformat()} has none")
    return moment.astimezone(UTC)
