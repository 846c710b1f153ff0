"""What the YAML files beside the SQL models say: descriptions, tests, and the sources' columns.

Only reading belongs here. How a test becomes SQL, and what a model is, is in `sql_models`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from engagement_pipeline.warehouse.sql_templates import SqlModelError, render

TEST_KINDS = {
    "not_null": frozenset[str](),
    "unique": frozenset[str](),
    "accepted_values": frozenset({"values"}),
    "relationships": frozenset({"to", "field"}),
}
"""The tests that a schema file may name, and the arguments of each."""


@dataclass(frozen=True)
class SqlTest:
    """One test of one column; `arguments` as written, a `to` already resolved to `schema.table`."""

    model: str
    column: str
    kind: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.column}_{self.kind}"

    @property
    def description(self) -> str:
        match self.kind:
            case "not_null":
                return f"`{self.column}` is never null."
            case "unique":
                return f"No value of `{self.column}` occurs twice."
            case "accepted_values":
                values = ", ".join(map(str, self.arguments["values"]))
                return f"`{self.column}` is one of: {values}."
        return (
            f"Every `{self.column}` is a `{self.arguments['field']}` of `{self.arguments['to']}`."
        )


class SchemaFiles:
    """All `*.yml` under `models/`.

    Attributes:
        paths: by model that is described: the file that does so.
        source_columns: by `schema.table` of a source: its columns.

    Raises:
        SqlModelError: names the file that is not YAML, or not in the shape of a schema file.
    """

    def __init__(self, folder: Path) -> None:
        self.paths: dict[str, Path] = {}
        self.source_columns: dict[str, tuple[str, ...]] = {}
        self._entries: dict[str, dict[str, Any]] = {}
        for path in sorted((folder / "models").rglob("*.yml")):
            content = read_yaml(path)
            try:
                self._take(path, content)
            except (KeyError, TypeError, AttributeError) as error:
                raise SqlModelError(
                    f"{path}: not in the shape of a schema file: {error!r}"
                ) from None

    def description(self, model: str) -> str:
        return str(self._entries.get(model, {}).get("description", "")).strip()

    def column_descriptions(self, model: str) -> dict[str, str]:
        columns = self._entries.get(model, {}).get("columns") or []
        return {c["name"]: str(c.get("description", "")).strip() for c in columns}

    def tests(self, models: Mapping[str, str]) -> Iterable[SqlTest]:
        """Every test of every column. Takes `schema.table` by name of model, which a `ref` means.

        Raises:
            SqlModelError: names the file, the column, and the test that is unknown, has other
                arguments than its kind takes, stands twice, or points to nothing.
        """
        for model, entry in self._entries.items():
            if _tests_of(entry):
                raise SqlModelError(f"{self.paths[model]}: {model}: tests belong under a column")
            for column in entry.get("columns") or []:
                seen: set[str] = set()
                for written in _tests_of(column):
                    found = self._test(models, model, column["name"], written)
                    if found.kind in seen:
                        raise SqlModelError(f"{self.paths[model]}: {model}: {found.name} twice")
                    seen.add(found.kind)
                    yield found

    def _take(self, path: Path, content: dict[str, Any]) -> None:
        for entry in content.get("models") or []:
            name = entry["name"]
            if name in self.paths:
                raise SqlModelError(f"{path}: {name!r} is described in {self.paths[name]} too")
            self.paths[name], self._entries[name] = path, entry
        for source in content.get("sources") or []:
            for table in source["tables"]:
                name = f"{source.get('schema', source['name'])}.{table['name']}"
                columns = table.get("columns") or []
                if any(_tests_of(found) for found in [table, *columns]):
                    raise SqlModelError(
                        f"{path}: {name}: tests of sources do not run here; its contract is checked"
                    )
                self.source_columns[name] = tuple(column["name"] for column in columns)

    def _test(self, models: Mapping[str, str], model: str, column: str, written: Any) -> SqlTest:
        named: dict[str, Any] = written if isinstance(written, dict) else {written: None}
        kind, given = next(iter(named.items()))
        # dbt has come to want them under `arguments`, and still takes them without.
        arguments: dict[str, Any] = {**((given or {}).get("arguments") or given or {})}
        place = f"{self.paths[model]}: {model}.{column}: {kind}"
        if kind not in TEST_KINDS:
            raise SqlModelError(f"{place}: expected one of the tests {', '.join(TEST_KINDS)}")
        if set(arguments) != TEST_KINDS[kind]:
            raise SqlModelError(
                f"{place}: expected the arguments {sorted(TEST_KINDS[kind])}, "
                f"found {sorted(arguments)}"
            )
        if kind == "relationships":
            arguments["to"] = self._resolve(place, models, arguments["to"])
        return SqlTest(model, column, kind, arguments)

    def _resolve(self, place: str, models: Mapping[str, str], expression: str) -> str:
        found: list[str] = []
        render(place, f"{{{{ {expression} }}}}", ref=found.append, source=found.append)
        target = found[0] if len(found) == 1 else ""
        if target in models:
            return models[target]
        if target in self.source_columns:
            return target
        raise SqlModelError(f"{place}: there is no model or source {expression}")


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds; raises `SqlModelError` naming the file."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SqlModelError(f"{path}: cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise SqlModelError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise SqlModelError(f"{path}: expected a mapping, found {type(found).__name__}")
    return found


def _tests_of(entry: Mapping[str, Any]) -> list[Any]:
    return [*(entry.get("data_tests") or []), *(entry.get("tests") or [])]
