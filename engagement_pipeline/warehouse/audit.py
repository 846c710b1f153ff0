"""What the marts must keep before anyone may read them, as checks that can be listed and run.

A check is known by name before there is any data, so that it can be shown where people look. What
is promised is in the contracts and in the schema files beside the models; when to check, and what
follows from a failure, belongs to `publication`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from engagement_pipeline.contracts import Contract, contract
from engagement_pipeline.warehouse.connection import Connection
from engagement_pipeline.warehouse.sql_models import SqlProject, SqlTest, relation

CONTRACT_CHECK = "keeps_contract"
EXAMPLES = 3


@dataclass(frozen=True)
class CheckResult:
    """How one check ended; `asset` is `schema.table`, `examples` show a few of the bad rows."""

    name: str
    asset: str
    column: str | None
    passed: bool
    failing_rows: int
    description: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Check:
    """One check that has not run: its name (unique on its asset), and what it looks for."""

    name: str
    asset: str
    column: str | None
    description: str
    _run: Callable[[Connection], tuple[int, tuple[str, ...]]]

    def run(self, connection: Connection) -> CheckResult:
        failing_rows, examples = self._run(connection)
        return CheckResult(
            name=self.name,
            asset=self.asset,
            column=self.column,
            passed=failing_rows == 0,
            failing_rows=failing_rows,
            description=self.description,
            examples=examples,
        )


class AuditError(RuntimeError):
    """Some checks failed, so nothing was published. `results` has all checks, the text the failed
    ones."""

    def __init__(self, results: Sequence[CheckResult]) -> None:
        self.results = tuple(results)
        self.failed = tuple(r for r in results if not r.passed)
        listed = "; ".join(
            f"{r.asset}: {r.name}: {r.failing_rows} row{'s' * (r.failing_rows != 1)}"
            + (f", such as {', '.join(r.examples)}" if r.examples else "")
            for r in self.failed
        )
        super().__init__(
            f"nothing was published, because {len(self.failed)} of {len(results)} checks "
            f"failed: {listed}"
        )


def planned_checks(project: SqlProject, catalogs: Mapping[str, str] | None = None) -> list[Check]:
    """Every check of the project: the contract of each mart, and each test of the schema files.

    Marts are looked for in the catalog that `catalogs` gives for their schema.
    """
    places = catalogs or {}
    marts = [model.full_name for model in project.tables]
    checks = [_contract_check(contract(name), relation(name, places)) for name in marts]
    return checks + [_test_check(project, test, places) for test in project.tests]


def run_checks(connection: Connection, checks: Iterable[Check]) -> list[CheckResult]:
    """Run all checks; none stops the others."""
    return [check.run(connection) for check in checks]


def _contract_check(kept: Contract, table: str) -> Check:
    def run(connection: Connection) -> tuple[int, tuple[str, ...]]:
        broken = connection.execute(kept.violations_query(table)).fetchall()
        examples = [
            f"{column} {promise} ({rows}): {example}"
            for column, promise, rows in broken
            for example in _contract_examples(connection, kept, table, column, promise)
        ]
        return sum(rows for _, _, rows in broken), tuple(examples)

    return Check(
        name=CONTRACT_CHECK,
        asset=kept.full_name,
        column=None,
        description=f"Every row keeps the contract of `{kept.full_name}`"
        + (f", and ({', '.join(kept.key)}) is unique." if kept.key else "."),
        _run=run,
    )


def _contract_examples(
    connection: Connection, kept: Contract, table: str, column: str, promise: str
) -> Iterable[str]:
    key = ", ".join(f'"{name}"' for name in kept.key) or "*"
    conditions = {
        (found.name, name): condition
        for found in kept.columns
        for name, condition in found.violation_sql
    }
    condition = conditions.get((column, promise))
    if condition is None:
        sql = f"SELECT {key} FROM {table} GROUP BY {key} HAVING count(*) > 1"
    else:
        sql = f"SELECT {key} FROM {table} WHERE {condition}"
    return _examples(connection, sql)


def _test_check(project: SqlProject, test: SqlTest, catalogs: Mapping[str, str]) -> Check:
    sql = project.test_sql(test, catalogs)
    model = project.model(test.model)
    key = contract(model.full_name).key if model.is_table and test.kind != "unique" else ()

    def run(connection: Connection) -> tuple[int, tuple[str, ...]]:
        found = connection.execute(f"SELECT count(*) FROM ({sql}) AS failing").fetchall()[0]
        assert found is not None
        failing_rows = int(found[0])
        if not failing_rows:
            return 0, ()
        shown = ", ".join(f'"{name}"' for name in dict.fromkeys([*key, test.column]))
        return failing_rows, tuple(_examples(connection, f"SELECT {shown} FROM ({sql}) AS failing"))

    return Check(
        name=test.name,
        asset=model.full_name,
        column=test.column,
        description=test.description,
        _run=run,
    )


def _examples(connection: Connection, sql: str) -> Iterable[str]:
    # As text already: DuckDB gives an instant to Python only where pytz is installed.
    rows = connection.execute(
        f"SELECT CAST(COLUMNS(*) AS VARCHAR) FROM ({sql} ORDER BY ALL LIMIT {EXAMPLES}) AS bad"
    ).fetchall()
    return [f"({', '.join(map(str, row))})" for row in rows]
