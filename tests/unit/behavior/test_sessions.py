"""Sessions, against a walk over each member's interactions in plain Python."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from random import Random

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.behavior.sessions import join_spans, session_ids, spans_of

START = datetime(2026, 3, 1, tzinfo=UTC)
_SCHEMA = {
    "interaction_id": pl.String,
    "org_id": pl.String,
    "user_id": pl.String,
    "sent_at": pl.Datetime("us", "UTC"),
}

Said = list[tuple[str, str, str, datetime]]

# Ten minutes apart, and a microsecond before or after: pauses on both sides of half an hour.
_MOMENTS = st.builds(
    lambda tens, microseconds: START + timedelta(minutes=10 * tens, microseconds=microseconds),
    st.integers(0, 40),
    st.integers(-1, 1),
)


@st.composite
def interactions(draw: st.DrawFn) -> Said:
    who = st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), _MOMENTS)
    said = draw(st.lists(who, max_size=25))
    names = draw(st.permutations([f"i{n:02}" for n in range(len(said))]))
    return [(name, *row) for name, row in zip(names, said, strict=True)]


def _frame(said: Said) -> pl.DataFrame:
    return pl.DataFrame(said, schema=_SCHEMA, orient="row")


def _plain(said: Said) -> dict[str, str]:
    by_member = defaultdict(list)
    for name, org, user, sent_at in said:
        by_member[org, user].append((sent_at, name))
    found = {}
    for rows in by_member.values():
        session, last = "", None
        for sent_at, name in sorted(rows):
            if last is None or sent_at - last > timedelta(minutes=30):
                session = name
            found[name], last = session, sent_at
    return found


@given(interactions())
def test_sessions_are_what_a_walk_over_each_member_finds(said: Said) -> None:
    assert dict(session_ids(_frame(said)).iter_rows()) == _plain(said)


@given(interactions(), st.randoms(use_true_random=False))
def test_the_order_of_rows_makes_no_difference(said: Said, random: Random) -> None:
    shuffled = said.copy()
    random.shuffle(shuffled)
    assert dict(session_ids(_frame(shuffled)).iter_rows()) == _plain(said)


@given(interactions(), st.integers(0, 25))
def test_sessions_joined_with_late_rows_are_those_of_all_rows(said: Said, split: int) -> None:
    stored, late = _frame(said[:split]), _frame(said[split:])
    before = stored.join(session_ids(stored), on="interaction_id")
    sessions = before.group_by("org_id", "user_id", "session_id").agg(
        pl.col("sent_at").min().alias("started_at"), pl.col("sent_at").max().alias("ended_at")
    )
    spans = pl.concat(
        [
            spans_of(late),
            sessions.rename({"session_id": "first_id"}).select(spans_of(late).columns),
        ]
    )
    joined = dict(join_spans(spans).select("first_id", "session_id").iter_rows())
    found = {name: joined[session] for name, session in _plain(said[:split]).items()}
    found |= {name: joined[name] for name, *_ in said[split:]}
    assert found == _plain(said)


def test_a_late_row_within_a_stored_session_does_not_end_it_early() -> None:
    hour = pl.DataFrame(
        {
            "org_id": ["o"],
            "user_id": ["u"],
            "started_at": [START],
            "ended_at": [START + timedelta(minutes=60)],
            "first_id": ["a"],
        },
        schema=spans_of(_frame([])).schema,
    )
    late = _frame(
        [(str(m), "o", "u", START + timedelta(minutes=m)) for m in (10, 70)],
    )
    found = join_spans(pl.concat([hour, spans_of(late)])).select("first_id", "session_id")
    assert dict(found.iter_rows()) == dict.fromkeys(["a", "10", "70"], "a")


def test_a_pause_of_exactly_half_an_hour_goes_on() -> None:
    half = timedelta(minutes=30)
    said = [
        ("a", "o", "u", START),
        ("b", "o", "u", START + half),
        ("c", "o", "u", START + 2 * half + timedelta(microseconds=1)),
        ("d", "other", "u", START + half),
    ]
    assert dict(session_ids(_frame(said)).iter_rows()) == {"a": "a", "b": "a", "c": "c", "d": "d"}


def test_no_interactions_have_no_sessions() -> None:
    assert session_ids(_frame([])).rows() == []
