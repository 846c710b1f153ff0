"""The page about models: its commands can be given, its pictures are there, its sections are whole.

The figures themselves are measured by `benchmarks.models`, on data that is not ours to ship.
"""

import ast
import re
import shlex
from pathlib import Path

import polars as pl
import pytest

from benchmarks.models import COMMAND, NEEDS, STUDIES, main
from benchmarks.models_page import (
    IMAGES,
    PAGE,
    UnmarkedPageError,
    markers,
    metric_table,
    with_section,
)
from engagement_pipeline.contracts import contract
from engagement_pipeline.settings import PROJECT_FOLDER

TEXT = PAGE.read_text(encoding="utf-8")


def _section(study: str) -> str:
    begin, end = markers(study)
    return TEXT.partition(begin)[2].partition(end)[0]


def _options() -> dict[str, set[str]]:
    """Each command's options, read from the source: to import the command line takes seconds."""
    package = PROJECT_FOLDER / "engagement_pipeline"
    paths = [package / "cli.py", *(package / "terminal").glob("*_commands.py")]
    found = {}
    for path in paths:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                names = {argument.arg.replace("_", "-") for argument in node.args.args}
                found[node.name.replace("_", "-")] = {f"--{name}" for name in names}
    return found


def test_every_command_on_the_page_can_be_given() -> None:
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL))
    given = [re.sub(r"<[^>]*>", "x", line) for line in blocks.splitlines()]
    given += re.findall(r"`(engagement [a-z][^`]*)`", TEXT)
    options = _options()
    assert len(given) > 5
    for line in given:
        words = shlex.split(line, comments=True)
        assert words[0] == "engagement"
        assert words[1] in options, line
        assert {word for word in words[2:] if word.startswith("--")} <= options[words[1]], line


def test_every_study_has_a_section_that_begins_with_its_command() -> None:
    named = set(re.findall(rf"`{re.escape(COMMAND)} (\w+)`", TEXT))
    assert named == set(STUDIES) >= set(NEEDS)
    for study in STUDIES:
        lines = [line for line in _section(study).splitlines() if line]
        assert lines[0].startswith("### ")
        assert lines[1] == f"`{COMMAND} {study}`"


def test_every_picture_on_the_page_is_there_and_no_other() -> None:
    shown = set(re.findall(r"!\[[^\]]+\]\(images/([^)]+)\)", TEXT))
    assert shown
    assert shown == {path.name for path in IMAGES.glob("*.png")}
    for name in shown:
        assert (IMAGES / name).read_bytes().startswith(b"\x89PNG")


def test_a_study_changes_its_own_section_and_nothing_else() -> None:
    page = "a\n" + "\nb\n".join("\n".join(markers(study)) for study in STUDIES) + "\nc\n"
    once = with_section(page, "tweets", "### New\n")
    begin, end = markers("tweets")
    assert once == page.replace(f"{begin}\n{end}", f"{begin}\n\n### New\n\n{end}")
    assert with_section(once, "tweets", "### New") == once
    assert with_section(with_section(once, "cdnow", "x"), "cdnow", "").count("### New") == 1


@pytest.mark.parametrize("page", ["", "{end} {begin}", "{begin}", "{begin} {end} {begin} {end}"])
def test_a_page_without_room_for_a_section_is_refused(page: str) -> None:
    begin, end = markers("cost")
    with pytest.raises(UnmarkedPageError, match="measured cost: begin"):
        with_section(page.format(begin=begin, end=end), "cost", "x")


def test_figures_stand_with_their_intervals_baselines_first_and_who_serves_in_bold() -> None:
    def row(
        model: str, value: float, lower: float | None, *, is_baseline: bool
    ) -> dict[str, object]:
        return {
            "model": model,
            "metric": "roc_auc",
            "value": value,
            "lower": lower,
            "upper": None if lower is None else value + 0.1,
            "is_baseline": is_baseline,
            "is_champion": model == "b",
        }

    rows = [
        row("b", 0.7, 0.65, is_baseline=False),
        row("a", 0.6, 0.5, is_baseline=False),
        row("z", 0.5, None, is_baseline=True),
    ]
    schema = contract("behavior.model_metrics").polars_schema
    given = pl.DataFrame(rows, schema={name: schema[name] for name in rows[0]})
    assert metric_table(given, ["roc_auc", "brier"])[2:] == [
        "| `z` | 0.500 |  |",
        "| *`a`* | 0.600 [0.500, 0.700] |  |",
        "| **`b`** | 0.700 [0.650, 0.800] |  |",
    ]


@pytest.mark.parametrize("study", sorted({*NEEDS, "all"}))
def test_a_study_whose_data_is_absent_says_what_is_missing_and_writes_nothing(
    study: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["models", study, "--data", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert str(tmp_path) in capsys.readouterr().err
    assert PAGE.read_text(encoding="utf-8") == TEXT
