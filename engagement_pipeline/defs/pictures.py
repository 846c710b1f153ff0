"""Pictures in asset metadata: Markdown with an image in it, as the Dagster UI shows them."""

import base64
import io

import polars as pl
from matplotlib.figure import Figure

from engagement_pipeline.contracts.vocabulary import LEVELS
from engagement_pipeline.warehouse.connection import Connection
from engagement_pipeline.warehouse.overview import level_shares_over_time, members_by_level

_COLOURS = {
    "highly_engaged": "#1b7837",
    "moderate": "#7fbf7b",
    "new": "#4393c3",
    "at_risk": "#f4a582",
    "inactive": "#bababa",
}
_MOMENTS = 60
_ORGS = 20


def mart_pictures(connection: Connection) -> dict[str, list[tuple[str, str]]]:
    """By mart: the names and Markdown of its pictures."""
    return {
        "engagement_history": [
            ("level_shares", shares_picture(level_shares_over_time(connection, moments=_MOMENTS)))
        ],
        "org_summary": [
            ("members_by_level", members_picture(members_by_level(connection, orgs=_ORGS)))
        ],
    }


def shares_picture(shares: pl.DataFrame) -> str:
    """Level shares over time; takes `as_of` and a share per level."""
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    axes = figure.subplots()
    for level in LEVELS:
        axes.plot(
            shares["as_of"].to_list(),
            [100 * share for share in shares[level]],
            marker="o",
            markersize=3,
            label=level.replace("_", " "),
            color=_COLOURS[level],
        )
    axes.set_ylabel("% of members")
    axes.set_ylim(0, None)
    axes.legend(fontsize=8, ncols=len(LEVELS), loc="upper center", bbox_to_anchor=(0.5, 1.15))
    figure.autofmt_xdate()
    return _markdown(figure, "Level shares over time")


def members_picture(members: pl.DataFrame) -> str:
    """Members by level per organisation; takes `org_name` and a count per level."""
    figure = Figure(figsize=(8, 1.5 + 0.3 * members.height), layout="constrained")
    axes = figure.subplots()
    places = list(range(members.height))
    left = [0] * members.height
    for level in LEVELS:
        counts = members[level].to_list()
        axes.barh(places, counts, left=left, label=level.replace("_", " "), color=_COLOURS[level])
        left = [a + b for a, b in zip(left, counts, strict=True)]
    # Names come from outside: a dollar sign would start a formula.
    names = [name[:40].replace("$", r"\$") for name in members["org_name"]]
    axes.set_yticks(places, names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("members")
    axes.legend(fontsize=8, ncols=len(LEVELS), loc="upper center", bbox_to_anchor=(0.5, 1.2))
    return _markdown(figure, "Members by level")


def _markdown(figure: Figure, title: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return f"![{title}](data:image/png;base64,{encoded})"
