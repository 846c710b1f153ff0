"""A tiny source that a reader of a test can hold in mind: three organisations, nine members."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

AS_OF = datetime(2026, 3, 1, 4, tzinfo=UTC)
ORGS = ("choir", "garden", "runners")
ADMIN = "ada"


def ago(days: float) -> str:
    """So many days before `AS_OF`, as a file has it."""
    return (AS_OF - timedelta(days=days)).isoformat()


def write_small_source(folder: Path) -> Path:
    """Write the three required tables; more can be written beside them with `write_table`."""
    write_table(folder, "organizations", ["org_id", "name"], [[org, org.title()] for org in ORGS])
    write_table(
        folder,
        "memberships",
        ["org_id", "user_id", "role", "joined_at"],
        [
            row
            for org in ORGS
            for row in (
                [org, ADMIN, "admin", ago(700)],
                [org, "keen", "member", ago(400)],
                [org, "lost", "member", ago(400)],
            )
        ],
    )
    write_table(
        folder,
        "attendance",
        ["org_id", "event_id", "user_id", "status", "created_at"],
        [
            row
            for org in ORGS
            for row in (
                *([org, f"{org}-{days}", "keen", "attended", ago(days)] for days in (5, 20, 40)),
                [org, f"{org}-60", ADMIN, "attended", ago(60)],
                [org, f"{org}-120", "lost", "attended", ago(120)],
            )
        ],
    )
    return folder


def write_table(folder: Path, table: str, header: list[str], rows: list[list[str]]) -> Path:
    """Write a table as CSV without quoting: values must not hold commas."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{table}.csv"
    lines = [",".join(header), *(",".join(row) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


EXPECTED_LEVELS = {"keen": "highly_engaged", ADMIN: "moderate", "lost": "at_risk"}
