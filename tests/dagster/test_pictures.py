"""The pictures of the marts, drawn for real: other tests draw one of each title, and keep it."""

import base64
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from engagement_pipeline.contracts.vocabulary import ARCHETYPES, LEVELS, LOOP_STATES
from engagement_pipeline.defs import pictures
from tests.pictures import draw

PNG = b"\x89PNG\r\n\x1a\n"
# What would be half a formula, one that is none, a line break, nothing, letters the font lacks.
NAMES = ["$", r"$\nothing{$", r"\frac", "a\nb", "", "naïve 🎻", "x" * 200]
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _for_real(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "markdown", draw)


def _levels(rows: int) -> dict[str, list[float]]:
    return {level: [row / (rows * len(LEVELS)) for row in range(rows)] for level in LEVELS}


def _is_image(markdown: str, title: str) -> bool:
    head = f"![{title}](data:image/png;base64,"
    image = base64.b64decode(markdown.removeprefix(head).removesuffix(")"), validate=True)
    return markdown.startswith(head) and image.startswith(PNG) and len(image) > 2_000


@pytest.mark.parametrize("moments", [1, 60])
def test_level_shares_are_drawn_of_one_moment_and_of_many(moments: int) -> None:
    days = [START + timedelta(days=day) for day in range(moments)]
    shares = pl.DataFrame({"as_of": days, **_levels(moments)})
    assert _is_image(pictures.shares_picture(shares), "Level shares over time")


@pytest.mark.filterwarnings("ignore:Glyph")
def test_members_and_read_rates_are_drawn_whatever_names_are_made_of() -> None:
    members = pl.DataFrame({"org_name": NAMES, **_levels(len(NAMES))})
    assert _is_image(pictures.members_picture(members), "Members by level")
    rates = pl.DataFrame(
        {
            "org_id": NAMES,
            "feature": NAMES[::-1],
            "read_rate": [0.5] * len(NAMES),
            # An interval that ends beside its value by rounding, and one feature never shrunk.
            "read_rate_lower": [0.5 + 1e-12, *[0.4] * (len(NAMES) - 1)],
            "read_rate_upper": [0.6] * len(NAMES),
            "read_rate_shrunk": [None, *[0.55] * (len(NAMES) - 1)],
        }
    )
    assert _is_image(pictures.rates_picture(rates), "Read rates by feature")


def test_agreement_and_loops_are_drawn_where_some_are_missing() -> None:
    agreement = pl.DataFrame(
        [(LEVELS[0], LEVELS[0], 7), (LEVELS[1], LEVELS[0], 1)],
        schema=["computed", "admin", "n"],
        orient="row",
    )
    assert _is_image(pictures.agreement_picture(agreement), "Agreement with admins")
    states = pl.DataFrame(
        [(ARCHETYPES[0], LOOP_STATES[0], 3)], schema=["archetype", "state", "orgs"], orient="row"
    )
    assert _is_image(pictures.states_picture(states), "Where each loop stands")
