"""Pictures of models: how far their probabilities hold, whom they find, and what counts.

They are drawn from rows of `behavior.model_curves`, for asset metadata and for the documentation.
"""

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_COLOURS = ("#1b7837", "#4393c3", "#762a83", "#b2182b", "#e08214", "#666666", "#35978f")
_FEATURES = 15


def model_figures(curves: pl.DataFrame, *, target: str) -> dict[str, Figure]:
    """By name: the figures that there are rows for.

    Args:
        curves: rows of `behavior.model_curves` of one training.
        target: what is predicted, for the titles.
    """
    drawers = {
        "reliability": reliability_figure,
        "precision_recall": precision_recall_figure,
        "importance": importance_figure,
    }
    own = curves.filter(pl.col("target") == target)
    found = {}
    for name, draw in drawers.items():
        rows = own.filter(pl.col("curve") == name).sort("model", "place")
        if not rows.is_empty():
            found[name] = draw(rows)
    return found


def reliability_figure(rows: pl.DataFrame) -> Figure:
    """Predicted against observed: on the diagonal a probability is what it says."""
    figure, axes = _square()
    axes.plot([0, 1], [0, 1], color="#bababa", linestyle="--", linewidth=1)
    for colour, (model, own) in zip(_cycle(rows), _by_model(rows), strict=True):
        axes.plot(own["x"], own["y"], marker="o", markersize=4, label=model, color=colour)
    axes.set_xlabel("predicted probability")
    axes.set_ylabel("share that came true")
    return _with_legend(figure, axes)


def precision_recall_figure(rows: pl.DataFrame) -> Figure:
    """Of those named, how many are right, against how many of all are found."""
    figure, axes = _square()
    for colour, (model, own) in zip(_cycle(rows), _by_model(rows), strict=True):
        axes.plot(own["x"], own["y"], label=model, color=colour)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    return _with_legend(figure, axes)


def importance_figure(rows: pl.DataFrame) -> Figure:
    """What counts: how much worse the model is with one feature shuffled."""
    top = rows.sort("y", "label", descending=[True, False]).head(_FEATURES)
    figure = Figure(figsize=(7, 1.2 + 0.28 * top.height), layout="constrained")
    axes = figure.subplots()
    places = list(range(top.height))
    axes.barh(places, top["y"].to_list(), color=_COLOURS[1])
    axes.set_yticks(places, top["label"].to_list(), fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(f"importance to {rows['model'][0]}")
    return figure


def _square() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.5, 4.8), layout="constrained")
    axes = figure.subplots()
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    return figure, axes


def _with_legend(figure: Figure, axes: Axes) -> Figure:
    axes.legend(fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, 1.18))
    return figure


def _by_model(rows: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    return [(str(key[0]), own) for key, own in rows.group_by("model", maintain_order=True)]


def _cycle(rows: pl.DataFrame) -> list[str]:
    return [_COLOURS[n % len(_COLOURS)] for n in range(rows["model"].n_unique())]
