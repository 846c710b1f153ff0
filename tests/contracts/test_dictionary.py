"""The data dictionary on disk."""

from engagement_pipeline.settings import PROJECT_FOLDER
from engagement_pipeline.terminal.dictionary import dictionary
from engagement_pipeline.warehouse.sql_models import load_project


def test_the_data_dictionary_says_what_the_contracts_say() -> None:
    written = (PROJECT_FOLDER / "docs" / "data-dictionary.md").read_text(encoding="utf-8")
    assert written == dictionary(load_project(PROJECT_FOLDER / "dbt_like_sql")), "run `make docs`"
