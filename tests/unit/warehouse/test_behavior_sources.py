"""What behaviour is predicted from, out of a real warehouse: whole people, and nothing unknown."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from engagement_pipeline.behavior import churn_samples
from engagement_pipeline.behavior.features import member_features
from engagement_pipeline.behavior.sources import BehaviorSources
from engagement_pipeline.contracts import contract
from engagement_pipeline.warehouse.behavior_sources import slices, source_starts
from engagement_pipeline.warehouse.connection import Connection, Warehouse
from engagement_pipeline.warehouse.frames import append
from engagement_pipeline.warehouse.schema import upgrade

AS_OF = datetime(2026, 3, 1, 4, tzinfo=UTC)
PEOPLE = 60


def _ago(days: float) -> datetime:
    return AS_OF - timedelta(days=days)


def _put(connection: Connection, table: str, rows: list[dict[str, object]]) -> None:
    append(connection, table, pl.DataFrame(rows, schema=contract(table).polars_schema))


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    """Sixty members who each came, were told, read and spoke; nobody looked at an event."""
    with Warehouse(tmp_path / "w.duckdb", tmp_path / "spool").open() as opened:
        upgrade(opened, now=AS_OF)
        people = [{"org_id": f"o{n % 3}", "user_id": f"u{n}"} for n in range(PEOPLE)]
        _put(
            opened,
            "raw.memberships",
            [person | {"role": "member", "joined_at": _ago(200)} for person in people],
        )
        came = {"event_id": "e1", "status": "attended", "created_at": _ago(50)}
        _put(opened, "raw.attendance", [person | came for person in people])
        told = {"feature": "news", "sent_at": _ago(10)}
        _put(
            opened,
            "raw.notifications",
            [{"notification_id": f"n{n}", "user_id": f"u{n}"} | told for n in range(PEOPLE)],
        )
        _put(
            opened,
            "raw.notification_reads",
            [{"notification_id": f"n{n}", "read_at": _ago(9)} for n in range(0, PEOPLE, 2)],
        )
        said = {"type": "message", "sent_at": _ago(3)}
        ids = [person | {"interaction_id": person["user_id"]} for person in people]
        _put(opened, "raw.interactions", [row | said for row in ids])
        scored = {"sentiment": 0.5, "quality": 0.25, "is_meaningful": True, "session_id": "s"}
        _put(opened, "behavior.interactions_scored", [row | said | scored for row in ids])
        yield opened


def _features(connection: Connection, slice_rows: int) -> list[pl.DataFrame]:
    return [
        member_features(BehaviorSources(**frames), as_of=AS_OF)  # type: ignore[arg-type]
        for frames in slices(connection, as_of=AS_OF, slice_rows=slice_rows)
    ]


def test_slices_of_people_give_together_what_all_at_once_give(connection: Connection) -> None:
    (whole,) = _features(connection, 1_000_000)
    parts = _features(connection, 50)
    assert len(parts) == 5
    assert sum(0 < part.height < PEOPLE for part in parts) > 2
    assert pl.concat(parts).sort("org_id", "user_id").equals(whole)


def test_all_tables_reach_the_features_and_one_without_rows_is_unknown(
    connection: Connection,
) -> None:
    (whole,) = _features(connection, 1_000_000)
    row = whole.row(by_predicate=pl.col("user_id") == "u2", named=True)
    assert row["days_since_joined"] == pytest.approx(200)
    assert row["days_since_attended"] == pytest.approx(50)
    assert row["days_since_read"] == pytest.approx(9)
    assert row["notifications_read_share_90d"] == 1
    assert (row["mean_sentiment_30d"], row["mean_quality_30d"]) == (0.5, 0.25)
    assert row["event_views_90d"] is None
    early = next(slices(connection, as_of=_ago(5), slice_rows=1_000))
    assert [table for table, rows in early.items() if rows is None] == [
        "event_views",
        "interactions",
    ]


def _starts(connection: Connection) -> dict[str, datetime]:
    return dict(source_starts(connection)[0].iter_rows())


def test_an_organisation_starts_with_the_first_row_of_any_table(connection: Connection) -> None:
    connection.execute("DELETE FROM raw.attendance WHERE org_id <> 'o0'")
    assert _starts(connection) == {"o0": _ago(50), "o1": _ago(9), "o2": _ago(9)}
    connection.execute("DELETE FROM raw.notification_reads")
    assert _starts(connection) == {"o0": _ago(50), "o1": _ago(3), "o2": _ago(3)}
    connection.execute("DELETE FROM behavior.interactions_scored WHERE org_id = 'o1'")
    assert _starts(connection) == {"o0": _ago(50), "o2": _ago(3)}


def test_a_first_read_counts_for_the_organisation_it_names_or_all_joined_by_then(
    connection: Connection,
) -> None:
    for table in ("raw.attendance", "behavior.interactions_scored", "raw.notifications"):
        connection.execute(f"DELETE FROM {table}")
    told = {"user_id": "u0", "feature": "news", "sent_at": _ago(100)}
    _put(
        connection,
        "raw.notifications",
        [
            told | {"notification_id": "n0", "org_id": "named"},
            told | {"notification_id": "n2"},
        ],
    )
    member = {"user_id": "u0", "role": "member"}
    _put(
        connection,
        "raw.memberships",
        [
            member | {"org_id": "left", "joined_at": _ago(80), "left_at": _ago(60)},
            member | {"org_id": "later", "joined_at": _ago(8)},
        ],
    )
    # Who comes back to a notification reads it for the first time once.
    revisits = [{"notification_id": n, "read_at": _ago(7)} for n in ("n0", "n2")]
    _put(connection, "raw.notification_reads", revisits)
    assert _starts(connection) == dict.fromkeys(("left", "named", "o0"), _ago(9))


def test_a_table_starts_with_its_first_row_if_it_has_any(connection: Connection) -> None:
    _, tables = source_starts(connection)
    assert tables == {"notifications": _ago(10), "interactions": _ago(3)}
    looked = {"org_id": "o1", "event_id": "e1", "user_id": "u1"}
    views = [looked | {"viewed_at": _ago(days)} for days in (6, 12)]
    _put(connection, "raw.event_views", views)
    assert source_starts(connection)[1] == tables | {"event_views": _ago(12)}


def test_the_starts_are_those_that_the_frames_tell_and_slices_begin_alike(
    connection: Connection,
) -> None:
    connection.execute("DELETE FROM raw.attendance WHERE org_id = 'o1'")
    connection.execute("UPDATE raw.notifications SET org_id = 'o2' WHERE user_id = 'u5'")
    starts = churn_samples.SourceStarts(*source_starts(connection))
    moments = [_ago(days) for days in (60, 49, 8, 2)]

    def sampled(slice_rows: int, starts: churn_samples.SourceStarts | None) -> list[pl.DataFrame]:
        return [
            churn_samples.churn_samples(
                BehaviorSources(**frames),  # type: ignore[arg-type]
                moments,
                horizon_days=2,
                starts=starts,
            )
            for frames in slices(connection, as_of=AS_OF, slice_rows=slice_rows)
        ]

    (frames,) = slices(connection, as_of=AS_OF, slice_rows=1_000_000)
    told = churn_samples.source_starts(BehaviorSources(**frames))  # type: ignore[arg-type]
    assert told.orgs.equals(starts.orgs)
    assert told.tables == starts.tables
    (whole,) = sampled(1_000_000, None)
    parts = pl.concat(sampled(50, starts)).sort("cutoff", "org_id", "user_id")
    assert parts.equals(whole)
    counted = whole.group_by("org_id").agg(pl.col("cutoff").n_unique()).sort("org_id")
    assert counted.rows() == [("o0", 3), ("o1", 2), ("o2", 3)]
