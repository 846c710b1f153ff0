"""The SQL folder read as data: order, references, tests, lineage, and errors that name the file."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engagement_pipeline.contracts import contract, contracts
from engagement_pipeline.contracts.signals import SIGNAL_COLUMNS
from engagement_pipeline.settings import PROJECT_FOLDER
from engagement_pipeline.warehouse import schema_yaml
from engagement_pipeline.warehouse.column_lineage import UpstreamColumn, trace_columns
from engagement_pipeline.warehouse.sql_models import (
    SqlModelError,
    SqlProject,
    SqlTest,
    load_project,
    relation,
)

FOLDER = PROJECT_FOLDER / "dbt_like_sql"

PROJECT_YAML = """
name: small
models:
  small:
    staging: {+schema: staging, +materialized: view}
    marts: {+schema: marts, +materialized: table}
"""
SOURCES_YAML = """
sources:
  - name: raw
    tables:
      - name: people
        columns: [{name: person}, {name: born}]
"""

Files = dict[str, str]
Load = Callable[[Files], SqlProject]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads a small project made of the given files, with its dbt_project.yml and sources."""

    def write_and_load(files: Files) -> SqlProject:
        all_files = {
            "dbt_project.yml": PROJECT_YAML,
            "models/sources.yml": SOURCES_YAML,
            **files,
        }
        for name, text in all_files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return load_project(tmp_path)

    return write_and_load


@pytest.fixture(scope="module")
def project() -> SqlProject:
    return load_project(FOLDER)


# --- our own folder -----------------------------------------------------------------------------


def test_every_mart_with_a_contract_has_a_model_and_the_other_way_round(
    project: SqlProject,
) -> None:
    assert {m.full_name for m in project.tables} == {c.full_name for c in contracts("marts")}


def test_generated_yaml_says_what_the_contracts_say() -> None:
    for path, text in schema_yaml.files(FOLDER).items():
        assert path.read_text() == text, (
            f"{path} is out of date: python -m engagement_pipeline.warehouse.schema_yaml"
        )


def test_descriptions_and_promises_of_the_marts_are_those_of_their_contracts(
    project: SqlProject,
) -> None:
    for model in project.tables:
        promised = contract(model.full_name)
        assert model.description == promised.description
        assert model.column_descriptions == {c.name: c.description for c in promised.columns}
        tests = [t for t in project.tests if t.model == model.name]
        never_null = {c.name for c in promised.columns if not c.is_nullable}
        expected = set(promised.key) & never_null
        assert {t.column for t in tests if t.kind == "not_null"} == expected
        assert {
            t.column: tuple(t.arguments["values"]) for t in tests if "values" in t.arguments
        } == {c.name: c.allowed for c in promised.columns if c.allowed}
        unique = {t.column for t in tests if t.kind == "unique"}
        assert unique == (set(promised.key) if len(promised.key) == 1 else set())


def test_every_model_and_column_is_described(project: SqlProject) -> None:
    for model in project.models:
        assert model.description, model.name
        assert all(model.column_descriptions.values()), model.name
        assert set(model.column_descriptions) == set(project.lineage[model.full_name]), model.name


def test_every_source_is_described_with_the_columns_of_its_contract(project: SqlProject) -> None:
    for name, columns in project.source_columns.items():
        assert list(columns) == contract(name).column_names


def test_models_come_after_what_they_read(project: SqlProject) -> None:
    seen: set[str] = set()
    for model in project.models:
        assert set(model.refs) <= seen
        seen.add(model.name)


def test_models_use_no_jinja_but_ref_and_source(project: SqlProject) -> None:
    for model in project.models:
        calls = model.text.count("{{ ref('") + model.text.count("{{ source('")
        assert model.text.count("{{") == calls
        assert "{%" not in model.text


def test_every_column_has_a_lineage_and_all_are_found_fast() -> None:
    project = load_project(FOLDER)
    started = time.process_time()
    lineage = project.lineage
    assert time.process_time() - started < 2
    for name, columns in lineage.items():
        from_nothing = [c for c, found in columns.items() if not found]
        # The six loops are the same whatever the tables hold.
        assert from_nothing == (["archetype"] if name == "marts.loop_status" else []), name


def test_lineage_leads_through_staging_to_the_sources(project: SqlProject) -> None:
    member = project.lineage["marts.member_engagement"]
    assert set(member["effective_level"]) == {
        UpstreamColumn("scores.classifications", "level"),
        UpstreamColumn("staging.stg_override_spans", "level"),
        UpstreamColumn("staging.stg_override_spans", "org_id"),
    }
    assert member["display_name"] == (UpstreamColumn("raw.profiles", "display_name"),)
    for signal in SIGNAL_COLUMNS:
        assert member[signal] == (UpstreamColumn("scores.classifications", signal),)
    spans = project.lineage["staging.stg_override_spans"]
    assert spans["level"] == (UpstreamColumn("scores.override_history", "new_level"),)
    summary = project.lineage["marts.org_summary"]
    assert UpstreamColumn("marts.member_engagement", "effective_level") in summary["new_count"]
    assert UpstreamColumn("marts.engagement_history", "as_of") in summary["new_change_7d"]


def test_sources_of_a_model_are_found_through_other_models(project: SqlProject) -> None:
    assert project.sources_of("level_transitions") == (
        "raw.organizations",
        "scores.classifications",
        "scores.override_history",
        "scores.scoring_runs",
    )
    assert project.upstream("level_transitions") == ("marts.engagement_history",)


# --- any folder ---------------------------------------------------------------------------------

FIRST = "SELECT person, born FROM {{ source('raw', 'people') }}"


def test_relations_are_read_from_the_catalog_of_their_schema(load: Load) -> None:
    project = load(
        {
            "models/staging/first.sql": FIRST,
            "models/marts/second.sql": "SELECT * FROM {{ ref('first') }}",
            "models/marts/third.sql": "SELECT * FROM {{ ref('second') }}",
        }
    )
    catalogs = {"marts": "new"}
    assert project.sql("third", catalogs) == 'SELECT * FROM "new"."marts"."second"'
    assert project.sql("second", catalogs) == 'SELECT * FROM "staging"."first"'
    assert project.sql("first", catalogs).endswith('FROM "raw"."people"')
    assert relation("raw.people", {"raw": "old"}) == '"old"."raw"."people"'


def test_a_models_own_configuration_wins_over_its_folders(load: Load) -> None:
    text = "{{ config(materialized='table', schema='archive') }}" + FIRST
    model = load({"models/staging/first.sql": text}).model("first")
    assert (model.full_name, model.is_table) == ("archive.first", True)


def test_tests_are_read_in_both_of_dbts_spellings(load: Load) -> None:
    described = """
models:
  - name: first
    columns:
      - name: person
        tests:
          - unique
          - relationships: {to: "source('raw', 'people')", field: person}
        data_tests:
          - accepted_values: {arguments: {values: [1, "it's"]}}
"""
    project = load({"models/staging/first.sql": FIRST, "models/staging/schema.yml": described})
    by_kind = {test.kind: test for test in project.tests}
    assert by_kind["relationships"].arguments == {"to": "raw.people", "field": "person"}
    assert by_kind["unique"] == SqlTest("first", "person", "unique", {})
    sql = project.test_sql(by_kind["accepted_values"])
    assert sql == 'SELECT * FROM "staging"."first" WHERE "person" NOT IN (1, \'it\'\'s\')'


def test_a_query_that_cannot_be_understood_has_columns_without_lineage() -> None:
    found = trace_columns("SELECT FROM WHERE", {}, expected=["one", "two"])
    assert found == {"one": (), "two": ()}


def test_a_column_that_cannot_be_followed_does_not_hide_the_others() -> None:
    found = trace_columns(
        "SELECT person, count(*) AS n, nonsense FROM raw.people GROUP BY ALL",
        {"raw.people": ["person", "born"]},
        expected=["person", "n", "nonsense"],
    )
    assert found == {"person": (UpstreamColumn("raw.people", "person"),), "n": (), "nonsense": ()}


BROKEN: dict[str, tuple[Files, str]] = {
    "a ref to nothing": (
        {"models/marts/a.sql": "SELECT * FROM {{ ref('b') }}"},
        r"a\.sql: ref\('b'\): there is no such model",
    ),
    "a source to nothing": (
        {"models/marts/a.sql": "SELECT * FROM {{ source('raw', 'cats') }}"},
        r"a\.sql: source raw\.cats: no YAML file describes it",
    ),
    "a circle": (
        {
            "models/marts/a.sql": "SELECT * FROM {{ ref('b') }}",
            "models/marts/b.sql": "SELECT * FROM {{ ref('a') }}",
        },
        r"in a circle: (a → b → a|b → a → b)",
    ),
    "YAML that is none": ({"models/marts/schema.yml": "models: [}"}, r"schema\.yml: not YAML"),
    "YAML in another shape": (
        {"models/marts/schema.yml": "models: [{title: a}]"},
        r"schema\.yml: not in the shape of a schema file: KeyError\('name'\)",
    ),
    "YAML that is a list": ({"models/x.yml": "[1]"}, r"x\.yml: expected a mapping, found list"),
    "a description of nothing": (
        {"models/marts/schema.yml": "models: [{name: a}]"},
        r"schema\.yml: describes the model 'a', which has no \.sql file",
    ),
    "a model described twice": (
        {"models/marts/schema.yml": "models: [{name: a}, {name: a}]"},
        r"schema\.yml: 'a' is described in .*schema\.yml too",
    ),
    "two models of a name": (
        {"models/marts/a.sql": FIRST, "models/staging/a.sql": FIRST},
        r"a\.sql: .*a\.sql has the same name",
    ),
    "a folder without a schema": (
        {"models/attic/a.sql": FIRST},
        r"a\.sql: dbt_project\.yml gives no schema to models/attic, only to staging, marts",
    ),
    "other Jinja": (
        {"models/marts/a.sql": "SELECT {{ var('days') }}"},
        r"a\.sql: only ref\('model'\).*'var' is undefined",
    ),
    "Jinja that is none": ({"models/marts/a.sql": "SELECT {{ ref('b'"}, r"a\.sql: only ref"),
    "a materialization of dbt's that is not known here": (
        {"models/marts/a.sql": "{{ config(materialized='incremental') }}" + FIRST},
        r"a\.sql: .*view or table; found 'incremental'",
    ),
    "an unknown test": (
        {
            "models/marts/a.sql": FIRST,
            "models/marts/schema.yml": "models: [{name: a, columns: [{name: x, tests: [nice]}]}]",
        },
        r"schema\.yml: a\.x: nice: expected one of the tests not_null, unique,",
    ),
    "a test without its arguments": (
        {
            "models/marts/a.sql": FIRST,
            "models/marts/schema.yml": "models: [{name: a, columns: [{name: x, tests: "
            "[accepted_values: {vals: [1]}]}]}]",
        },
        r"schema\.yml: a\.x: accepted_values: expected the arguments \['values'\], "
        r"found \['vals'\]",
    ),
    "a relationship to nothing": (
        {
            "models/marts/a.sql": FIRST,
            "models/marts/schema.yml": "models: [{name: a, columns: [{name: x, tests: "
            "[relationships: {to: ref('b'), field: x}]}]}]",
        },
        r"schema\.yml: a\.x: relationships: there is no model or source ref\('b'\)",
    ),
    "a test twice": (
        {
            "models/marts/a.sql": FIRST,
            "models/marts/schema.yml": "models: [{name: a, columns: [{name: x, tests: "
            "[unique, unique]}]}]",
        },
        r"schema\.yml: a: x_unique twice",
    ),
    "a test of a whole model": (
        {
            "models/marts/a.sql": FIRST,
            "models/marts/schema.yml": "models: [{name: a, tests: [unique]}]",
        },
        r"schema\.yml: a: tests belong under a column",
    ),
    "a test of a source": (
        {"models/more.yml": "sources: [{name: r, tables: [{name: t, tests: [x]}]}]"},
        r"more\.yml: r\.t: tests of sources do not run here",
    ),
}


@pytest.mark.parametrize(("files", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_folder_is_refused_with_the_file_and_the_cause(
    load: Load, files: Files, message: str
) -> None:
    with pytest.raises(SqlModelError, match=message):
        load(files)


def test_a_folder_that_is_no_project_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(SqlModelError, match=r"dbt_project\.yml: cannot be read"):
        load_project(tmp_path)
