"""The SQL models: a folder that dbt accepts, read as data.

Here the folder becomes models in topological order, their SQL and that of their tests, and where
each column comes from. Only text is worked on: no database is opened, and nothing is run. Building
and checking the marts belongs to `publication` and `audit`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from engagement_pipeline.warehouse.column_lineage import ColumnLineage, trace_columns
from engagement_pipeline.warehouse.sql_schema_files import SchemaFiles, SqlTest, read_yaml
from engagement_pipeline.warehouse.sql_templates import SqlModelError, render

__all__ = ["SqlModel", "SqlModelError", "SqlProject", "SqlTest", "load_project", "relation"]

_MATERIALIZED = ("view", "table")
_NO_CATALOGS: Mapping[str, str] = {}


@dataclass(frozen=True)
class SqlModel:
    """One SELECT: where its file is, what it becomes, and what it reads (`refs` by name,
    `sources` as `schema.table`; both sorted)."""

    name: str
    schema: str
    is_table: bool
    path: Path
    text: str
    refs: tuple[str, ...]
    sources: tuple[str, ...]
    description: str
    column_descriptions: Mapping[str, str]

    @property
    def full_name(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class SqlProject:
    """All models, each after those it reads; all tests; the columns of all sources."""

    folder: Path
    models: tuple[SqlModel, ...]
    tests: tuple[SqlTest, ...]
    source_columns: Mapping[str, tuple[str, ...]]

    @property
    def views(self) -> tuple[SqlModel, ...]:
        return tuple(m for m in self.models if not m.is_table)

    @property
    def tables(self) -> tuple[SqlModel, ...]:
        return tuple(m for m in self.models if m.is_table)

    def model(self, name: str) -> SqlModel:
        """The model of that name. Raises `KeyError` naming it if there is none."""
        return self._by_name[name]

    def upstream(self, name: str) -> tuple[str, ...]:
        """`schema.table` of all that a model reads directly: models, then sources."""
        model = self.model(name)
        return (*(self.model(ref).full_name for ref in model.refs), *model.sources)

    def sources_of(self, name: str) -> tuple[str, ...]:
        """`schema.table` of every source that a model reads, by itself or through others."""
        model = self.model(name)
        below = [source for ref in model.refs for source in self.sources_of(ref)]
        return tuple(sorted({*model.sources, *below}))

    def sql(self, name: str, catalogs: Mapping[str, str] = _NO_CATALOGS) -> str:
        """A model's SELECT; relations of a schema in `catalogs` are read from that catalog."""
        model = self.model(name)
        return render(
            str(model.path),
            model.text,
            ref=lambda ref: relation(self.model(ref).full_name, catalogs),
            source=lambda source: relation(source, catalogs),
        )

    def test_sql(self, test: SqlTest, catalogs: Mapping[str, str] = _NO_CATALOGS) -> str:
        """A SELECT that gives the rows (for `unique`: the values) that fail a test."""
        table = relation(self.model(test.model).full_name, catalogs)
        column = f'"{test.column}"'
        match test.kind:
            case "not_null":
                return f"SELECT * FROM {table} WHERE {column} IS NULL"
            case "unique":
                return (
                    f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL "
                    f"GROUP BY {column} HAVING count(*) > 1"
                )
            case "accepted_values":
                values = ", ".join(_literal(value) for value in test.arguments["values"])
                return f"SELECT * FROM {table} WHERE {column} NOT IN ({values})"
        parent = relation(test.arguments["to"], catalogs)
        field = f'"{test.arguments["field"]}"'
        return (
            f"SELECT child.* FROM {table} AS child ANTI JOIN {parent} AS parent "
            f"ON child.{column} = parent.{field} WHERE child.{column} IS NOT NULL"
        )

    @cached_property
    def lineage(self) -> Mapping[str, ColumnLineage]:
        """By `schema.table` of a model, then by column: the columns, one step up, that its values
        are made from. A column that cannot be followed has none."""
        columns: dict[str, tuple[str, ...]] = dict(self.source_columns)
        found: dict[str, ColumnLineage] = {}
        for model in self.models:
            read = {name: columns[name] for name in self.upstream(model.name)}
            found[model.full_name] = trace_columns(
                self.sql(model.name), read, expected=tuple(model.column_descriptions)
            )
            columns[model.full_name] = tuple(found[model.full_name])
        return found

    @cached_property
    def _by_name(self) -> Mapping[str, SqlModel]:
        return {model.name: model for model in self.models}


def relation(full_name: str, catalogs: Mapping[str, str] = _NO_CATALOGS) -> str:
    """`schema.table` as SQL names it, with the catalog that holds its schema if one is given."""
    schema, _, table = full_name.partition(".")
    catalog = catalogs.get(schema)
    return ".".join(f'"{part}"' for part in (catalog, schema, table) if part)


def load_project(folder: Path) -> SqlProject:
    """Read all of the folder.

    Raises:
        SqlModelError: names the file that is missing or broken, a reference to a model or source
            that does not exist, or the models of a circle.
    """
    rooms = _rooms(folder)
    described = SchemaFiles(folder)
    models: dict[str, SqlModel] = {}
    for path in sorted((folder / "models").rglob("*.sql")):
        model = _model(path, folder, rooms, described)
        if model.name in models:
            raise SqlModelError(f"{path}: {models[model.name].path} has the same name")
        models[model.name] = model
    for name, path in described.paths.items():
        if name not in models:
            raise SqlModelError(f"{path}: describes the model {name!r}, which has no .sql file")
    _check_references(models, described)
    return SqlProject(
        folder=folder,
        models=tuple(models[name] for name in _ordered(models)),
        tests=tuple(described.tests({m.name: m.full_name for m in models.values()})),
        source_columns=described.source_columns,
    )


def _rooms(folder: Path) -> dict[str, tuple[str, str]]:
    """Folder under `models/` → (schema, materialized) of its models, from dbt_project.yml."""
    project = read_yaml(folder / "dbt_project.yml")
    configured = (project.get("models") or {}).get(project.get("name")) or {}
    return {
        name: (str(entry.get("+schema", name)), str(entry.get("+materialized", "view")))
        for name, entry in configured.items()
        if isinstance(entry, dict)
    }


def _model(
    path: Path, folder: Path, rooms: Mapping[str, tuple[str, str]], described: SchemaFiles
) -> SqlModel:
    room = path.relative_to(folder / "models").parts[0]
    if room not in rooms:
        raise SqlModelError(
            f"{path}: dbt_project.yml gives no schema to models/{room}, only to "
            f"{', '.join(rooms) or 'nothing'}"
        )
    text = path.read_text(encoding="utf-8")
    refs: set[str] = set()
    sources: set[str] = set()
    config: dict[str, Any] = {}
    render(str(path), text, ref=refs.add, source=sources.add, config=config.update)
    schema = config.pop("schema", rooms[room][0])
    materialized = config.pop("materialized", rooms[room][1])
    if config or materialized not in _MATERIALIZED:
        raise SqlModelError(
            f"{path}: a model may be configured with a schema, and as materialized view or table; "
            f"found {config or materialized!r}"
        )
    return SqlModel(
        name=path.stem,
        schema=schema,
        is_table=materialized == "table",
        path=path,
        text=text,
        refs=tuple(sorted(refs)),
        sources=tuple(sorted(sources)),
        description=described.description(path.stem),
        column_descriptions=described.column_descriptions(path.stem),
    )


def _check_references(models: Mapping[str, SqlModel], described: SchemaFiles) -> None:
    for model in models.values():
        for ref in model.refs:
            if ref not in models:
                raise SqlModelError(f"{model.path}: ref({ref!r}): there is no such model")
        for source in model.sources:
            if source not in described.source_columns:
                raise SqlModelError(f"{model.path}: source {source}: no YAML file describes it")


def _ordered(models: Mapping[str, SqlModel]) -> list[str]:
    """Names so that each comes after those it reads; of equals, by name."""
    sorter = TopologicalSorter({name: model.refs for name, model in models.items()})
    try:
        sorter.prepare()
    except CycleError as error:
        circle = " → ".join(error.args[1])
        raise SqlModelError(f"models read each other in a circle: {circle}") from None
    order: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        order += ready
        sorter.done(*ready)
    return order


def _literal(value: object) -> str:
    if isinstance(value, bool | int | float):
        return str(value)
    return "'" + str(value).replace("'", "''") + "'"
