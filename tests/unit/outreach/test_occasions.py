"""What messages are about, in words, and the ids made of it."""

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.behavior.local_time import INSTANT
from engagement_pipeline.outreach import occasions

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
DAY = timedelta(days=1)

texts = st.text(max_size=8)


def absence_after(absence: timedelta) -> str | None:
    moments = pl.lit(NOW - absence, dtype=INSTANT), pl.lit(NOW, dtype=INSTANT)
    return pl.select(occasions.absence(*moments)).item()


@given(texts, texts, texts, texts, st.integers(0, 9))
def test_an_id_is_the_digest_of_all_that_it_names(org_id, user_id, outreach_type, occasion, tries):
    told = json.dumps([org_id, user_id, outreach_type, occasion, tries], separators=(",", ":"))
    found = occasions.message_id(org_id, user_id, outreach_type, occasion, tries)
    assert found == hashlib.sha256(told.encode()).hexdigest()


def test_an_id_differs_with_each_of_its_parts():
    told = ("o", "u", "re_engagement", "welcome", 0)
    others = [("p", *told[1:]), ("o", "v", *told[2:]), ("o", "u", "mood_support", "welcome", 0)]
    others += [("o", "u", "re_engagement", "topic:1", 0), (*told[:4], 1), ("ou", "", *told[2:])]
    assert len({occasions.message_id(*parts) for parts in [told, *others]}) == 7


def test_an_id_stays_what_it_was_when_first_released():
    found = occasions.message_id("o", "Zoë", "re_engagement", "welcome", 0)
    assert found == "a0389604b6a00d01e66bd740ed3e2d28a21e18c6023b6aa86a47c79a3568684e"


@given(st.timedeltas(min_value=-9_000 * DAY, max_value=9_000 * DAY), st.booleans())
def test_an_activity_is_told_as_python_tells_it(ago, is_whole):
    at = (NOW - ago).replace(microsecond=0) if is_whole else NOW - ago
    found = pl.select(occasions.churn(pl.lit(at, dtype=INSTANT))).item()
    assert found == f"churn:{at.isoformat()}"


@pytest.mark.parametrize(("days", "earlier"), [(5, None), (7, "5d"), (14, "7d"), (30, "14d")])
def test_an_absence_has_to_be_longer_than_its_step(days, earlier):
    since = (NOW - days * DAY).isoformat()
    assert absence_after(days * DAY) == (earlier and f"absent:{earlier}:{since}")
    longer = (NOW - days * DAY - MICROSECOND).isoformat()
    assert absence_after(days * DAY + MICROSECOND) == f"absent:{days}d:{longer}"


def test_an_absence_is_told_by_its_longest_step():
    assert absence_after(300 * DAY).startswith("absent:30d:")
    assert absence_after(-DAY) is None


def test_every_other_occasion_names_what_it_is_about():
    named = pl.select(
        occasions.milestone_reached(pl.lit("m1")).alias("reached"),
        occasions.milestone_near(pl.lit("m1")).alias("near"),
        occasions.topic(pl.lit("e9")).alias("topic"),
        occasions.feature(pl.lit("voice")).alias("feature"),
    ).row(0)
    assert named == ("milestone_reached:m1", "milestone_near:m1", "topic:e9", "feature:voice")
    assert occasions.declining(NOW) == "declining:2026-03"
    assert occasions.low_mood(NOW) == "low_mood:2026-03"
    assert occasions.manual(NOW) == "manual:2026-03-10T12:00:00+00:00"


def test_moments_are_told_in_utc_wherever_they_come_from():
    elsewhere = datetime(2026, 4, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    assert occasions.low_mood(elsewhere) == "low_mood:2026-03"
    assert occasions.manual(elsewhere) == "manual:2026-03-31T23:00:00+00:00"
    assert occasions.cycle_id("engagement", elsewhere) == "engagement:2026-03-31T23:00:00+00:00"
    with pytest.raises(ValueError, match="expected a moment with a time zone"):
        occasions.cycle_id("engagement", datetime(2026, 4, 1))  # noqa: DTZ001
