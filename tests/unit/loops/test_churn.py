"""Whether a member of whom churn was predicted did anything since."""

import random
from datetime import UTC, datetime, timedelta

import duckdb
import polars as pl
import pytest

from engagement_pipeline.behavior.last_activity import last_activity
from engagement_pipeline.contracts import contract
from engagement_pipeline.loops.churn import CHURN, churn_outcomes
from engagement_pipeline.signals.sources import SignalSources
from engagement_pipeline.warehouse.frames import append

MADE = datetime(2026, 3, 1, 4, tzinfo=UTC)
DUE = MADE + timedelta(days=30)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Row = dict[str, object]


def _us(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def _moment(dice: random.Random) -> int:
    """Before the prediction, within its horizon, after it, or on one of its ends."""
    ends = [MADE, DUE]
    exact = dice.choice(ends) + timedelta(microseconds=dice.choice((-1, 0, 1)))
    return _us(dice.choice([exact, MADE + timedelta(days=dice.uniform(-40, 45))]))


def _community(seed: int) -> dict[str, pl.DataFrame]:
    dice = random.Random(seed)
    users = [f"u{n}" for n in range(40)]
    tables: dict[str, list[Row]] = {
        "memberships": [
            {"org_id": "o", "user_id": u, "joined_at": _us(MADE) - 10**13, "left_at": None}
            for u in users
        ],
        "attendance": [],
        "notifications": [],
        "notification_reads": [],
        "interactions": [],
    }
    for number, user in enumerate(users):
        for event in range(dice.randrange(3)):
            created = _moment(dice)
            responded = created + dice.randrange(10**12) if dice.random() < 0.6 else None
            status = dice.choice(["attended", "partial", "registered", "cancelled", "no_show"])
            tables["attendance"].append(
                {
                    "org_id": "o",
                    "event_id": f"e{number}-{event}",
                    "user_id": user,
                    "status": status,
                    "created_at": created,
                    "responded_at": responded,
                }
            )
        if dice.random() < 0.3:
            tables["interactions"].append(
                {"org_id": "o", "user_id": user, "sent_at": _moment(dice)}
            )
        if dice.random() < 0.4:
            name, sent = f"n{number}", _us(MADE) - 10**12
            tables["notifications"].append(
                {"notification_id": name, "user_id": user, "org_id": None, "sent_at": sent}
            )
            tables["notification_reads"] += [
                {"notification_id": name, "read_at": _moment(dice)} for _ in range(2)
            ]
    frames = {name: pl.DataFrame(rows) for name, rows in tables.items()}
    # Columns without any value have no type by themselves.
    nowhere = pl.col("org_id").cast(pl.String)
    frames["notifications"] = frames["notifications"].with_columns(nowhere)
    still = pl.col("left_at").cast(pl.Int64)
    frames["memberships"] = frames["memberships"].with_columns(still)
    return frames


def _predictions(users: int) -> pl.DataFrame:
    table = contract("loops.predictions")
    rows = [
        {
            "prediction_id": f"p{n}",
            "kind": CHURN,
            "org_id": "o",
            "user_id": f"u{n}",
            "subject": f"u{n}",
            "predicted": 0.5,
            "made_at": MADE,
            "due_at": DUE,
            "predicted_by": "a-model",
        }
        for n in range(users)
    ]
    return table.validate(pl.DataFrame(rows, schema=table.polars_schema))


def _was_active(tables: dict[str, pl.DataFrame], user: str) -> bool:
    """Whether the person did something in `(MADE, DUE]`, as far as it was known at its end."""
    start, end = _us(MADE), _us(DUE)
    moments = []
    for row in tables["attendance"].filter(user_id=user).to_dicts():
        settled_at = row["created_at"] if row["responded_at"] is None else row["responded_at"]
        is_settled = settled_at <= end
        if is_settled and row["status"] in ("attended", "partial"):
            moments.append(settled_at)
        if not (is_settled and row["status"] in ("cancelled", "waitlisted")):
            moments.append(row["created_at"])
    moments += tables["interactions"].filter(user_id=user)["sent_at"].to_list()
    for name in tables["notifications"].filter(user_id=user)["notification_id"]:
        known = [
            at
            for at in tables["notification_reads"].filter(notification_id=name)["read_at"]
            if at <= end
        ]
        moments += [min(known)] if known else []
    # The newest counts, as of those first reads and answers that were known.
    return any(start < moment <= end for moment in moments)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("engine", ["polars", "duckdb"])
def test_a_member_churned_who_did_nothing_that_counts_within_the_horizon(
    seed: int, engine: str
) -> None:
    tables = _community(seed)
    with duckdb.connect() as connection:
        frames: dict[str, object] = {}
        for name, frame in tables.items():
            if engine == "polars":
                frames[name] = frame.lazy()
                continue
            columns = ", ".join(
                f"{c} {'VARCHAR' if t == pl.String else 'BIGINT'}" for c, t in frame.schema.items()
            )
            connection.execute(f"CREATE TABLE {name} ({columns})")
            append(connection, name, frame)
            frames[name] = connection.table(name)
        found = last_activity(SignalSources(**frames), at=DUE).to_native()  # type: ignore[arg-type]
        last = found.collect() if engine == "polars" else pl.DataFrame(found)
    outcomes = churn_outcomes(_predictions(40), last)
    told = dict(outcomes.select("user_id", "outcome").iter_rows())
    expected = {f"u{n}": float(not _was_active(tables, f"u{n}")) for n in range(40)}
    assert told == expected
    assert {0.0, 1.0} == set(expected.values())


def test_whoever_never_did_anything_churned() -> None:
    nobody = pl.DataFrame(schema={"org_id": pl.String, "user_id": pl.String, "last_at": pl.Int64})
    assert churn_outcomes(_predictions(1), nobody)["outcome"].to_list() == [1.0]


def test_without_notifications_and_interactions_attendance_alone_counts() -> None:
    tables = _community(1)
    sources = SignalSources(tables["memberships"].lazy(), tables["attendance"].lazy())
    last = last_activity(sources, at=DUE).to_native().collect()
    assert set(last["user_id"]) <= set(tables["attendance"]["user_id"])
    assert last.height
