"""Who is held out: a draw that depends on nothing but the salt and the member."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.outreach.holdout import is_held_out


def bucket(salt, org_id, user_id):
    """Oracle, by the digest's hexadecimal digits."""
    told = json.dumps([salt, org_id, user_id], separators=(",", ":"), ensure_ascii=True)
    return int(hashlib.sha256(told.encode("ascii")).hexdigest(), 16) % 10_000


@given(st.text(max_size=9), st.text(max_size=9), st.text(max_size=9), st.integers(0, 10_000))
def test_a_member_is_held_out_if_the_bucket_is_below_the_share(salt, org_id, user_id, parts):
    found = is_held_out(org_id, user_id, salt=salt, share=parts / 10_000)
    assert found == (bucket(salt, org_id, user_id) < parts)


def test_the_draw_stays_what_it_was_when_first_released():
    held_out = [n for n in range(200) if is_held_out("org", f"u{n}", salt="engagement", share=0.05)]
    assert held_out == [42, 155, 185]


@pytest.mark.parametrize("parts", [3, 51, 500])
def test_no_member_is_gained_or_lost_by_rounding(parts):
    """In floats 0.0051 * 10,000 is more than 51, and 0.0003 * 10,000 is less than 3."""
    share = parts / 10_000
    members = (("o", f"u{n}") for n in range(200_000))
    edge = {parts - 1: None, parts: None}
    for org_id, user_id in members:
        found = bucket("s", org_id, user_id)
        if found in edge and edge[found] is None:
            edge[found] = is_held_out(org_id, user_id, salt="s", share=share)
        if None not in edge.values():
            break
    assert edge == {parts - 1: True, parts: False}


def test_about_the_share_of_members_is_held_out_in_every_organisation():
    for org_id in ("a", "b"):
        n = sum(is_held_out(org_id, f"u{k}", salt="s", share=0.05) for k in range(20_000))
        # Five standard deviations of a binomial share of 0.05 are 0.0077.
        assert n / 20_000 == pytest.approx(0.05, abs=0.0077)


@given(st.text(max_size=9), st.text(max_size=9), st.floats(0, 1), st.floats(0, 1))
def test_who_is_held_out_stays_so_with_a_larger_share(org_id, user_id, one, other):
    small, large = sorted((one, other))
    if is_held_out(org_id, user_id, salt="s", share=small):
        assert is_held_out(org_id, user_id, salt="s", share=large)


def test_nobody_is_held_out_of_a_share_of_none_and_everybody_of_all():
    members = [f"u{n}" for n in range(2_000)]
    assert not any(is_held_out("o", user_id, salt="s", share=0) for user_id in members)
    assert all(is_held_out("o", user_id, salt="s", share=1) for user_id in members)


def test_names_that_run_together_alike_are_drawn_apart():
    pairs = [("a", "bc"), ("ab", "c"), ("abc", ""), ('a","b', "c")]
    assert len({bucket("s", *pair) for pair in pairs}) == len(pairs)
    assert [is_held_out(*pair, salt="s", share=1) for pair in pairs] == [True] * 4


def test_another_salt_draws_other_members():
    drawn = [
        {n for n in range(2_000) if is_held_out("o", f"u{n}", salt=salt, share=0.05)}
        for salt in ("spring", "autumn")
    ]
    assert len(drawn[0] & drawn[1]) < len(drawn[0]) / 2


@pytest.mark.parametrize("share", [-0.01, 1.01, float("nan")])
def test_a_share_out_of_bounds_is_refused(share):
    with pytest.raises(ValueError, match=r"share: expected one in \[0, 1\]"):
        is_held_out("o", "u", salt="s", share=share)
