"""The daily run as a whole, in a real Dagster instance on real files."""

import dagster as dg
import pytest

from engagement_pipeline.definitions import defs
from engagement_pipeline.defs.classifying import CLASSIFICATIONS
from engagement_pipeline.defs.partitions import ORGS
from engagement_pipeline.terminal.running import (
    BusyError,
    dagster_instance,
    org_tags,
    run_job,
    turn,
)
from tests.dagster.conftest import Pipeline
from tests.home import published, refresh, run_pipeline, run_unpublished, stored, tables
from tests.small_source import AS_OF, EXPECTED_LEVELS, write_small_source, write_table
from tests.small_source import ORGS as ORG_IDS


def _partition_states(instance: dg.DagsterInstance) -> dict[str, str]:
    keys = instance.get_dynamic_partitions(str(ORGS.name))
    states = instance.get_status_by_partition(CLASSIFICATIONS, keys, ORGS) or {}
    found = {key: states.get(key) for key in keys}
    return {key: state.name if state else "NONE" for key, state in found.items()}


def _break(pipeline: Pipeline, org_id: str) -> None:
    # More attendances for moderate than for highly engaged: nobody could ever be moderate.
    write_table(
        pipeline.source,
        "org_settings",
        ["org_id", "setting", "value"],
        [[org_id, "moderate_min", "9"]],
    )


def _mend(pipeline: Pipeline, org_id: str) -> None:
    write_table(
        pipeline.source,
        "org_settings",
        ["org_id", "setting", "value"],
        [[org_id, "moderate_min", "1"]],
    )


def test_every_member_of_every_organisation_is_published_with_its_level(ran: Pipeline) -> None:
    rows = published(
        ran.settings,
        "SELECT org_id, user_id, effective_level, as_of FROM marts.member_engagement ORDER BY ALL",
    )
    expected = [
        (org, user, level, AS_OF)
        for org in ORG_IDS
        for user, level in sorted(EXPECTED_LEVELS.items())
    ]
    assert rows == expected


def test_a_second_run_of_the_same_moment_loads_nothing_and_changes_no_table(ran: Pipeline) -> None:
    before = tables(ran.settings.warehouse_path, "raw", "signals", "scores")
    marts_before = tables(ran.settings.published_path, "marts")
    files = stored(ran.settings, "SELECT * FROM raw.ingested_files ORDER BY ALL")
    assert ran.run().failures == []
    after = tables(ran.settings.warehouse_path, "raw", "signals", "scores")
    assert stored(ran.settings, "SELECT * FROM raw.ingested_files ORDER BY ALL") == files
    # Only the list of runs grows.
    del before["scores.scoring_runs"], after["scores.scoring_runs"]
    assert before.keys() == after.keys()
    for name, frame in before.items():
        assert frame.equals(after[name]), name
    for name, frame in tables(ran.settings.published_path, "marts").items():
        assert frame.equals(marts_before[name]), name


def test_one_failed_organisation_leaves_the_others_published_and_itself_to_be_retried_alone(
    pipeline: Pipeline,
) -> None:
    _break(pipeline, "garden")
    outcome = pipeline.run()
    assert len(outcome.failures) == 1
    assert "garden" in outcome.failures[0]
    assert "moderate_min" in outcome.failures[0]
    shown = published(pipeline.settings, "SELECT DISTINCT org_id FROM marts.member_engagement")
    assert sorted(shown) == [("choir",), ("runners",)]
    with dagster_instance(pipeline.settings) as instance:
        assert _partition_states(instance) == {
            "choir": "MATERIALIZED",
            "garden": "FAILED",
            "runners": "MATERIALIZED",
        }
        _mend(pipeline, "garden")
        options = {"source": str(pipeline.source), "as_of": AS_OF.isoformat()}
        assert run_job(instance, "refresh", options=options).is_success
        # What Materialize → Failed in the UI does: that one partition, of that one asset.
        retried = (
            defs.resolve_implicit_global_asset_job_def()
            .get_subset(asset_selection={CLASSIFICATIONS})
            .execute_in_process(
                instance=instance,
                run_config={"resources": {"pipeline": {"config": options}}},
                tags=org_tags(instance, ["garden"]),
                raise_on_error=False,
            )
        )
        assert retried.success
        assert set(_partition_states(instance).values()) == {"MATERIALIZED"}
        assert run_job(instance, "publish").is_success
    shown = published(pipeline.settings, "SELECT DISTINCT org_id FROM marts.member_engagement")
    assert sorted(shown) == [("choir",), ("garden",), ("runners",)]


def test_a_failed_organisation_keeps_its_last_good_levels_with_their_true_moment(
    ran: Pipeline,
) -> None:
    _break(ran, "garden")
    later = AS_OF.replace(day=8)
    assert run_pipeline(ran.settings, later).failures
    rows = published(
        ran.settings,
        "SELECT org_id, as_of, count(*) FROM marts.member_engagement GROUP BY ALL ORDER BY ALL",
    )
    assert rows == [("choir", later, 3), ("garden", AS_OF, 3), ("runners", later, 3)]


def test_what_ingestion_cannot_read_stops_the_day_and_leaves_what_was_published(
    ran: Pipeline,
) -> None:
    before = ran.settings.published_path.read_bytes()
    (ran.source / "events.parquet").write_bytes(b"PAR1 is not enough")
    outcome = ran.run()
    assert [job.job_name for job in outcome.jobs] == ["refresh"]
    assert any("events.parquet" in failure for failure in outcome.failures)
    assert ran.settings.published_path.read_bytes() == before


def test_a_file_with_too_many_rejects_fails_the_run_until_it_is_mended(
    pipeline: Pipeline,
) -> None:
    bad = [["choir", f"e{n}", "keen", "whatever", "2026-01-01"] for n in range(30)]
    header = ["org_id", "event_id", "user_id", "status", "created_at"]
    path = write_table(pipeline.source, "attendance", header, bad)
    outcome = pipeline.run()
    assert any(str(path) in f and "unknown_status 30" in f for f in outcome.failures)
    assert stored(pipeline.settings, "SELECT count(*) FROM raw.attendance") == [(0,)]
    assert stored(pipeline.settings, "SELECT count(*) FROM raw.rejects") == [(30,)]
    # Tried again, it is refused again, and its rejects are not there twice.
    assert pipeline.run().failures
    assert stored(pipeline.settings, "SELECT count(*) FROM raw.rejects") == [(30,)]
    write_small_source(pipeline.source)
    refresh(pipeline.settings, AS_OF)
    assert stored(pipeline.settings, "SELECT count(*) FROM raw.attendance") != [(0,)]


def test_organisations_that_are_named_are_the_only_ones_classified(pipeline: Pipeline) -> None:
    assert run_unpublished(pipeline.settings, AS_OF, "garden").failures == []
    rows = stored(pipeline.settings, "SELECT DISTINCT org_id FROM scores.classifications")
    assert rows == [("garden",)]


def test_an_unknown_organisation_is_an_error_that_names_those_there_are(
    pipeline: Pipeline,
) -> None:
    outcome = pipeline.run("gardn")
    assert any("gardn" in failure and "garden" in failure for failure in outcome.failures)


def test_organisations_with_awkward_ids_become_partitions_and_are_published(
    pipeline: Pipeline,
) -> None:
    awkward = ["a...b", "100%", "x;y", "naïve 🎻"]
    write_table(
        pipeline.source, "organizations", ["org_id", "name"], [[org, "x"] for org in awkward]
    )
    joined = "2024-01-01T00:00:00Z"
    write_table(
        pipeline.source,
        "memberships",
        ["org_id", "user_id", "joined_at"],
        [[org, "keen", joined] for org in awkward],
    )
    (pipeline.source / "attendance.csv").write_text("org_id,event_id,user_id,status,created_at\n")
    assert pipeline.run().failures == []
    rows = published(pipeline.settings, "SELECT org_id FROM marts.member_engagement")
    assert sorted(org for (org,) in rows) == sorted(awkward)


def test_rows_that_came_before_their_organisation_load_once_it_is_known(
    pipeline: Pipeline,
) -> None:
    good = (pipeline.source / "organizations.csv").read_text()
    write_table(
        pipeline.source,
        "organizations",
        ["org_id", "name"],
        [["choir", "Choir"], ["runners", "Runners"]],
    )
    settings = pipeline.settings
    refresh(settings, AS_OF)
    rejects = "SELECT count(*) FROM raw.rejects WHERE reason = 'unknown_org'"
    assert stored(settings, rejects) == [(8,)]
    (pipeline.source / "organizations.csv").write_text(good)
    assert pipeline.run().failures == []
    assert stored(settings, rejects) == [(0,)]
    shown = published(
        settings,
        "SELECT user_id, effective_level FROM marts.member_engagement WHERE org_id = 'garden'",
    )
    assert dict(shown) == EXPECTED_LEVELS


def test_a_bad_file_of_one_table_stops_no_other_table(ran: Pipeline) -> None:
    (ran.source / "organizations.parquet").write_bytes(b"PAR1 is not enough")
    write_table(
        ran.source,
        "events",
        ["event_id", "org_id", "starts_at"],
        [["e1", "choir", "2026-01-01"]],
    )
    outcome = ran.run()
    assert any("organizations.parquet" in failure for failure in outcome.failures)
    assert stored(ran.settings, "SELECT count(*) FROM raw.events") == [(1,)]


def test_a_retry_that_fails_again_is_red(pipeline: Pipeline) -> None:
    _break(pipeline, "garden")
    assert run_unpublished(pipeline.settings, AS_OF).failures
    with dagster_instance(pipeline.settings) as instance:
        retried = (
            defs.resolve_implicit_global_asset_job_def()
            .get_subset(asset_selection={CLASSIFICATIONS})
            .execute_in_process(
                instance=instance, tags=org_tags(instance, ["garden"]), raise_on_error=False
            )
        )
    assert not retried.success


def test_of_two_terminals_at_once_the_second_is_refused(pipeline: Pipeline) -> None:
    with turn(pipeline.settings), pytest.raises(BusyError, match="another `engagement`"):
        pipeline.run()


def test_levels_that_a_killed_run_wrote_but_did_not_record_are_recorded_by_the_next(
    ran: Pipeline,
) -> None:
    with dagster_instance(ran.settings) as instance:
        instance.wipe_assets([CLASSIFICATIONS])
        assert set(_partition_states(instance).values()) == {"NONE"}
    assert run_unpublished(ran.settings, AS_OF).failures == []
    with dagster_instance(ran.settings) as instance:
        assert set(_partition_states(instance).values()) == {"MATERIALIZED"}
