"""A large made-up source: seeded Parquet tables of many organisations.

Unlike the sample that people look at, these rows are only realistic in number and size.
"""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

AS_OF = datetime(2026, 6, 30, 4, tzinfo=UTC)
_DAYS = 730


def write_source(folder: Path, *, orgs: int, members: int, attendance: int, seed: int = 1) -> None:
    """Write organizations, memberships, attendance, notifications and their reads as Parquet."""
    folder.mkdir(parents=True, exist_ok=True)
    organizations = pl.DataFrame({"n": range(orgs)}).select(
        org_id=_org(pl.col("n")), name=pl.format("Organisation {}", "n")
    )
    organizations.write_parquet(folder / "organizations.parquet")
    number = pl.DataFrame({"n": range(members)})
    number.select(
        org_id=_org(pl.col("n") % orgs),
        user_id=_user(pl.col("n")),
        joined_at=_moment(members, seed),
    ).write_parquet(folder / "memberships.parquet")
    write_attendance(folder, orgs=orgs, members=members, rows=attendance, seed=seed + 1)
    sent = attendance // 4
    draws = pl.DataFrame({"n": range(sent), "user": _draw(sent, members, seed + 2)})
    draws.select(
        notification_id=pl.format("n{}", "n"),
        user_id=_user(pl.col("user")),
        feature=pl.lit("digest"),
        sent_at=_moment(sent, seed + 3),
    ).write_parquet(folder / "notifications.parquet")
    draws.filter(pl.col("n") % 3 == 0).select(
        notification_id=pl.format("n{}", "n"), read_at=pl.lit(AS_OF - timedelta(days=3))
    ).write_parquet(folder / "notification_reads.parquet")


def write_attendance(folder: Path, *, orgs: int, members: int, rows: int, seed: int) -> Path:
    """Write `attendance.parquet`: members of their own organisation at numbered events."""
    folder.mkdir(parents=True, exist_ok=True)
    user = pl.Series("user", _draw(rows, members, seed))
    frame = pl.DataFrame({"n": range(rows), "user": user, "at": _moment(rows, seed + 1)})
    path = folder / "attendance.parquet"
    frame.select(
        org_id=_org(pl.col("user") % orgs),
        event_id=pl.format("e{}", pl.col("n") // 20),
        user_id=_user(pl.col("user")),
        status=pl.when(pl.col("n") % 5 < 3).then(pl.lit("attended")).otherwise(pl.lit("no_show")),
        created_at="at",
        responded_at=pl.col("at") + timedelta(hours=1),
    ).unique(["org_id", "event_id", "user_id"], maintain_order=True).write_parquet(path)
    return path


def _draw(rows: int, upto: int, seed: int) -> pl.Series:
    spread = random.Random(seed).randrange(1, 1 << 30) * 2 + 1
    return (pl.int_range(rows, eager=True, dtype=pl.UInt64) * spread % 2_147_483_647) % upto


def _moment(rows: int, seed: int) -> pl.Series:
    seconds = _draw(rows, _DAYS * 86_400, seed).cast(pl.Int64)
    return (
        (pl.Series([AS_OF]).dt.epoch("us") - seconds * 1_000_000)
        .cast(pl.Datetime("us"))
        .dt.replace_time_zone("UTC")
    )


def _org(number: pl.Expr) -> pl.Expr:
    return pl.format("org-{}", number)


def _user(number: pl.Expr) -> pl.Expr:
    return pl.format("user-{}", number)
