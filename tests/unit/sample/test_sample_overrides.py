"""Override requests: good ones in every organisation, and one of each kind to be refused."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl
import pytest

LEVELS = ["highly_engaged", "moderate", "at_risk", "new", "inactive"]


@pytest.fixture(scope="session")
def judged(tables: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """Readable requests with `fault`, the first reason for which one is not valid (null: valid)."""
    memberships = tables["memberships"].filter(pl.col("joined_at").is_not_null())
    admins = memberships.filter(role="admin").select(
        "org_id", pl.col("user_id").alias("performed_by"), pl.lit(True).alias("is_admin")
    )
    members = memberships.select("org_id", "user_id", pl.lit(True).alias("is_member"))
    return (
        tables["override_requests"]
        .filter(pl.col("performed_at").is_not_null(), pl.col("action").is_in(["override", "clear"]))
        .join(admins.unique(), on=["org_id", "performed_by"], how="left")
        .join(members.unique(), on=["org_id", "user_id"], how="left")
        .with_columns(
            fault=pl.when(pl.col("is_admin").is_null())
            .then(pl.lit("not_admin"))
            .when(pl.col("is_member").is_null())
            .then(pl.lit("unknown_member"))
            .when(pl.col("notes").str.strip_chars() == "")
            .then(pl.lit("blank_notes"))
            .when(~pl.col("level").is_in(LEVELS))
            .then(pl.lit("unknown_level"))
            .when(pl.col("expires_at") <= pl.col("performed_at"))
            .then(pl.lit("expires_too_early"))
        )
    )


@pytest.mark.parametrize(
    "fault", ["not_admin", "unknown_member", "blank_notes", "unknown_level", "expires_too_early"]
)
def test_each_way_to_be_invalid_occurs_once(judged: pl.DataFrame, fault: str) -> None:
    assert judged.filter(fault=fault).height == 1


def test_every_organisation_has_valid_overrides_and_two_have_enough_to_learn_from(
    judged: pl.DataFrame, as_of: datetime
) -> None:
    recent = judged.filter(
        pl.col("fault").is_null(),
        pl.col("action") == "override",
        pl.col("performed_at") > as_of - timedelta(days=180),
    )
    per_org = recent.group_by("org_id").len()["len"].to_list()
    assert len(per_org) == 6
    assert sum(count >= 20 for count in per_org) >= 2


def test_there_is_an_expired_a_stale_and_a_cleared_override(
    judged: pl.DataFrame, as_of: datetime
) -> None:
    valid = judged.filter(pl.col("fault").is_null())
    overrides = valid.filter(action="override")
    assert overrides.filter(pl.col("expires_at") < as_of).height >= 1
    stale_since = as_of - timedelta(days=90)
    is_stale = pl.col("expires_at").is_null() & (pl.col("performed_at") < stale_since)
    assert overrides.filter(is_stale).height >= 1
    clears = valid.filter(action="clear")
    earlier = clears.join(overrides, on=["org_id", "user_id"], suffix="_of_override")
    assert earlier.filter(pl.col("performed_at_of_override") < pl.col("performed_at")).height == 1
