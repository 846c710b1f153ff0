"""Whose mentions are read in a Slack community, foretold from a handful each."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from engagement_pipeline.loops.shrinkage import fit_group_priors, shrink
from tests.home import settings_of
from tests.loop_home import learn, rows, take_in
from tests.real_data.conftest import DATA

TRAINED_ON = 0.7
"""Share of the mentions, the earliest, that rates are drawn from; the rest is foretold."""

_ADDRESSEE = ("org_id", "user_id")


@pytest.fixture(scope="module")
def addressees() -> pl.DataFrame:
    """One row per addressee of both parts: `sent`, `read` of the first, `then_*` of the second."""
    path = DATA / "slack_2017_2018" / "notifications.parquet"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    mentions = pl.read_parquet(path).sort("sent_at", "notification_id")
    split = int(TRAINED_ON * mentions.height)
    split_at = mentions["sent_at"][split]
    # Only what was known at the split may teach: a later read had not happened by then.
    known = pl.col("read_at").is_not_null() & (pl.col("read_at") < split_at)
    before = mentions[:split].group_by(_ADDRESSEE).agg(sent=pl.len(), read=known.sum())
    after = (
        mentions[split:]
        .group_by(_ADDRESSEE)
        .agg(then_sent=pl.len(), then_read=pl.col("read_at").is_not_null().sum())
    )
    return before.join(after, on=list(_ADDRESSEE), how="inner").sort(_ADDRESSEE)


def _log_loss(addressees: pl.DataFrame, predicted: npt.NDArray[np.float64]) -> float:
    """Mean over the mentions of the second part, of these predicted rates of being read."""
    sent, read = (addressees[name].to_numpy() for name in ("then_sent", "then_read"))
    losses = read * np.log(predicted) + (sent - read) * np.log(1 - predicted)
    return float(-losses.sum() / sent.sum())


def _shrunken(addressees: pl.DataFrame) -> npt.NDArray[np.float64]:
    """The rate of each addressee, drawn towards those of the others in the organisation."""
    units = addressees.select("org_id", successes="read", trials="sent")
    priors = fit_group_priors(units, group="org_id")
    rates = [shrink(read, sent, priors.of(org)) for org, read, sent in units.iter_rows()]
    return np.array(rates)


def test_the_shrunken_rate_foretells_reading_better_than_any_simpler_one(
    addressees: pl.DataFrame,
) -> None:
    sent, read = addressees["sent"].to_numpy(), addressees["read"].to_numpy()
    in_org = addressees.select(pl.col("read", "sent").sum().over("org_id"))
    simpler = {
        "their own, never quite certain": np.clip(read / sent, 1e-3, 1 - 1e-3),
        "their own, far from certain": np.clip(read / sent, 1e-2, 1 - 1e-2),
        "with one more of each": (read + 1) / (sent + 2),
        "everybody's in the organisation": (in_org["read"] / in_org["sent"]).to_numpy(),
    }
    shrunken = _log_loss(addressees, _shrunken(addressees))
    worse = {name: _log_loss(addressees, rates) for name, rates in simpler.items()}
    assert addressees.height > 40
    assert shrunken < min(worse.values()), (shrunken, worse)


def test_rates_learned_of_mentions_are_those_counted_by_hand(tmp_path: Path) -> None:
    source = DATA / "slack_2017_2018"
    if not source.is_dir():
        pytest.skip(f"{source} is not there")
    as_of = datetime(2018, 12, 1, tzinfo=UTC)
    start = as_of - timedelta(days=30)
    settings = settings_of(tmp_path / "home", source)
    take_in(settings, datetime(2026, 1, 1, tzinfo=UTC))
    assert learn(settings, as_of, "engagement", plans_digests=True)["engagement"].failed == {}
    engaged, sent, read = 0, 0, 0
    for mention in pl.read_parquet(source / "notifications.parquet").to_dicts():
        if mention["org_id"] != "racket-2018" or mention["sent_at"] > as_of:
            continue
        is_read = mention["read_at"] is not None and mention["read_at"] <= as_of
        engaged += is_read and mention["read_at"] > start
        if mention["sent_at"] > start:
            sent, read = sent + 1, read + is_read
    assert (engaged, sent, read) == (130, 140, 129)
    (decided,) = rows(settings, "SELECT * FROM loops.digest_decisions WHERE n_sent IS NOT NULL")
    assert (decided["n_sent"], decided["n_read"]) == (sent, read)
    assert decided["engagement_rate"] == round(engaged / 30, 4)
    assert decided["read_rate"] == pytest.approx(read / sent)
