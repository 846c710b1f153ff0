"""The assets of milestones: the catalogue, what members did day by day, and how far they are.

What counts, and when a milestone is reached, belongs to `milestones`; what is read and written for
it, to `warehouse.milestones`; who is congratulated, and how, to `outreach`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import dagster as dg
import polars as pl
from pydantic import Field

from engagement_pipeline.contracts import Contract, contract
from engagement_pipeline.defs.behavior import succeeded
from engagement_pipeline.defs.ingest import RAW_KEYS
from engagement_pipeline.defs.metadata import (
    WAREHOUSE_POOL,
    Metadata,
    asset_key,
    contract_check,
    contract_check_spec,
    table_spec,
)
from engagement_pipeline.defs.progress import Progress
from engagement_pipeline.defs.resources import PipelineResource, run_start
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse import milestones as stored
from engagement_pipeline.warehouse.connection import Connection
from engagement_pipeline.warehouse.quality import Violation, row_count, violations
from engagement_pipeline.warehouse.schema import upgrade

CATALOGUE, DAYS, PROGRESS = stored.CATALOGUE, stored.DAILY, stored.PROGRESS
TABLES = (CATALOGUE, DAYS, PROGRESS)

NIGHTLY = dg.FreshnessPolicy.cron(deadline_cron="0 4 * * *", lower_bound_delta=timedelta(hours=3))
"""Red when nothing came between 01:00 and 04:00 UTC: milestones are counted at 02:00."""

_WIDTH = 8
"""The setting `slice_rows` is of narrow rows of activity. What days are counted from is wider, and
of progress there is a row for each milestone, so that fewer are worked on at once."""

Report = Callable[[int], None]
"""Told how many members were added to those that are done."""

_CELEBRATED = "celebrations_planned"
CELEBRATIONS_PLANNED = dg.AssetCheckSpec(
    _CELEBRATED,
    asset=asset_key(PROGRESS),
    description="Messages to those who have just reached something could be planned. Where they "
    "could not, the next run does it.",
)


class MilestoneConfig(dg.Config):
    """What becomes of milestones that were changed."""

    overwrite_catalogue: bool = Field(
        default=False,
        description="Put the milestones of the project's file in the place of those with the same "
        "id. Otherwise only missing ones are added. Those that only the table has always stay.",
    )


@dataclass
class Done:
    """What a run made of the tables of milestones.

    Attributes:
        metadata: by table.
        failed: table -> why it could not be computed.
        not_planned: why no celebration was planned, where that failed.
    """

    metadata: dict[str, Metadata] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    not_planned: str | None = None


def count_days(connection: Connection, settings: Settings, *, as_of: datetime) -> int:
    """Count all days anew that are not frozen, and write them; gives how many rows came in.

    To be called before days are frozen, too: late rows count until then.
    """
    from engagement_pipeline.milestones.days import DaySources, daily

    since = stored.frozen_before(connection)
    slice_rows = max(1, settings.slice_rows // _WIDTH)
    slices = stored.day_slices(connection, as_of=as_of, since=since, slice_rows=slice_rows)
    rows = (daily(DaySources.of(frames), as_of=as_of, since=since) for frames in slices)
    return stored.write_days(connection, rows, since=since)


def tell_progress(
    connection: Connection, settings: Settings, *, as_of: datetime, report: Report | None = None
) -> int:
    """Tell of all members how far they are, and write it; gives how many rows there are.

    Raises:
        InvalidCatalogueError: a milestone of the catalogue cannot be counted.
    """
    from engagement_pipeline.milestones.progress import progress

    milestones = stored.catalogue(connection)
    slices = stored.progress_slices(
        connection,
        as_of=as_of,
        slice_rows=max(1, settings.slice_rows // _WIDTH),
        gamification_enabled=settings.gamification_enabled,
    )

    def rows() -> Iterator[pl.DataFrame]:
        for found in slices:
            yield progress(found.days, milestones, found.members, found.previous, as_of=as_of)
            if report is not None:
                report(found.members.height)

    return stored.write_progress(connection, rows())


def _spec(table: Contract, deps: Sequence[dg.AssetKey], *kinds: str) -> dg.AssetSpec:
    return table_spec(
        table,
        group="milestones",
        deps=deps,
        kinds=(*kinds, "duckdb"),
        skippable=True,
        freshness_policy=None if table is CATALOGUE else NIGHTLY,
    )


@dg.multi_asset(
    name="milestones",
    can_subset=True,
    specs=[
        _spec(CATALOGUE, [], "yaml"),
        _spec(
            DAYS,
            [
                asset_key(contract("behavior.interactions_scored")),
                *(
                    RAW_KEYS[name]
                    for name in (
                        "organizations",
                        "memberships",
                        "profiles",
                        "events",
                        "attendance",
                        "notifications",
                        "notification_reads",
                    )
                ),
            ],
            "polars",
        ),
        _spec(
            PROGRESS,
            [
                asset_key(CATALOGUE),
                asset_key(DAYS),
                *(
                    RAW_KEYS[name]
                    for name in ("organizations", "memberships", "profiles", "org_settings")
                ),
            ],
            "polars",
        ),
    ],
    check_specs=[
        *(contract_check_spec(table, is_blocking=False) for table in TABLES),
        *(succeeded(table) for table in TABLES),
        CELEBRATIONS_PLANNED,
    ],
    pool=WAREHOUSE_POOL,
)
def milestones(
    context: dg.AssetExecutionContext, config: MilestoneConfig, pipeline: PipelineResource
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Fill the catalogue, count members' days, tell how far they are, and plan congratulations."""
    settings = pipeline.settings()
    now = run_start(context)
    as_of = pipeline.moment(now)
    tables = [table for table in TABLES if asset_key(table) in context.selected_asset_keys]
    with pipeline.warehouse().open() as connection:
        upgrade(connection, now=now)
        done = _Work(context, connection, settings, config, as_of, now).done(tables)
        rows = {table.full_name: row_count(connection, table) for table in tables}
        broken = {table.full_name: violations(connection, table) for table in tables}
    for table in tables:
        yield dg.MaterializeResult(
            asset_key=asset_key(table),
            metadata={
                "dagster/row_count": rows[table.full_name],
                "as_of": as_of.isoformat(),
                **done.metadata.get(table.full_name, {}),
            },
        )
    yield from _checks(context, tables, broken, done)


@dataclass(frozen=True)
class _Work:
    """The stages of one run, each of which fills one table."""

    context: dg.AssetExecutionContext
    connection: Connection
    settings: Settings
    config: MilestoneConfig
    as_of: datetime
    now: datetime

    def done(self, tables: Sequence[Contract]) -> Done:
        """Fill these tables, one after another; one that cannot be filled stays as it was.

        Where days could not be counted nobody's progress is told: a streak would seem broken.
        """
        stages: dict[str, Callable[[], Metadata]] = {
            CATALOGUE.full_name: self._seed,
            DAYS.full_name: self._count,
            PROGRESS.full_name: self._tell,
        }
        done = Done()
        for table in tables:
            name = table.full_name
            if table is PROGRESS and DAYS.full_name in done.failed:
                why = done.failed[DAYS.full_name]
                done.failed[name] = f"waits for {DAYS.full_name}: {why}"
                continue
            try:
                done.metadata[name] = stages[name]()
            except Exception as error:
                done.failed[name] = f"{type(error).__name__}: {error}"
                self.context.log.exception(f"{name}: nothing could be computed: {error}")
        if PROGRESS in tables and PROGRESS.full_name not in done.failed:
            self._celebrate(done)
        return done

    def _seed(self) -> Metadata:
        from engagement_pipeline.milestones.catalogue import catalogue

        seeded = stored.seed_catalogue(
            self.connection,
            catalogue(),
            seeded_at=self.now,
            overwrites=self.config.overwrite_catalogue,
        )
        return {
            "added": seeded.added,
            "replaced": seeded.replaced,
            "left_as_they_were": seeded.kept,
        }

    def _count(self) -> Metadata:
        counted = count_days(self.connection, self.settings, as_of=self.as_of)
        frozen = stored.frozen_before(self.connection)
        return {
            "days_counted": counted,
            **({} if frozen is None else {"counted_from": frozen.isoformat()}),
        }

    def _tell(self) -> Metadata:
        members = stored.member_count(
            self.connection,
            as_of=self.as_of,
            gamification_enabled=self.settings.gamification_enabled,
        )
        progress = Progress(self.context.log, "milestones", members, "members")
        tell_progress(self.connection, self.settings, as_of=self.as_of, report=progress.advance)
        shown = stored.overview(self.connection)
        by_category = stored.reached_by_category(self.connection)
        told: Metadata = {
            "members": shown.members,
            "reached": shown.reached,
            "reached_in_a_day": shown.reached_in_a_day,
            "celebrated": shown.celebrated,
            "categories": dg.MetadataValue.md(_categories_table(by_category)),
        }
        if shown.reached:
            told["by_category"] = dg.MetadataValue.md(reached_picture(by_category))
        return told

    def _celebrate(self, done: Done) -> None:
        # What is read of templates and of members takes its time, and seeding needs none of it.
        from engagement_pipeline.defs.outreach import plan_celebrations

        try:
            found = plan_celebrations(
                self.connection,
                self.settings,
                as_of=self.as_of,
                computed_at=self.now,
                log=self.context.log,
            )
        except Exception as error:
            done.not_planned = f"{type(error).__name__}: {error}"
            self.context.log.exception(f"no celebration was planned: {error}")
            return
        done.metadata[PROGRESS.full_name]["celebrations_planned"] = found.added
        done.metadata[PROGRESS.full_name]["celebrations_withheld"] = found.withheld
        if found.failed:
            done.not_planned = "; ".join(
                f"{org_id}: {why}" for org_id, why in sorted(found.failed.items())
            )


def _categories_table(by_category: pl.DataFrame) -> str:
    head = [
        "| category | milestones | members | reached | in the last 24 hours |",
        "| --- " + "| ---: " * 4 + "|",
    ]
    names = ("category", "milestones", "members", "reached", "reached_in_a_day")
    listed = [
        f"| {category} | " + " | ".join(f"{n:,}" for n in counts) + " |"
        for category, *counts in by_category.select(names).iter_rows()
    ]
    return "\n".join([*head, *listed])


def reached_picture(by_category: pl.DataFrame) -> str:
    """Milestones reached by category; takes `category`, `reached` and `reached_in_a_day`."""
    # Most runs draw nothing, and matplotlib takes its time to import.
    from matplotlib.figure import Figure

    from engagement_pipeline.defs.pictures import markdown

    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots()
    categories = by_category["category"].to_list()
    late = by_category["reached_in_a_day"].to_list()
    before = (by_category["reached"] - by_category["reached_in_a_day"]).to_list()
    axes.barh(categories, before, label="before", color="#7fbf7b")
    axes.barh(categories, late, left=before, label="in the last 24 hours", color="#1b7837")
    axes.invert_yaxis()
    axes.set_xlabel("milestones reached by members")
    axes.legend(fontsize=8)
    return markdown(figure, "Milestones reached")


def _checks(
    context: dg.AssetExecutionContext,
    tables: Sequence[Contract],
    broken: dict[str, list[Violation]],
    done: Done,
) -> Iterator[dg.AssetCheckResult]:
    wanted = context.selected_asset_check_keys
    found = []
    for table in tables:
        why = done.failed.get(table.full_name)
        found.append(contract_check(table, broken[table.full_name]))
        found.append(_told(table, succeeded(table).name, why, dg.AssetCheckSeverity.ERROR))
    if PROGRESS in tables:
        why = done.failed.get(PROGRESS.full_name) or done.not_planned
        found.append(_told(PROGRESS, _CELEBRATED, why, dg.AssetCheckSeverity.WARN))
    yield from (
        check
        for check in found
        if dg.AssetCheckKey(check.asset_key or dg.AssetKey([]), str(check.check_name)) in wanted
    )


def _told(
    table: Contract, check: str, why: str | None, severity: dg.AssetCheckSeverity
) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=asset_key(table),
        check_name=check,
        passed=why is None,
        severity=severity,
        description=why,
    )


WRITTEN_ALONG = [table_spec(stored.RETENTION, group="milestones", deps=[])]
"""Written by cleaning, which removes interactions."""
