"""What is trained on and tested: people apart, and nothing from later."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engagement_pipeline.behavior.splits import (
    LeakError,
    Split,
    drawn_samples,
    id_hashes,
    person_codes,
    refuse_leaks,
    splits,
)
from tests.unit.behavior.churn_worlds import HORIZON_DAYS, cutoff, made_samples

HORIZON = timedelta(days=HORIZON_DAYS)


def planned(samples, **changes):
    arguments = {"horizon_days": HORIZON_DAYS, "seed": 1, "max_training_samples": 10_000}
    return splits(samples, **{**arguments, **changes})


def leaks(samples, split):
    """What is wrong with a split, told row by row; it knows nothing of `refuse_leaks`."""
    rows = samples.select("user_id", "cutoff").rows()
    trained, tested = [rows[at] for at in split.train], [rows[at] for at in split.test]
    wrong = []
    for user, at in trained:
        if any(user == other for other, _ in tested):
            wrong.append(f"{user} is in both")
        if at + HORIZON > split.cutoff:
            wrong.append(f"{at} is known only later")
    for _, at in tested:
        if at != split.cutoff:
            wrong.append(f"{at} is tested at another cut-off")
    return wrong


@given(
    people=st.integers(3, 25),
    cutoffs=st.integers(1, 6),
    horizon_days=st.sampled_from([30, 45, 60]),
    limit=st.sampled_from([5, 40, 1_000]),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=25)
def test_nobody_is_in_both_train_and_test_and_every_outcome_was_known(
    people, cutoffs, horizon_days, limit, seed
):
    samples = made_samples(people=people, cutoffs=cutoffs, seed=seed).sample(
        fraction=1, shuffle=True, seed=seed
    )
    found = planned(samples, horizon_days=horizon_days, seed=seed, max_training_samples=limit)
    tested = set()
    for split in found:
        trained_at = samples["cutoff"].gather(split.train)
        assert trained_at.max() + timedelta(days=horizon_days) <= split.cutoff
        assert set(samples["cutoff"].gather(split.test)) == {split.cutoff}
        assert not set(samples["user_id"].gather(split.train)) & set(
            samples["user_id"].gather(split.test)
        )
        assert 2 <= len(split.train) <= limit
        assert not tested & set(split.test.tolist())
        tested |= set(split.test.tolist())
    assert len(tested) <= max(limit, 3)


def test_the_last_three_cut_offs_are_tested_of_everybody_once():
    samples = made_samples(people=40, cutoffs=7)
    found = planned(samples)
    assert sorted({split.cutoff for split in found}) == [cutoff(4), cutoff(5), cutoff(6)]
    tested = np.concatenate([split.test for split in found])
    expected = samples.with_row_index().filter(pl.col("cutoff") >= cutoff(4))["index"]
    assert sorted(tested.tolist()) == expected.to_list()
    assert not any(leaks(samples, split) for split in found)


def test_all_that_was_known_of_other_people_is_trained_on():
    samples = made_samples(people=40, cutoffs=7)
    for split in planned(samples):
        tested = set(samples["user_id"].gather(split.test))
        expected = [
            at
            for at, (user, moment) in enumerate(samples.select("user_id", "cutoff").rows())
            if user not in tested and moment + HORIZON <= split.cutoff
        ]
        assert sorted(split.train.tolist()) == expected


def test_a_person_in_two_organisations_is_in_one_fold():
    samples = made_samples(people=40, cutoffs=7)
    folds = {}
    for split in planned(samples):
        for user in samples["user_id"].gather(split.test):
            folds.setdefault(user, set()).add(split.fold)
    assert all(len(found) == 1 for found in folds.values())
    assert len(set.union(*folds.values())) == 5


@pytest.mark.parametrize("violation", ["person", "future", "cutoff"])
def test_a_planted_leak_is_found(violation):
    samples = made_samples(people=40, cutoffs=7)
    split = planned(samples)[-1]
    refuse_leaks(samples, split, horizon_days=HORIZON_DAYS)
    rows = samples.with_row_index().sort("user_id", "cutoff", "org_id")
    tested = set(samples["user_id"].gather(split.test))
    is_tested = pl.col("user_id").is_in(list(tested))
    planted = (
        {
            "person": rows.filter(is_tested & (pl.col("cutoff") == cutoff(0))),
            "future": rows.filter(~is_tested & (pl.col("cutoff") == split.cutoff)),
            "cutoff": rows.filter(is_tested & (pl.col("cutoff") == cutoff(3))),
        }[violation]["index"]
        .to_numpy()[:1]
        .astype(np.int64)
    )
    test = np.append(split.test, planted) if violation == "cutoff" else split.test
    train = split.train if violation == "cutoff" else np.append(split.train, planted)
    wrong = Split(split.cutoff, split.fold, train, test)
    assert leaks(samples, wrong)
    words = {
        "person": "1 people are in both",
        "future": "1 rows trained on are of later",
        "cutoff": "other cut-offs",
    }[violation]
    with pytest.raises(LeakError, match=words):
        refuse_leaks(samples, wrong, horizon_days=HORIZON_DAYS)


def test_a_single_cut_off_is_tested_only_where_time_may_not_count():
    samples = made_samples(people=40, cutoffs=1)
    assert planned(samples) == []
    found = planned(samples, in_time=False)
    assert sorted(np.concatenate([split.test for split in found]).tolist()) == list(
        range(samples.height)
    )
    for split in found:
        assert not set(samples["user_id"].gather(split.train)) & set(
            samples["user_id"].gather(split.test)
        )
        refuse_leaks(samples, split, horizon_days=HORIZON_DAYS, in_time=False)


def test_folds_are_by_people_and_seed_alone():
    ids = pl.Series(["b", "a", "b"])
    found = id_hashes(ids, 1)
    assert found[0] == found[2] != found[1]
    assert found[1] == id_hashes(pl.Series(["a"]), 1)[0] != id_hashes(pl.Series(["a"]), 2)[0]
    # The same on every machine: it is written down here.
    assert id_hashes(pl.Series(["u1"]), 7).tolist() == [16409970489293779338]


def test_people_are_numbered_by_their_ids():
    samples = pl.DataFrame({"user_id": ["b", "a", "c", "b"]})
    assert person_codes(samples).tolist() == [1, 0, 2, 1]


def test_drawn_samples_are_the_same_in_any_order_and_more_hold_fewer():
    samples = made_samples(people=30, cutoffs=5)
    few, more = (drawn_samples(samples, limit, seed=1) for limit in (20, 60))
    shuffled = samples.sample(fraction=1, shuffle=True, seed=5)
    assert few.height == 20
    assert few.equals(drawn_samples(shuffled, 20, seed=1))
    assert few.join(more, on=["user_id", "org_id", "cutoff"], how="anti").is_empty()
    assert not few.equals(drawn_samples(samples, 20, seed=2))
    assert drawn_samples(samples, 1_000, seed=1).height == samples.height
