"""The whole sample in memory: communities first, then what they do, then the dirt.

Only the order of things lives here; each table is invented in the module of its noun. Nothing
here touches the disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import polars as pl

from engagement_pipeline.sample import governance, profiles, turnout
from engagement_pipeline.sample.catalogue import ORGANISATIONS, Organisation
from engagement_pipeline.sample.conversations import interaction_rows
from engagement_pipeline.sample.dice import Dice, Mint
from engagement_pipeline.sample.dirt import Spoiler, with_dirt
from engagement_pipeline.sample.layout import (
    COLUMNS,
    FORMATS,
    CleanFile,
    Format,
    Row,
    SampleFile,
    times_as_text,
)
from engagement_pipeline.sample.members import (
    HISTORY_DAYS,
    Member,
    communities,
    membership_rows,
)
from engagement_pipeline.sample.notices import Outbox, notification_rows, read_rows
from engagement_pipeline.sample.programme import event_rows, programme

HALF_YEARS = 4
_HALF_YEAR_FORMATS: tuple[Format, ...] = ("parquet", "parquet", "csv.gz", "csv.gz")

Tables = dict[str, list[Row]]


def generate(as_of: datetime, seed: int) -> dict[str, pl.DataFrame]:
    """All tables of the sample, by name, as they stood at `as_of`, spoilt rows included.

    Times are ISO 8601 text in tables that are written as text (a few of them broken on purpose)
    and `Datetime("us", "UTC")` in those written as Parquet; `attendance`, which is written as
    both, has text. Lines that are no row at all exist only in the written files. An `as_of`
    without a zone is read as UTC. The same arguments give the same frames.
    """
    frames: dict[str, list[pl.DataFrame]] = {table: [] for table in COLUMNS}
    for file in sample_files(as_of, seed):
        frames[file.table].append(file.frame)
    return {
        table: parts[0] if len(parts) == 1 else pl.concat([times_as_text(part) for part in parts])
        for table, parts in frames.items()
    }


def sample_files(as_of: datetime, seed: int) -> list[SampleFile]:
    """Every file of the sample with its rows, in a fixed order; see `generate`."""
    as_of = as_of.replace(tzinfo=UTC) if as_of.tzinfo is None else as_of.astimezone(UTC)
    as_of = as_of.replace(microsecond=0)
    tables = _tables(as_of, Dice(seed, "sample"))
    files = []
    for clean in _clean_files(tables, as_of):
        dice = Dice(seed, f"dirt/{clean.path}")
        spoiler = Spoiler(clean, as_of, dice.about("rows"), Mint(dice.about("ids")))
        files.append(with_dirt(clean, spoiler, dice))
    return files


@dataclass
class _Chronicle:
    """What happened up to `as_of`, table by table, and when each user was last active."""

    as_of: datetime
    mint: Mint
    tables: Tables = field(default_factory=lambda: {table: [] for table in COLUMNS})
    last_active: dict[str, datetime] = field(default_factory=dict)

    def live(self, org: Organisation, members: Sequence[Member], dice: Dice) -> None:
        """Add two years of one organisation: evenings, sign-ups, notices, talk."""
        as_of, mint, tables = self.as_of, self.mint, self.tables
        events = programme(org, as_of, dice.about("programme"), mint)
        signed_up = turnout.sign_ups(org, members, events, as_of, dice.about("turnout"))
        visits = turnout.guests(events, as_of, dice.about("guests"), mint)
        sent = Outbox(members, as_of, dice.about("notices"), mint).notices(events, signed_up)
        said = interaction_rows(org, members, as_of, dice.about("talk"), mint)
        tables["events"] += event_rows(events, dice.about("events"))
        tables["attendance"] += [sign_up.row() for sign_up in (*signed_up, *visits)]
        tables["event_views"] += turnout.view_rows(signed_up, events, as_of, dice.about("views"))
        tables["notifications"] += notification_rows(sent, as_of, dice.about("sending"))
        tables["notification_reads"] += read_rows(sent, as_of, dice.about("reads"))
        tables["interactions"] += said
        for sign_up in signed_up:
            self._touch(sign_up.user_id, sign_up.created_at)
        for row in said:
            if isinstance(row["sent_at"], datetime):
                self._touch(str(row["user_id"]), row["sent_at"])

    def _touch(self, user_id: str, at: datetime) -> None:
        self.last_active[user_id] = max(at, self.last_active.get(user_id, at))


def _tables(as_of: datetime, dice: Dice) -> Tables:
    """Clean rows of every table."""
    mint = Mint(dice.about("ids"))
    people, members = communities(as_of, dice.about("members"), mint)
    chronicle = _Chronicle(as_of, mint)
    for org in ORGANISATIONS:
        own = [member for member in members if member.org is org]
        chronicle.live(org, own, dice.about(org.org_id))
    last_active = chronicle.last_active
    return {
        **chronicle.tables,
        "organizations": governance.organization_rows(as_of),
        "org_settings": governance.setting_rows(),
        "memberships": membership_rows(members, dice.about("memberships")),
        "profiles": profiles.profile_rows(people, members, last_active, dice.about("profiles")),
        "profile_updates": profiles.profile_update_rows(members, as_of, dice.about("updates")),
        "preferences": governance.preference_rows(members, as_of, dice.about("preferences")),
        "override_requests": governance.override_rows(
            members, as_of, dice.about("overrides"), mint
        ),
        "erasure_requests": governance.erasure_rows(members, as_of, dice.about("erasure")),
    }


def _clean_files(tables: Tables, as_of: datetime) -> Iterator[CleanFile]:
    for table, rows in tables.items():
        if table == "attendance":
            yield from _half_years(rows, as_of)
        else:
            yield CleanFile(f"{table}.{FORMATS[table]}", table, FORMATS[table], rows)


def _half_years(attendance: Sequence[Row], as_of: datetime) -> Iterator[CleanFile]:
    """Attendance in four files of half a year each by `created_at`, counted back from `as_of`:
    the older ones as Parquet, as from an archive, the newer ones as compressed CSV."""
    length = timedelta(days=HISTORY_DAYS / HALF_YEARS)
    begin = as_of - timedelta(days=HISTORY_DAYS)
    parts: list[list[Row]] = [[] for _ in range(HALF_YEARS)]
    for row in sorted(attendance, key=_by_creation):
        created_at = row["created_at"]
        if isinstance(created_at, datetime):
            parts[max(0, min(HALF_YEARS - 1, (created_at - begin) // length))].append(row)
    for index, (part, file_format) in enumerate(zip(parts, _HALF_YEAR_FORMATS, strict=True)):
        since = (begin + index * length).date()
        path = f"attendance/since-{since}.{file_format}"
        yield CleanFile(path, "attendance", file_format, part)


def _by_creation(row: Row) -> tuple[str, str, str]:
    return str(row["created_at"]), str(row["event_id"]), str(row["user_id"])
