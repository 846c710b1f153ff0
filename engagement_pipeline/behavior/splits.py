"""Who and what is trained on, and who and what is tested: people apart, and nothing from later.

Here belongs the drawing of rows. What is fitted to them belongs to `validation`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

Places: TypeAlias = npt.NDArray[np.int64]
"""Rows of the samples, by their number."""

KEYS = ("user_id", "org_id", "cutoff")
TEST_CUTOFFS = 3
FOLDS = 5
FOLDS_OF_MANY = 2
MANY_SAMPLES = 100_000


class LeakError(AssertionError):
    """A split that would have a model tested on what it was trained on; a mistake of ours."""


@dataclass(frozen=True)
class Split:
    """A training and its test: one fold of people at one cut-off."""

    cutoff: datetime
    fold: int
    train: Places
    test: Places


def splits(
    samples: pl.DataFrame,
    *,
    horizon_days: int,
    seed: int,
    max_training_samples: int,
    folds: int | None = None,
    test_cutoffs: int = TEST_CUTOFFS,
    in_time: bool = True,
) -> list[Split]:
    """What is trained on and tested, for each of the last cut-offs and each fold of people.

    A person is in one fold, by a hash of the id and the seed, with all their rows: in every
    organisation and at every cut-off. Tested is a fold at a cut-off; trained on are the others, at
    cut-offs whose outcome was known by then. Cut-offs that nothing was known by, and those that
    only one class was known by, are not tested.

    Args:
        samples: `org_id`, `user_id`, `cutoff`, `outcome`.
        horizon_days: days after a cut-off until its outcome is known.
        seed: of folds and draws.
        max_training_samples: rows of a training at most, and of all tests together; more are drawn
            by hashes, for tests whole people.
        folds: of people; by default 5, of over 100,000 samples 2.
        test_cutoffs: how many of the last cut-offs are tested.
        in_time: False trains on other people at the *same* cut-off, whose outcome nobody knew yet.
            For data with a single cut-off, where there is no other way.

    Returns:
        By cut-off and fold. Rows of the samples are named by place, whatever order they are in.
    """
    folds = folds or (FOLDS if samples.height <= MANY_SAMPLES else FOLDS_OF_MANY)
    ordered = samples.select(*KEYS, "outcome").with_row_index("place").sort(KEYS)
    places = ordered["place"].to_numpy().astype(np.int64)
    outcomes, cutoffs = ordered["outcome"].to_numpy(), ordered["cutoff"]
    people = id_hashes(ordered["user_id"], seed)
    fold_of = people % np.uint64(folds)
    rows = _mixed(people, id_hashes(ordered["org_id"], seed), cutoffs.to_physical().to_numpy())
    horizon = timedelta(days=horizon_days)
    tested: list[list[Split]] = []
    for cutoff in cutoffs.unique().sort(descending=True):
        if len(tested) == test_cutoffs:
            break
        is_here = (cutoffs == cutoff).to_numpy()
        is_known = (cutoffs <= cutoff - horizon).to_numpy() if in_time else is_here
        here: list[Split] = []
        for fold in range(folds):
            known = np.flatnonzero(is_known & (fold_of != fold))
            train = drawn(rows, known, max_training_samples)
            test = np.flatnonzero(is_here & (fold_of == fold))
            if test.size and np.unique(outcomes[train]).size == 2:
                here.append(Split(cutoff, fold, places[train], test))
        if here:
            tested.append(here)
    limit = max(1, max_training_samples // max(1, len(tested)))
    return [kept for here in reversed(tested) for kept in _limited(here, people, places, limit)]


def refuse_leaks(
    samples: pl.DataFrame, split: Split, *, horizon_days: int, in_time: bool = True
) -> None:
    """Have it checked that nobody is in both train and test, and that outcomes were known in time.

    Raises:
        LeakError: somebody or something is; says who or what.
    """
    keys = samples.select("user_id", "cutoff")
    train, test = keys[split.train], keys[split.test]
    both = train.join(test, on="user_id", how="semi")
    if not both.is_empty():
        raise LeakError(
            f"{both['user_id'].n_unique()} people are in both train and test of "
            f"{split.cutoff.isoformat()}, such as {both.item(0, 'user_id')}"
        )
    if (test["cutoff"] != split.cutoff).any():
        raise LeakError(f"a test of {split.cutoff.isoformat()} has rows of other cut-offs")
    latest = split.cutoff - timedelta(days=horizon_days if in_time else 0)
    later = train.filter(pl.col("cutoff") > latest)
    if not later.is_empty():
        raise LeakError(
            f"for a test at {split.cutoff.isoformat()} outcomes are known of cut-offs up to "
            f"{latest.isoformat()}, and {later.height} rows trained on are of later ones"
        )


def person_codes(samples: pl.DataFrame) -> Places:
    """A number for each row: the place of its `user_id` among all of them, sorted."""
    codes: Places = samples["user_id"].rank("dense").to_numpy().astype(np.int64) - 1
    return codes


def drawn_samples(samples: pl.DataFrame, limit: int, *, seed: int) -> pl.DataFrame:
    """At most so many of the samples, drawn by a hash of their keys, sorted by them."""
    ordered = samples.select(KEYS).with_row_index("place").sort(KEYS)
    rows = _mixed(
        id_hashes(ordered["user_id"], seed),
        id_hashes(ordered["org_id"], seed),
        ordered["cutoff"].to_physical().to_numpy(),
    )
    chosen = drawn(rows, np.arange(ordered.height), limit)
    return samples[ordered["place"].to_numpy()[chosen].astype(np.int64)]


def drawn(hashes: npt.NDArray[np.uint64], places: Places, limit: int) -> Places:
    """Those of the places that have the lowest hashes, at most so many, in their order."""
    if places.size <= limit:
        return places
    lowest = np.argsort(hashes[places], kind="stable")[:limit]
    return np.sort(places[lowest])


def id_hashes(ids: pl.Series, seed: int) -> npt.NDArray[np.uint64]:
    """64 bits of each id and the seed, by BLAKE2b: the same on every machine and version."""
    known = ids.unique()
    hashed = [
        int.from_bytes(
            hashlib.blake2b(text.encode(), digest_size=8, key=str(seed).encode()).digest()
        )
        for text in known
    ]
    return ids.replace_strict(known, pl.Series(hashed, dtype=pl.UInt64)).to_numpy()


def _mixed(*parts: npt.NDArray[np.generic]) -> npt.NDArray[np.uint64]:
    """One hash of several: the finaliser of SplitMix64 (G. L. Steele and others, 2014)."""
    mixed = np.zeros(parts[0].size, dtype=np.uint64)
    for part in parts:
        mixed = (mixed ^ part.astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    return mixed


def _limited(
    here: Sequence[Split], people: npt.NDArray[np.uint64], places: Places, limit: int
) -> list[Split]:
    """The splits of one cut-off with no more than so many rows tested: those of the same people."""
    kept = drawn(people, np.concatenate([split.test for split in here]), limit)
    return [
        Split(split.cutoff, split.fold, split.train, places[test])
        for split in here
        if (test := split.test[np.isin(split.test, kept)]).size
    ]
