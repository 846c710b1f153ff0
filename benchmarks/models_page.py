"""The page of what models are worth: sections between markers, tables of figures, pictures.

Only how it is written belongs here; what is measured belongs to the studies.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from engagement_pipeline.behavior.churn_training import GAIN

PAGE = Path(__file__).parent.parent / "docs" / "models.md"
IMAGES = PAGE.parent / "images"

CHURN_METRICS = ("roc_auc", "average_precision", "brier", "calibration_error")
WORDS = {
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "brier": "Brier score",
    "calibration_error": "calibration error",
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "log_loss": "log loss",
    GAIN: "its gain over recency",
}
_DPI = 100


class UnmarkedPageError(ValueError):
    """The page has no place for a section; the text says what was expected."""


def markers(study: str) -> tuple[str, str]:
    """The comments that a study's section lies between."""
    return f"<!-- measured {study}: begin -->", f"<!-- measured {study}: end -->"


def with_section(page: str, study: str, text: str) -> str:
    """The page with a study's section in place of the one before.

    Raises:
        UnmarkedPageError: the markers of the study are not there, once each and in their order.
    """
    begin, end = markers(study)
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
        raise UnmarkedPageError(f"expected {begin} and then {end}, once each, in the page")
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}"


def save_figures(figures: Mapping[str, Any], prefix: str) -> list[str]:
    """Write figures as `docs/images/<prefix>_<name>.png`; gives the lines that show them."""
    IMAGES.mkdir(exist_ok=True)
    lines = []
    for name, figure in figures.items():
        path = IMAGES / f"{prefix}_{name}.png"
        # Without the version of who drew it: the same points make the same file.
        figure.savefig(path, format="png", dpi=_DPI, metadata={"Software": None})
        lines.append(f"![{prefix}: {name.replace('_', ' ')}](images/{path.name})")
    return lines


def table(head: Sequence[str], rows: Sequence[Sequence[object]], *, words: int = 1) -> list[str]:
    """The lines of a table; the first `words` columns are words, the others numbers."""
    rule = ["---"] * words + ["---:"] * (len(head) - words)
    return [f"| {' | '.join(map(str, cells))} |" for cells in (head, rule, *rows)]


def metric_table(metrics: pl.DataFrame, names: Sequence[str]) -> list[str]:
    """Baselines first, then models, a row each: figures with their 95 % intervals.

    Args:
        metrics: rows of `behavior.model_metrics`, of one training.
        names: the figures, in the order of the columns.
    """
    found = {(row["model"], row["metric"]): row for row in metrics.iter_rows(named=True)}
    models = metrics.select("is_baseline", "model", "is_champion").unique()
    rows = []
    for is_baseline, model, is_champion in models.sort(
        "is_baseline", "model", descending=[True, False]
    ).iter_rows():
        name = f"`{model}`" if is_baseline else f"**`{model}`**" if is_champion else f"*`{model}`*"
        rows.append([name, *(told(found.get((model, metric))) for metric in names)])
    return table(["", *(WORDS[name] for name in names)], rows)


def told(row: Mapping[str, Any] | None) -> str:
    """A figure and its interval; nothing where there is none."""
    if row is None:
        return ""
    if row["lower"] is None:
        return f"{row['value']:.3f}"
    return f"{row['value']:.3f} [{row['lower']:.3f}, {row['upper']:.3f}]"


def population(training: Mapping[str, Any]) -> str:
    """How many samples there were, of whom and when, in one sentence."""
    if not training["samples"]:
        return "No samples."
    return (
        f"{training['samples']:,} samples of {training['members']:,} members, organisations: "
        f"{training['organisations']}, cut-offs: {training['cutoffs']}, from "
        f"{training['first_cutoff']:%Y-%m-%d} to {training['last_cutoff']:%Y-%m-%d}; base rate "
        f"{training['base_rate']:.3f}."
    )
