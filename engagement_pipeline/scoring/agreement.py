"""How far two judges of the same members agree, and how steady one judge is.

Numbers about lists of levels belong here, whoever gave the levels: a model, the rules or a
person. Whether levels of an organisation move over time belongs to `drift`.
"""

from collections import Counter
from collections.abc import Sequence

import polars as pl

CONFUSION_SCHEMA = pl.Schema({"from": pl.String(), "to": pl.String(), "count": pl.Int64()})


def agreement(a: Sequence[str], b: Sequence[str]) -> float:
    """The share of items that both judges give the same level, from 0 to 1.

    Args:
        a: the levels that one judge gives, an item each.
        b: the levels that the other gives to the same items, in the same order.

    Raises:
        ValueError: there is no item, or the judges give levels to unlike numbers of them.
    """
    _check(a, b)
    return _agreed(a, b) / len(a)


def cohens_kappa(
    a: Sequence[str], b: Sequence[str], *, weights: Sequence[int] | None = None
) -> float | None:
    """The agreement of two judges beyond what chance would give: at most 1, and 0 is chance.

    `(p_o - p_e) / (1 - p_e)`, where `p_o` is the share of items agreed on, and `p_e` the share
    that judges would agree on who drew their levels at random, each as often as they gave them
    (J. Cohen, "A coefficient of agreement for nominal scales", Educational and Psychological
    Measurement 20, 1960, pages 37-46; `sklearn.metrics.cohen_kappa_score`).

    Args:
        a: the levels that one judge gives, an item each.
        b: the levels that the other gives to the same items, in the same order.
        weights: how many items each of these stands for, at least 1; None: one each.

    Returns:
        Kappa, to twelve decimals; None where both judges give one and the same level throughout,
        so that chance could not but agree.

    Raises:
        ValueError: there is no item, or the judges give levels to unlike numbers of them.
    """
    _check(a, b)
    if len({*a, *b}) == 1:
        return None
    # It takes seconds to import, and whoever compares no judges should not wait for it.
    from sklearn.metrics import cohen_kappa_score  # type: ignore[import-untyped, unused-ignore]

    # Its sums run in the order of the levels, and differ in the last digits with their names.
    return round(float(cohen_kappa_score(a, b, sample_weight=weights)), 12)


def flip_rate(reference: Sequence[str], others: Sequence[Sequence[str]]) -> float:
    """How often another run gives an item another level than the reference: from 0 to 1.

    The share of pairs of an item and another run whose level differs.

    Args:
        reference: the levels of one run, an item each.
        others: those of the other runs over the same items, in the same order.

    Raises:
        ValueError: there is no item or no other run, or a run has another number of items.
    """
    if not others:
        raise ValueError("expected at least one other run to compare the reference with")
    for other in others:
        _check(reference, other)
    agreed = sum(_agreed(reference, other) for other in others)
    pairs = len(reference) * len(others)
    return (pairs - agreed) / pairs


def confusion(a: Sequence[str], b: Sequence[str]) -> pl.DataFrame:
    """How often each level of one judge met each level of the other.

    Args:
        a: the levels that one judge gives, an item each.
        b: the levels that the other gives to the same items, in the same order.

    Returns:
        One row per pair of levels that occurs, the most frequent first (`CONFUSION_SCHEMA`):
        `from` is the level in `a`, `to` the one in `b`, `count` the number of items.

    Raises:
        ValueError: there is no item, or the judges give levels to unlike numbers of them.
    """
    _check(a, b)
    met = sorted(Counter(zip(a, b, strict=True)).items(), key=lambda pair: (-pair[1], pair[0]))
    rows = [(level_a, level_b, count) for (level_a, level_b), count in met]
    return pl.DataFrame(rows, schema=CONFUSION_SCHEMA, orient="row")


def _agreed(a: Sequence[str], b: Sequence[str]) -> int:
    return sum(one == other for one, other in zip(a, b, strict=True))


def _check(a: Sequence[str], b: Sequence[str]) -> None:
    if len(a) != len(b):
        raise ValueError(f"expected levels of the same items, found {len(a)} and {len(b)}")
    if not a:
        raise ValueError("expected the levels of at least one item, found none")
