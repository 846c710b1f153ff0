"""Looking at tables as they are: rows, broken promises, and references to what is not there."""

from dataclasses import dataclass

from engagement_pipeline.contracts import Contract
from engagement_pipeline.warehouse.connection import Connection


@dataclass(frozen=True)
class Violation:
    """A promise of a contract that `rows` rows of its table break."""

    column_name: str
    promise: str
    rows: int


_MEMBERSHIP = ("without a membership", "memberships", ("org_id", "user_id"))
_EVENT = ("of an unknown event", "events", ("event_id",))

_REFERENCES: dict[str, tuple[tuple[str, str, tuple[str, ...]], ...]] = {
    "attendance": (_MEMBERSHIP, _EVENT),
    "event_views": (_MEMBERSHIP, _EVENT),
    "notifications": (("to a person without any membership", "memberships", ("user_id",)),),
    "notification_reads": (("of an unknown notification", "notifications", ("notification_id",)),),
    "interactions": (_MEMBERSHIP,),
    "override_requests": (_MEMBERSHIP,),
    "profile_updates": (("of a person without a profile", "profiles", ("user_id",)),),
}
"""Table -> what its rows refer to: in words, the table referred to, and the columns."""


def row_count(connection: Connection, table: Contract) -> int:
    """The rows of a table."""
    found = connection.execute(f"SELECT count(*) FROM {table.full_name}").fetchall()[0]
    assert found is not None
    return int(found[0])


def violations(connection: Connection, table: Contract) -> list[Violation]:
    """The promises of its contract that a table breaks; none if all is well."""
    rows = connection.execute(table.violations_query()).fetchall()
    return [Violation(*row) for row in rows]


def gaps(connection: Connection, table: Contract) -> list[tuple[str, int]]:
    """How many rows of a table refer to something that is not there, by what they lack."""
    found = []
    for words, other, columns in _REFERENCES.get(table.name, ()):
        same = " AND ".join(f"o.{column} = t.{column}" for column in columns)
        row = connection.execute(
            f"SELECT count(*) FROM {table.full_name} AS t ANTI JOIN raw.{other} AS o ON {same}"
        ).fetchall()[0]
        assert row is not None
        found.append((words, int(row[0])))
    return found
