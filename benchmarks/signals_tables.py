"""The tables that the member signals are timed on: seeded, the same ones every time.

Some people come far more often than others, a tenth have left, 40,000 are in two organisations,
half of the notifications name none, and 2 % of all rows are later than `AS_OF`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

SEED = 20_261_101
DAY = 86_400_000_000
AS_OF = 1_793_491_200_000_000
"""2026-11-01T00:00:00Z in microseconds."""
MEMBERS, PEOPLE, ORGS = 200_000, 160_000, 1_000
EVENTS = 50_000
STATUSES = ("registered", "attended", "partial", "no_show", "cancelled", "waitlisted")
SECTIONS = ("skills", "work_history", "photo")
CHUNK_ROWS = 1_000_000


def generate(rows: int, folder: Path) -> None:
    """Write Parquet files for `rows` rows of attendance, and others in proportion to them."""
    tables = _Tables(folder)
    tables.memberships()
    for part, start in enumerate(range(0, rows, CHUNK_ROWS)):
        tables.attendance(min(CHUNK_ROWS, rows - start), part)
    tables.views_and_interactions(rows // 10)
    tables.notifications(rows // 10)
    tables.profile_updates(rows // 100)
    (folder / "complete").touch()


class _Tables:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._random = np.random.default_rng(SEED)

    def memberships(self) -> None:
        joined = AS_OF - self._random.integers(-10 * DAY, 1_000 * DAY, MEMBERS)
        left = joined + self._random.integers(DAY, 500 * DAY, MEMBERS)
        columns = _pair(np.arange(MEMBERS))
        self._write(
            "memberships", {**columns, "joined_at": joined, "left_at": self._some(0.1, left)}
        )

    def attendance(self, n: int, part: int) -> None:
        created = self._moments(n)
        responded = created + self._random.integers(0, 20 * DAY, n)
        columns = {
            **self._pairs(n),
            "event_id": self._events(n),
            "status": np.array(STATUSES)[self._random.integers(0, len(STATUSES), n)],
            "created_at": created,
            "responded_at": self._some(0.6, responded),
        }
        self._write("attendance", columns, part)

    def views_and_interactions(self, n: int) -> None:
        views = {**self._pairs(n), "event_id": self._events(n), "viewed_at": self._moments(n)}
        self._write("event_views", views)
        self._write("interactions", {**self._pairs(n), "sent_at": self._moments(n)})

    def notifications(self, n: int) -> None:
        """60 % are read, and 30 % of those twice."""
        to, sent, numbers = self._pairs(n), self._moments(n), np.arange(n)
        columns = {
            "notification_id": _ids("n", numbers),
            "user_id": to["user_id"],
            "org_id": self._some(0.5, to["org_id"]),
            "sent_at": sent,
        }
        self._write("notifications", columns)
        read = numbers[self._random.random(n) < 0.6]
        read = np.concatenate([read, read[self._random.random(len(read)) < 0.3]])
        read_at = sent[read] + self._random.integers(0, 5 * DAY, len(read))
        self._write("notification_reads", {"notification_id": _ids("n", read), "read_at": read_at})

    def profile_updates(self, n: int) -> None:
        columns = {
            "user_id": self._pairs(n)["user_id"],
            "section": np.array(SECTIONS)[self._random.integers(0, len(SECTIONS), n)],
            "updated_at": self._moments(n),
        }
        self._write("profile_updates", columns)

    def _pairs(self, n: int) -> dict[str, pl.Series]:
        return _pair((self._random.random(n) ** 2 * MEMBERS).astype(np.int64))

    def _events(self, n: int) -> pl.Series:
        return _ids("e", self._random.integers(0, EVENTS, n))

    def _moments(self, n: int) -> Any:
        return AS_OF + 15 * DAY - self._random.integers(0, 730 * DAY, n)

    def _some(self, share: float, values: Any) -> pl.Series:
        has_value = pl.Series(self._random.random(len(values)) < share)
        return pl.select(pl.when(has_value).then(pl.Series(values))).to_series()

    def _write(self, table: str, columns: dict[str, Any], part: int = 0) -> None:
        target = self._folder / table
        target.mkdir(parents=True, exist_ok=True)
        pl.DataFrame(columns).write_parquet(target / f"{part:04}.parquet")


def _pair(member: Any) -> dict[str, pl.Series]:
    # The second membership of a person is in the organisation after the first one's.
    org = (member % ORGS + member // PEOPLE) % ORGS
    return {"org_id": _ids("o", org), "user_id": _ids("u", member % PEOPLE)}


def _ids(prefix: str, numbers: Any) -> pl.Series:
    return pl.Series(numbers).cast(pl.String).str.zfill(7).str.replace("^", prefix)
