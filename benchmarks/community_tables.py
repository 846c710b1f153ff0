"""Communities as they mostly are: seeded tables in which few come often and most keep quiet.

What decides the cost of asking a model is how many members share a profile, so members here differ
as in life rather than evenly. Sizes of organisations are log-normal. Three members in five have
been gone for over half a year; the others come now and then, regularly, or nearly always, and who
comes more also signs up, reads and writes more. What is measured on the tables is in
`benchmarks.model_calls`.

Modelled on the two public data sets of the tests, in which most members are quiet, but with every
channel present, as in the project's own sample.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

AS_OF = datetime(2026, 11, 2, 4, tzinfo=UTC)
NEXT_DAY = AS_OF + timedelta(days=1)
SEED = 20_261_102
CHANGED_SHARE = 0.01
"""Members who do something on the next day."""

_HISTORY_DAYS = 730.0
_RECENT_DAYS = 200.0
"""How far back notices and messages go: older ones are in no signal but `last_active_at`."""
_DIGEST_DAYS = 14
_SMALLEST_ORG = 5
_ONE_EVENT = ["org_id", "event_id", "user_id"]

Tables = dict[str, pl.DataFrame]


@dataclass(frozen=True)
class Kind:
    """How one kind of member behaves.

    Attributes:
        share: of all members.
        attended_90d: mean events attended in 90 days while active; members vary around it.
        no_show: share of sign-ups that end so.
        reads: the two parameters of the beta distribution of the share of notices read.
        readers: share who read any.
        writers: share who write at all.
        messages_90d: mean messages of those who do, in 90 days.
        updates: share who ever changed a significant part of their profile.
        acts: how likely to do something on a given day, relative to others.
    """

    share: float
    attended_90d: float
    no_show: float
    reads: tuple[float, float]
    readers: float
    writers: float
    messages_90d: float
    updates: float
    acts: float


KINDS: Mapping[str, Kind] = {
    "dormant": Kind(0.60, 1.0, 0.15, (1.0, 9.0), 0.05, 0.0, 0.0, 0.12, 0.05),
    "occasional": Kind(0.20, 0.7, 0.14, (1.0, 3.0), 0.70, 0.25, 2.0, 0.25, 0.5),
    "regular": Kind(0.12, 3.5, 0.08, (2.0, 2.0), 0.90, 0.55, 8.0, 0.40, 2.0),
    "core": Kind(0.05, 9.0, 0.04, (4.0, 1.5), 0.97, 0.85, 25.0, 0.60, 5.0),
    "new": Kind(0.03, 2.0, 0.10, (2.0, 2.0), 0.85, 0.40, 5.0, 0.50, 2.0),
}
"""The kinds of members. The dormant figures are of the time before they fell silent."""

_NEVER_ACTIVE = 0.40
"""Share of the dormant who joined and were never seen."""
_UNSUBSCRIBED = 0.15


def with_twice_the_variety(kinds: Mapping[str, Kind]) -> dict[str, Kind]:
    """The same with twice as many members who do anything at all."""
    dormant = 1 - 2 * (1 - kinds["dormant"].share)
    found = {name: replace(kind, share=2 * kind.share) for name, kind in kinds.items()}
    return found | {"dormant": replace(kinds["dormant"], share=dormant)}


@dataclass(frozen=True)
class Community:
    """Everybody in it, as arrays with one value a member.

    Attributes:
        kinds: what kinds of members there are.
        org: number of the organisation, from 0.
        kind: place in `kinds`.
        joined: days before `AS_OF`.
        quiet: days before `AS_OF` since when nothing was seen of them; 0: still there.
        is_never: whether nothing ever was.
        seed: of all that they do.
    """

    kinds: tuple[Kind, ...]
    org: Any
    kind: Any
    joined: Any
    quiet: Any
    is_never: Any
    seed: int

    @property
    def members(self) -> int:
        return len(self.org)

    def of_kind(self, name: str) -> Any:
        """One value a member: what its kind says."""
        return np.array([getattr(kind, name) for kind in self.kinds])[self.kind]

    def dice(self, about: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, about])


def community(
    *,
    orgs: int,
    members: int,
    seed: int = SEED,
    size_spread: float = 1.2,
    kinds: Mapping[str, Kind] = KINDS,
) -> Community:
    """Members of many organisations.

    Args:
        orgs: organisations.
        members: in all of them together, exactly.
        seed: of everything.
        size_spread: sigma of the log-normal sizes; 0: all the same.
        kinds: what kinds of members there are; the shares add up to 1.
    """
    dice = np.random.default_rng([seed, 0])
    sizes = _sizes(dice, orgs, members, size_spread)
    names = list(kinds)
    kind = dice.choice(len(kinds), members, p=[one.share for one in kinds.values()])
    is_dormant, is_new = kind == names.index("dormant"), kind == names.index("new")
    least = np.where(is_dormant, 185.0, 60.0)
    joined = np.minimum(least + dice.exponential(500.0, members), 2_000.0)
    joined = np.where(is_new, dice.uniform(0.0, 60.0, members), joined)
    quiet = np.where(is_dormant, 182 + dice.random(members) * (joined - 182), 0.0)
    is_never = is_dormant & (dice.random(members) < _NEVER_ACTIVE)
    org = np.repeat(np.arange(orgs), sizes)
    return Community(tuple(kinds.values()), org, kind, joined, quiet, is_never, seed)


def _sizes(dice: np.random.Generator, orgs: int, members: int, spread: float) -> Any:
    weights = dice.lognormal(0.0, spread, orgs)
    sizes = np.maximum(_SMALLEST_ORG, (weights / weights.sum() * members).astype(np.int64))
    # What rounding and the smallest size leave over goes to, or comes from, the largest.
    sizes[sizes.argmax()] += members - sizes.sum()
    return sizes


def first_day(people: Community) -> Tables:
    """All input tables as they stand at `AS_OF`."""
    number = np.arange(people.members)
    organisations = np.arange(people.org.max() + 1)
    return {
        "organizations": pl.DataFrame({"n": organisations}).select(
            org_id=_id("o", pl.col("n")),
            name=pl.format("Riverside Society {}", "n"),
            description=pl.when(pl.col("n") % 2 == 0).then(
                pl.lit("Evenings, walks and talks for people who are new in town.")
            ),
        ),
        "memberships": _table(people, number, joined_at=_ago(people.joined)),
        "attendance": _attendance(people),
        **_notifications(people),
        "interactions": _interactions(people),
        "profile_updates": _profile_updates(people),
    }


def next_day(people: Community) -> Tables:
    """What comes in by `NEXT_DAY`: one member in a hundred does one thing, and digests go out.

    The more active a member is, the likelier; one in twenty-five or so of them was dormant.
    """
    dice = people.dice(9)
    weights = people.of_kind("acts")
    count = round(people.members * CHANGED_SHARE)
    who = dice.choice(people.members, count, replace=False, p=weights / weights.sum())
    at = -dice.uniform(0.1, 0.95, count)
    wrote, signed_up, came, updated = np.split(
        np.arange(count), (np.array([0.45, 0.70, 0.90]) * count).astype(int)
    )
    came_at, ahead = at[came], at[signed_up]
    attended = _attendance_rows(people, who[came], came_at, came_at, "attended")
    registered = _attendance_rows(people, who[signed_up], ahead - 7.0, ahead, "registered")
    updates = _user_rows(who[updated], section=pl.lit("skills"), updated_at=_ago(at[updated]))
    return {
        "attendance": _one_a_person(pl.concat([attended, registered])),
        "interactions": _messages(people, who[wrote], at[wrote], "m-next-"),
        "profile_updates": updates,
        "notifications": _digests(people, -1.0, 0.0)[0],
    }


def together(before: Tables, changes: Tables) -> Tables:
    """All tables once `changes` have come in; a newer row on an event takes the older's place."""
    after = {t: pl.concat([f, changes[t]]) if t in changes else f for t, f in before.items()}
    return after | {"attendance": after["attendance"].unique(_ONE_EVENT, keep="last")}


def write(tables: Tables, folder: Path, part: str) -> None:
    """Write each table as Parquet, `<table>/<part>.parquet`."""
    for table, frame in tables.items():
        (folder / table).mkdir(parents=True, exist_ok=True)
        frame.write_parquet(folder / table / f"{part}.parquet")


def _attendance(people: Community) -> pl.DataFrame:
    dice = people.dice(1)
    rate = dice.gamma(2.0, people.of_kind("attended_90d") / 2)
    span = np.minimum(people.joined, _HISTORY_DAYS + people.quiet) - people.quiet
    attends = np.where(people.is_never, 0.0, rate)
    no_show = people.of_kind("no_show")
    # A tenth of all sign-ups are cancelled, a fiftieth never gets in.
    signed_up = dice.poisson(attends * span / 90 / (0.88 - no_show))
    who = np.repeat(np.arange(people.members), signed_up)
    # Habits change: an exponent over 1 brings activity nearer to now, one below it further away.
    drift = np.exp(dice.normal(0.0, 0.35, people.members))[who]
    at = people.quiet[who] + dice.random(len(who)) ** drift * span[who]
    answered = np.minimum(at + dice.uniform(0.0, 14.0, len(who)), people.joined[who])
    chance = dice.random(len(who))
    status = np.select(
        [chance < 0.10, chance < 0.12, chance < 0.12 + no_show[who]],
        ["cancelled", "waitlisted", "no_show"],
        "attended",
    )
    past = _attendance_rows(people, who, at, answered, status)
    ahead = dice.poisson(np.where(people.quiet > 0, 0.0, attends) * 20 / 90)
    who = np.repeat(np.arange(people.members), ahead)
    answered = np.minimum(dice.uniform(0.0, 14.0, len(who)), people.joined[who])
    coming = _attendance_rows(
        people, who, -dice.uniform(0.0, 20.0, len(who)), answered, "registered"
    )
    return _one_a_person(pl.concat([past, coming]))


def _attendance_rows(
    people: Community, who: Any, at: Any, answered: Any, status: Any
) -> pl.DataFrame:
    """Answers to the events of some days; a status that is settled became so on that day."""
    event = pl.Series(np.floor(at).astype(np.int64) + 10_000).cast(pl.String)
    is_settled = pl.col("status") != "registered"
    frame = _table(
        people,
        who,
        event_id=pl.lit("e") + event,
        status=pl.Series(np.broadcast_to(status, len(who))).cast(pl.String),
        created_at=_ago(answered),
    )
    # Events of two organisations on one day are two events.
    return frame.with_columns(
        event_id=pl.col("org_id") + pl.col("event_id"),
        responded_at=pl.when(is_settled).then(_ago(at)),
    )


def _one_a_person(attendance: pl.DataFrame) -> pl.DataFrame:
    return attendance.unique(_ONE_EVENT, keep="first", maintain_order=True)


def _notifications(people: Community) -> Tables:
    dice = people.dice(2)
    sent, who, at = _digests(people, 0.0, _RECENT_DAYS)
    rate = dice.beta(*people.of_kind("reads").T)
    rate *= (dice.random(people.members) < people.of_kind("readers")) & ~people.is_never
    read_at = at - dice.exponential(1.0, len(who))
    is_read = (dice.random(len(who)) < rate[who]) & (read_at > 0)
    reads = sent.select("notification_id").filter(pl.Series(is_read))
    return {
        "notifications": sent,
        "notification_reads": reads.with_columns(read_at=_ago(read_at[is_read])),
    }


def _digests(people: Community, since: float, until: float) -> tuple[pl.DataFrame, Any, Any]:
    """Digests sent from `since` to `until` days ago, to whom, and how many days ago.

    Each organisation sends one every fourteen days, on a day of its own.
    """
    is_subscribed = people.dice(3).random(people.members) >= _UNSUBSCRIBED
    phase = people.dice(4).integers(0, _DIGEST_DAYS, int(people.org.max()) + 1)[people.org] + 0.5
    first, last = int(since // _DIGEST_DAYS), int(until // _DIGEST_DAYS) + 1
    rounds = np.arange(first, last)
    at = (phase[:, None] + rounds[None, :] * _DIGEST_DAYS).astype(float)
    goes = is_subscribed[:, None] & (at >= since) & (at < until) & (at < people.joined[:, None])
    who, which = np.nonzero(goes)
    numbers = pl.Series(who).cast(pl.String) + "-" + pl.Series(rounds[which]).cast(pl.String)
    frame = _table(
        people,
        who,
        notification_id=pl.lit("n") + numbers,
        feature=pl.lit("digest"),
        sent_at=_ago(at[who, which]),
    )
    return frame, who, at[who, which]


def _interactions(people: Community) -> pl.DataFrame:
    dice = people.dice(5)
    is_writer = dice.random(people.members) < people.of_kind("writers")
    rate = dice.gamma(1.0, np.maximum(people.of_kind("messages_90d"), 1e-9)) * is_writer
    span = np.minimum(people.joined, _RECENT_DAYS)
    who = np.repeat(np.arange(people.members), dice.poisson(rate * span / 90))
    return _messages(people, who, dice.random(len(who)) * span[who], "m")


def _messages(people: Community, who: Any, at: Any, prefix: str) -> pl.DataFrame:
    numbers = pl.Series(np.arange(len(who)))
    return _table(
        people,
        who,
        interaction_id=_id(prefix, numbers),
        type=pl.lit("message"),
        sent_at=_ago(at),
    )


def _profile_updates(people: Community) -> pl.DataFrame:
    dice = people.dice(6)
    updates = (dice.random(people.members) < people.of_kind("updates")) & ~people.is_never
    who = np.nonzero(updates)[0]
    at = people.quiet[who] + dice.random(len(who)) * (people.joined - people.quiet)[who]
    return _user_rows(who, section=pl.lit("skills"), updated_at=_ago(at))


def _table(people: Community, who: Any, **columns: Any) -> pl.DataFrame:
    org = pl.Series("org", people.org[who])
    return _user_rows(who, org_id=_id("o", org), **columns)


def _user_rows(who: Any, **columns: Any) -> pl.DataFrame:
    user = pl.DataFrame({"user_id": _eager(_id("u", pl.Series(who)))})
    return user.with_columns(**columns)


def _ago(days: Any) -> pl.Series:
    moved = np.asarray(days) * 86_400_000_000
    micros = pl.Series(AS_OF.timestamp() * 1e6 - moved).cast(pl.Int64)
    return micros.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def _id(prefix: str, numbers: Any) -> Any:
    return pl.lit(prefix) + numbers.cast(pl.String).str.zfill(7)


def _eager(expression: pl.Expr) -> pl.Series:
    return pl.select(expression).to_series()
