"""The marts of outreach against plain Python that says the same in another way."""

from collections import defaultdict
from collections.abc import Callable
from statistics import fmean, median
from typing import Any

import polars as pl
import pytest

from engagement_pipeline.contracts import contract
from engagement_pipeline.contracts.vocabulary import SEGMENTS, SENT_STATUSES, SKIP_REASONS
from engagement_pipeline.defs import pictures
from engagement_pipeline.loops.routing import POSTERIORS, arms_in_force
from engagement_pipeline.warehouse.overview import last_cycle, response_rates, uplifts
from engagement_pipeline.warehouse.publication import Publication
from engagement_pipeline.warehouse.published import open_published
from tests.integration.test_loop_marts import by, now
from tests.integration.test_marts import orgs, read_marts, wilson

Row = dict[str, Any]
Build = Callable[..., Publication]

ARM = ("org_id", "outreach_type", "template_id")
# Signals were last drawn for a moment after the run shown, and for one before it.
SEEDS = (32, 33)


@pytest.fixture(scope="module", params=SEEDS)
def world(request: pytest.FixtureRequest, make_seeded_world: Callable[..., Any]) -> Any:
    return make_seeded_world(request.param)


@pytest.fixture(scope="module")
def publication(world: Any, build_marts: Build) -> Publication:
    return build_marts(world)


@pytest.fixture(scope="module")
def marts(publication: Publication) -> dict[str, list[Row]]:
    return read_marts(publication)


def test_every_message_is_shown_also_todays_with_what_came_of_it(
    world: Any, marts: dict[str, list[Row]]
) -> None:
    worth = {row["message_id"]: row["effectiveness"] for row in world.rows("outreach.outcomes")}
    expected = [
        row
        | {
            "org_name": orgs(world)[row["org_id"]],
            "effectiveness": worth.get(row["message_id"]),
        }
        for row in world.rows("outreach.messages")
        if row["org_id"] in orgs(world)
    ]
    assert by(marts["marts.outreach_log"], "message_id") == by(expected, "message_id")
    assert any(row["planned_at"] > world.shown for row in expected)
    assert {row["effectiveness"] == 0 for row in expected if row["sent_at"]} == {True, False}
    assert len(expected) < len(world.rows("outreach.messages"))  # an organisation is gone


def test_a_template_is_judged_by_what_came_of_it_and_by_what_is_believed_of_it_now(
    world: Any, marts: dict[str, list[Row]]
) -> None:
    sent, judged = defaultdict(list), defaultdict(list)
    for row in world.rows("outreach.messages"):
        if row["status"] in SENT_STATUSES:
            sent[tuple(row[name] for name in ARM)].append(row["sent_at"])
    for row in world.rows("outreach.outcomes"):
        judged[tuple(row[name] for name in ARM)].append(row)
    believed: dict[tuple[Any, ...], Row] = {}
    for row in sorted(world.rows("loops.arm_posteriors"), key=lambda row: row["computed_at"]):
        if row["computed_at"] <= now(world) < row["expires_at"]:
            believed[tuple(row[name] for name in ARM)] = row
    arms = {arm for arm in {*sent, *judged, *believed} if arm[0] in orgs(world)}
    found = by(marts["marts.outreach_effectiveness"], *ARM)
    assert found.keys() == arms
    for arm in arms:
        outcomes = judged[arm]
        answered = [row["response_minutes"] for row in outcomes if row["is_response"]]
        n, k = len(outcomes), len(answered)
        lower, upper = wilson(k, n) if n else (None, None)
        belief = believed.get(arm)
        expected = {
            "org_name": orgs(world)[arm[0]],
            "sent": len(sent[arm]),
            "judged": n,
            "responses": k,
            "response_rate": k / n if n else None,
            "response_rate_lower": lower,
            "response_rate_upper": upper,
            "mean_effectiveness": fmean(r["effectiveness"] for r in outcomes) if n else None,
            "median_response_minutes": median(answered) if answered else None,
            "posterior_mean": belief["alpha"] / (belief["alpha"] + belief["beta"])
            if belief
            else None,
        }
        assert found[arm]["last_sent_at"] == max(sent[arm], default=None)
        assert {name: found[arm][name] for name in expected} == pytest.approx(expected, abs=1e-9)
    # Some are believed in that were never sent, some were sent of which nothing is believed.
    assert {bool(sent[arm]) for arm in arms} == {True, False}
    assert {arm in believed for arm in arms if sent[arm]} == {True, False}


def test_what_the_mart_shows_as_believed_is_what_the_next_choice_goes_by(
    world: Any, marts: dict[str, list[Row]]
) -> None:
    rows = [row for row in world.rows("loops.arm_posteriors") if row["org_id"] in orgs(world)]
    frame = pl.DataFrame(rows, schema=POSTERIORS.polars_schema)
    arms = arms_in_force(frame, as_of=now(world))
    expected = {
        tuple(row[name] for name in ARM): row["alpha"] / (row["alpha"] + row["beta"])
        for row in arms.to_dicts()
    }
    shown = {
        tuple(row[name] for name in ARM): row["posterior_mean"]
        for row in marts["marts.outreach_effectiveness"]
        if row["posterior_mean"] is not None
    }
    assert shown == pytest.approx(expected)


def test_the_uplift_of_every_organisation_is_shown_and_that_of_all_under_a_name_of_its_own(
    world: Any, marts: dict[str, list[Row]]
) -> None:
    names = orgs(world) | {"*": "All organisations"}
    expected = [
        row | {"org_name": names[row["org_id"]]}
        for row in world.rows("outreach.uplift")
        if row["org_id"] in names
    ]
    shown = marts["marts.outreach_uplift"]
    assert by(shown, "org_id") == by(expected, "org_id")
    assert len(expected) < len(world.rows("outreach.uplift"))


def test_what_every_cycle_decided_is_shown_with_the_organisations_name(
    world: Any, marts: dict[str, list[Row]]
) -> None:
    kept = contract("marts.cycle_stats").column_names
    expected = [
        {name: row.get(name, orgs(world).get(row["org_id"])) for name in kept}
        for row in world.rows("outreach.cycles")
        if row["org_id"] in orgs(world)
    ]
    shown = marts["marts.cycle_stats"]
    assert by(shown, "cycle_id", "org_id") == by(expected, "cycle_id", "org_id")
    assert len(expected) < len(world.rows("outreach.cycles"))


# --- Their pictures -----------------------------------------------------------------------------


def test_the_last_cycle_is_drawn_by_segment_and_by_reason(
    marts: dict[str, list[Row]], publication: Publication
) -> None:
    shown = marts["marts.cycle_stats"]
    last = max(shown, key=lambda row: (row["as_of"], row["cycle_id"]))["cycle_id"]
    with open_published(publication.path) as connection:
        counts = last_cycle(connection)
    words = (*SEGMENTS, *SKIP_REASONS)
    assert counts["word"].to_list() == list(words)
    assert counts["members"].to_list() == [
        sum(row[word] for row in shown if row["cycle_id"] == last) for word in words
    ]
    assert pictures.cycle_picture(counts).startswith("![The last cycle](")


def test_the_uplift_of_all_and_of_the_largest_organisations_is_drawn(
    marts: dict[str, list[Row]], publication: Publication
) -> None:
    with open_published(publication.path) as connection:
        found = uplifts(connection, orgs=2)
    told = [row for row in marts["marts.outreach_uplift"] if row["uplift"] is not None]
    orgs_told = [row for row in told if row["org_id"] != "*"]
    orgs_told.sort(
        key=lambda row: (-row["treated_members"] - row["held_out_members"], row["org_id"])
    )
    largest = sorted(orgs_told[:2], key=lambda row: (row["org_name"], row["org_id"]))
    assert len(orgs_told) > 2
    assert found["org_id"].to_list() == ["*", *(row["org_id"] for row in largest)]
    # Two organisations may share a name.
    alike = found.with_columns(org_name=pl.lit("$x$ {"))
    for frame in (found, alike):
        assert pictures.uplift_picture(frame).startswith("![Members who came back")


def test_response_rates_are_drawn_of_the_templates_judged_most_often(
    marts: dict[str, list[Row]], publication: Publication
) -> None:
    with open_published(publication.path) as connection:
        found = response_rates(connection, rows=4)
    judged = sorted((row["judged"] for row in marts["marts.outreach_effectiveness"]), reverse=True)
    own = {
        (row["org_id"], row["template_id"], row["response_rate"]): row["judged"]
        for row in marts["marts.outreach_effectiveness"]
    }
    columns = found.select("org_id", "template_id", "response_rate")
    assert [own[row] for row in columns.iter_rows()] == judged[:4]
    assert pictures.responses_picture(found).startswith("![Response rates by template](")
