"""Pictures in asset metadata: Markdown with an image in it, as the Dagster UI shows them."""

import base64
import io
import math
from collections.abc import Callable

import polars as pl
from matplotlib.figure import Figure

from engagement_pipeline.contracts.vocabulary import ARCHETYPES, LEVELS, LOOP_STATES, SEGMENTS
from engagement_pipeline.warehouse.connection import Connection
from engagement_pipeline.warehouse.overview import (
    last_cycle,
    level_agreement,
    level_shares_over_time,
    loop_states,
    members_by_level,
    read_rates,
    response_rates,
    uplifts,
)

_COLOURS = {
    "highly_engaged": "#1b7837",
    "moderate": "#7fbf7b",
    "new": "#4393c3",
    "at_risk": "#f4a582",
    "inactive": "#bababa",
}
_STATE_COLOURS = {
    "closed": "#1b7837",
    "learned": "#7fbf7b",
    "gathering": "#4393c3",
    "expired": "#f4a582",
    "failed": "#b2182b",
    "idle": "#bababa",
}
_MOMENTS = 60
_FEATURES = 25
_ORGS = 20


def mart_pictures(connection: Connection) -> dict[str, list[tuple[str, str]]]:
    """By mart: the names and Markdown of its pictures; of the loops and of outreach only what
    there is to show."""
    rates = read_rates(connection, rows=_FEATURES)
    agreement = level_agreement(connection)
    states = loop_states(connection)
    answered = response_rates(connection, rows=_FEATURES)
    found: dict[str, list[tuple[str, pl.DataFrame, Callable[[pl.DataFrame], str]]]] = {
        "engagement_calibrations": [("read_rates", rates, rates_picture)],
        "label_agreement": [("agreement", agreement, agreement_picture)],
        "loop_status": [("loops", states, states_picture)],
        "outreach_effectiveness": [("response_rates", answered, responses_picture)],
        "outreach_uplift": [("uplift", uplifts(connection, orgs=_ORGS), uplift_picture)],
        "cycle_stats": [("last_cycle", last_cycle(connection), cycle_picture)],
    }
    return _level_pictures(connection) | {
        mart: [(name, draw(rows)) for name, rows, draw in pictures if not rows.is_empty()]
        for mart, pictures in found.items()
    }


def _level_pictures(connection: Connection) -> dict[str, list[tuple[str, str]]]:
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
    return markdown(figure, "Level shares over time")


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
    axes.set_yticks(places, [_plain(name) for name in members["org_name"]], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("members")
    axes.legend(fontsize=8, ncols=len(LEVELS), loc="upper center", bbox_to_anchor=(0.5, 1.2))
    return markdown(figure, "Members by level")


def rates_picture(rates: pl.DataFrame) -> str:
    """Read rates with their intervals, a line a feature; takes what `overview.read_rates` gives."""
    return _shares_picture(
        rates.rename({"feature": "name", "read_rate_shrunk": "believed"}),
        of="read_rate",
        believed="shrunk",
        unit="notifications read",
        title="Read rates by feature",
    )


def responses_picture(rates: pl.DataFrame) -> str:
    """Response rates with their intervals, a line a template; takes what
    `overview.response_rates` gives."""
    return _shares_picture(
        rates.rename({"template_id": "name", "posterior_mean": "believed"}),
        of="response_rate",
        believed="believed",
        unit="messages answered",
        title="Response rates by template",
    )


def _shares_picture(rates: pl.DataFrame, *, of: str, believed: str, unit: str, title: str) -> str:
    """Shares in percent; takes `org_id`, `name`, the share with its interval, and `believed`."""
    figure = Figure(figsize=(8, 1.2 + 0.28 * rates.height), layout="constrained")
    axes = figure.subplots()
    places = list(range(rates.height))
    value, below, above = _interval(rates, of)
    label = of.replace("_", " ")
    axes.errorbar(value, places, xerr=[below, above], fmt="o", color="#4393c3", label=label)
    shrunk = [math.nan if share is None else 100 * share for share in rates["believed"]]
    axes.plot(shrunk, places, "|", color="#b2182b", markersize=10, label=believed)
    names = [f"{org}: {name}" for org, name in rates.select("org_id", "name").iter_rows()]
    axes.set_yticks(places, [_plain(name) for name in names], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel(f"% of {unit}, with 95 % intervals")
    axes.legend(fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, 1.15))
    return markdown(figure, title)


def _interval(rows: pl.DataFrame, of: str) -> tuple[list[float], list[float], list[float]]:
    """A value in percent, and how far its interval reaches below and above it."""
    value, lower, upper = (
        [100 * share for share in rows[name]] for name in (of, f"{of}_lower", f"{of}_upper")
    )
    # An interval's end may lie beside its value by rounding, and a bar cannot be negative.
    below = [max(0.0, v - low) for v, low in zip(value, lower, strict=True)]
    above = [max(0.0, up - v) for v, up in zip(value, upper, strict=True)]
    return value, below, above


def uplift_picture(found: pl.DataFrame) -> str:
    """Uplift with its interval, a line an organisation; takes what `overview.uplifts` gives."""
    figure = Figure(figsize=(8, 1.2 + 0.28 * found.height), layout="constrained")
    axes = figure.subplots()
    places = list(range(found.height))
    value, below, above = _interval(found, "uplift")
    axes.errorbar(value, places, xerr=[below, above], fmt="o", color="#1b7837")
    axes.axvline(0, color="#bababa", linewidth=1)
    axes.set_yticks(places, [_plain(name) for name in found["org_name"]], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("more members back, in percentage points, with 95 % intervals")
    return markdown(figure, "Members who came back because of outreach")


def cycle_picture(counts: pl.DataFrame) -> str:
    """Who may be written to, and why others may not; takes what `overview.last_cycle` gives."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    words = counts["word"].to_list()
    colours = ["#1b7837" if word in SEGMENTS else "#bababa" for word in words]
    bars = axes.barh(range(len(words)), counts["members"].to_list(), color=colours)
    axes.bar_label(bars, fmt="{:,.0f}", fontsize=8, padding=3)
    axes.set_yticks(range(len(words)), [word.replace("_", " ") for word in words], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("members: eligible ones by segment, and why others were skipped")
    return markdown(figure, "The last cycle")


def agreement_picture(agreement: pl.DataFrame) -> str:
    """How often each computed level met each level of the admins, as a matrix."""
    counts = {(c, a): n for c, a, n in agreement.iter_rows()}
    matrix = [[counts.get((computed, admin), 0) for admin in LEVELS] for computed in LEVELS]
    figure = Figure(figsize=(5.5, 4.2), layout="constrained")
    axes = figure.subplots()
    shares = [[n / (sum(row) or 1) for n in row] for row in matrix]
    axes.imshow(shares, cmap="Greens", vmin=0, vmax=1)
    words = [level.replace("_", " ") for level in LEVELS]
    axes.set_xticks(range(len(LEVELS)), words, fontsize=8, rotation=30)
    axes.set_yticks(range(len(LEVELS)), words, fontsize=8)
    axes.set_xlabel("left or set by admins")
    axes.set_ylabel("computed")
    for row, numbers in enumerate(matrix):
        for column, number in enumerate(numbers):
            colour = "white" if shares[row][column] > 0.6 else "black"
            axes.text(column, row, f"{number:,}", ha="center", va="center", color=colour)
    return markdown(figure, "Agreement with admins")


def states_picture(states: pl.DataFrame) -> str:
    """Organisations by where each loop stands; takes `archetype`, `state` and `orgs`."""
    counts = {(archetype, state): orgs for archetype, state, orgs in states.iter_rows()}
    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.subplots()
    places = list(range(len(ARCHETYPES)))
    left = [0] * len(ARCHETYPES)
    for state in LOOP_STATES:
        orgs = [counts.get((archetype, state), 0) for archetype in ARCHETYPES]
        axes.barh(places, orgs, left=left, label=state, color=_STATE_COLOURS[state])
        left = [a + b for a, b in zip(left, orgs, strict=True)]
    axes.set_yticks(places, ARCHETYPES, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("organisations")
    axes.legend(fontsize=8, ncols=len(LOOP_STATES), loc="upper center", bbox_to_anchor=(0.5, 1.2))
    return markdown(figure, "Where each loop stands")


def _plain(name: str) -> str:
    # Names come from outside: a dollar sign would start a formula.
    return name[:40].replace("$", r"\$")


def markdown(figure: Figure, title: str) -> str:
    """A picture as Markdown that Dagster shows, with the image in it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return f"![{title}](data:image/png;base64,{encoded})"
