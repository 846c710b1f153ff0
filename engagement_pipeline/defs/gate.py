"""The last asset of the daily run: it fails the run when an organisation was left failed."""

import dagster as dg

from engagement_pipeline.defs.marts import MART_KEYS
from engagement_pipeline.defs.metadata import OWNERS, WAREHOUSE_POOL
from engagement_pipeline.defs.resources import PipelineResource
from engagement_pipeline.defs.scoring import GATE, SCORING_RUNS, fail_if_any
from engagement_pipeline.warehouse import classifications as stored


@dg.asset(
    key=GATE,
    deps=[SCORING_RUNS, *MART_KEYS],
    description="Fails, naming each organisation that was left failed and why; by then all the "
    "others are published. Materialize → Failed on `scores/classifications` retries just those.",
    group_name="scoring",
    owners=OWNERS,
    kinds={"python"},
    code_version="1",
    pool=WAREHOUSE_POOL,
)
def gate(pipeline: PipelineResource) -> dg.MaterializeResult[None]:
    """Pass when every organisation has its levels for the moment that the marts show."""
    with pipeline.warehouse().open() as connection:
        as_of = stored.shown_as_of(connection)
        failed = stored.failed_orgs(connection, as_of=as_of) if as_of else []
    fail_if_any(failed)
    return dg.MaterializeResult(metadata={"orgs_failed": 0})
