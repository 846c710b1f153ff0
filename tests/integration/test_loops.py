"""What happened teaches the next run: signals drawn and learned from, in a real warehouse."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from engagement_pipeline.contracts import contract, contracts
from engagement_pipeline.defs.drawing import draw
from engagement_pipeline.defs.guidance import Guides, guides_at
from engagement_pipeline.loops import digest_plan, engagement, suggestion
from engagement_pipeline.loops.cost_forecast import forecast_rows
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse.connection import Warehouse
from engagement_pipeline.warehouse.predictions import add_predictions
from tests.home import settings_of
from tests.loop_home import learn, learning_at, put, rows, take_in
from tests.small_source import ADMIN, AS_OF, ago, write_small_source, write_table

WEEK = timedelta(days=7)

Home = Callable[..., Settings]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """The small source with some notifications: id, user, org, feature, days since it was sent."""

    def make(sent: list[list[str]], read: list[list[str]], **given: object) -> Settings:
        source = write_small_source(tmp_path / "source")
        _write_sent(source, sent)
        _write_read(source / "notification_reads", "first", read)
        settings = settings_of(tmp_path / "home", source, **given)
        take_in(settings, AS_OF)
        return settings

    return make


def _write_sent(source: Path, sent: list[list[str]]) -> None:
    write_table(
        source,
        "notifications",
        ["notification_id", "user_id", "org_id", "feature", "sent_at"],
        sent,
    )


def _write_read(folder: Path, name: str, read: list[list[str]]) -> None:
    write_table(folder, name, ["notification_id", "read_at"], read)


def _calibration(settings: Settings, org: str, key: str) -> dict[str, Any] | None:
    found = rows(
        settings,
        f"SELECT * FROM loops.calibrations_current WHERE org_id = '{org}' AND key = '{key}'",
    )
    return found[0] if found else None


def test_a_notification_read_ten_times_in_three_files_taken_in_again_engages_once(
    home: Home,
) -> None:
    ten = [["n1", ago(9 - day / 2)] for day in range(10)]
    settings = home([["n1", "keen", "choir", "digest", ago(10)]], ten[:4])
    folder = settings.source_folder / "notification_reads"
    _write_read(folder, "second", ten[2:8])
    _write_read(folder, "third", ten[5:])
    take_in(settings, AS_OF)
    learn(settings, AS_OF, "engagement")
    # The same rows once more, as other contents under other names.
    for number in range(2):
        _write_read(folder, f"again-{number}", ten[number:])
        take_in(settings, AS_OF)
        learn(settings, AS_OF, "engagement")
    signals = rows(settings, "SELECT * FROM loops.signals")
    assert [(s["kind"], s["subject"], s["attribution"]) for s in signals] == [
        ("ENGAGE", "digest", "explicit")
    ]
    assert signals[0]["occurred_at"] == datetime.fromisoformat(ten[0][1])
    rate = _calibration(settings, "choir", "engagement-rate:digest")
    assert rate is not None
    assert (rate["value"], rate["n"]) == (round(1 / 30, 4), 1)


def test_an_earlier_read_that_arrives_late_does_not_engage_again(home: Home) -> None:
    settings = home([["n1", "keen", "choir", "digest", ago(10)]], [["n1", ago(3)]])
    learn(settings, AS_OF)
    _write_read(settings.source_folder / "notification_reads", "late", [["n1", ago(8)]])
    take_in(settings, AS_OF)
    learn(settings, AS_OF)
    assert [row["n"] for row in rows(settings, "SELECT count(*) AS n FROM loops.signals")] == [1]


def test_a_read_by_a_member_of_two_goes_to_the_older_membership_and_is_counted_apart(
    home: Home, tmp_path: Path
) -> None:
    write_table(
        tmp_path / "source" / "memberships",
        "more",
        ["org_id", "user_id", "role", "joined_at"],
        [["garden", "both", "member", ago(500)], ["choir", "both", "member", ago(300)]],
    )
    settings = home(
        [
            ["n1", "both", "", "digest", ago(10)],
            ["n2", "both", "garden", "digest", ago(10)],
        ],
        [["n1", ago(9)], ["n2", ago(9)]],
    )
    learn(settings, AS_OF, "engagement")
    signals = rows(settings, "SELECT * FROM loops.signals ORDER BY source_key")
    assert [(s["org_id"], s["attribution"]) for s in signals] == [
        ("garden", "primary"),
        ("garden", "explicit"),
    ]
    rate = _calibration(settings, "garden", "engagement-rate:digest")
    apart = _calibration(settings, "garden", "engagement-rate-primary:digest")
    assert rate is not None
    assert apart is not None
    assert (rate["value"], rate["n"]) == (round(2 / 30, 4), 1)
    assert (apart["value"], apart["n"]) == (round(1 / 30, 4), 1)
    assert _calibration(settings, "choir", "engagement-rate:digest") is None


def test_a_second_learning_of_the_same_moment_leaves_the_same_tables(home: Home) -> None:
    sent = [[f"n{n}", "keen", "choir", "digest", ago(n + 1)] for n in range(20)]
    settings = home(sent, [[f"n{n}", ago(n + 0.5)] for n in range(0, 20, 2)])
    loops = ("suggestion", "prediction", "threshold", "ranking", "engagement")
    seen = []
    for _ in range(2):
        learn(settings, AS_OF, *loops, plans_digests=True)
        seen.append(
            {
                table.full_name: rows(settings, f"SELECT * FROM {table.full_name} ORDER BY ALL")
                for table in contracts("loops")
                # Of the second time nothing is new.
                if table.name != "productions"
            }
        )
    assert seen[0] == seen[1]
    assert seen[0]["loops.calibrations"]
    assert seen[0]["loops.digest_decisions"]


def test_each_week_adds_a_version_that_names_the_value_before(home: Home) -> None:
    sent = [[f"n{n}", "keen", "choir", "digest", ago(n / 2 + 1)] for n in range(40)]
    settings = home(sent, [[f"n{n}", ago(n / 2 + 0.9)] for n in range(0, 40, 2)])
    for weeks_ago in (1, 0):
        learn(settings, AS_OF - weeks_ago * WEEK, "engagement")
    versions = rows(
        settings,
        "SELECT value, previous_value, computed_at FROM loops.calibrations "
        "WHERE key = 'engagement-rate:digest' ORDER BY computed_at",
    )
    assert [v["computed_at"] for v in versions] == [AS_OF - WEEK, AS_OF]
    assert [v["previous_value"] for v in versions] == [None, versions[0]["value"]]
    current = _calibration(settings, "choir", "engagement-rate:digest")
    assert current is not None
    assert current["value"] == versions[1]["value"]


def test_rarely_read_notifications_are_bundled_and_sent_at_once_when_nothing_is_known_any_more(
    home: Home,
) -> None:
    sent = [[f"n{n}", "keen", "choir", "digest", ago(n / 10 + 1)] for n in range(200)]
    settings = home(sent, [["n1", ago(0.5)], ["n2", ago(0.5)]])
    learn(settings, AS_OF, "engagement", plans_digests=True)
    decided = "SELECT delivery, reason FROM loops.digest_decisions ORDER BY decided_at DESC LIMIT 1"
    assert rows(settings, decided) == [{"delivery": "weekly_digest", "reason": "read_rarely"}]
    # Silence: nothing is sent any more, so nothing is learned, and what was learned expires.
    later = AS_OF + timedelta(days=31)
    learn(settings, later, "engagement", plans_digests=True)
    assert rows(settings, decided) == [{"delivery": "immediate", "reason": "expired"}]
    assert _calibration(settings, "choir", "read-rate:digest") is None


def test_an_organisation_that_cannot_be_learned_for_is_alone_with_its_trouble(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = [
        [f"{o}{n}", "keen", o, "digest", ago(n + 1)]
        for o in ("choir", "garden", "runners")
        for n in range(5)
    ]
    settings = home(sent, [[f"{o}1", ago(1)] for o in ("choir", "garden", "runners")])
    learn_engagement = engagement.learn_engagement

    def broken(org_ids: list[str], *args: Any, **kwargs: Any) -> Any:
        if "garden" in org_ids:
            raise RuntimeError("no sums today")
        return learn_engagement(org_ids, *args, **kwargs)

    monkeypatch.setattr(engagement, "learn_engagement", broken)
    learned = learn(settings, AS_OF, "engagement")["engagement"]
    assert learned.failed == {"garden": "RuntimeError: no sums today"}
    for org in ("choir", "runners"):
        assert _calibration(settings, org, "engagement-rate:digest") is not None
    assert _calibration(settings, "garden", "engagement-rate:digest") is None
    runs = rows(settings, "SELECT org_id, outcome, error FROM loops.learning_runs ORDER BY org_id")
    assert [(r["org_id"], r["outcome"], r["error"]) for r in runs] == [
        ("choir", "learned", None),
        ("garden", "failed", "RuntimeError: no sums today"),
        ("runners", "learned", None),
    ]


def test_a_failed_organisation_keeps_what_was_learned_of_it_before(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = [[f"n{n}", "keen", "choir", "digest", ago(n + 1)] for n in range(20)]
    settings = home(sent, [["n9", ago(9)]])
    learn(settings, AS_OF - WEEK, "engagement")
    before = _calibration(settings, "choir", "read-rate:digest")

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no sums today")

    monkeypatch.setattr(engagement, "learn_engagement", broken)
    assert set(learn(settings, AS_OF, "engagement")["engagement"].failed) == {
        "choir",
        "garden",
        "runners",
    }
    assert before is not None
    assert _calibration(settings, "choir", "read-rate:digest") == before


def test_with_the_loops_off_no_row_is_written_anywhere(home: Home) -> None:
    settings = home(
        [["n1", "keen", "choir", "digest", ago(2)]], [["n1", ago(1)]], loops_enabled=False
    )
    with Warehouse.of(settings).open() as connection:
        assert draw(connection, settings, as_of=AS_OF, computed_at=AS_OF).new == {}
    for table in contracts("loops"):
        assert rows(settings, f"SELECT count(*) AS n FROM {table.full_name}") == [{"n": 0}]


def _label(user: str, level: str, moment: datetime, **signals: object) -> dict[str, object]:
    zeros = dict.fromkeys(
        (
            "events_attended_90d",
            "events_attended_prev_90d",
            "events_attended_total",
            "no_show_count_90d",
            "rsvp_count_90d",
            "days_since_active",
        ),
        0,
    )
    texts = dict.fromkeys(("admin_explanation", "user_explanation", "fingerprint"), "-")
    return {
        **zeros,
        **texts,
        "org_id": "choir",
        "user_id": user,
        "as_of": moment,
        "level": level,
        "baseline_level": level,
        "source": "rules",
        "model_version": "rules-1",
        "prompt_version": "templates-1",
        "classified_at": moment,
        "computed_at": moment,
        "joined_at": moment - timedelta(days=400),
        "days_since_joined": 400,
        **signals,
    }


def _override(number: int, user: str, level: str, at: datetime) -> dict[str, object]:
    return {
        "org_id": "choir",
        "user_id": user,
        "new_level": level,
        "notes": "known better",
        "action": "override",
        "performed_by": ADMIN,
        "performed_at": at,
        "request_id": f"r{number}",
        "recorded_at": at,
    }


def _scored(moment: datetime) -> dict[str, object]:
    return {
        "org_id": "choir",
        "as_of": moment,
        "outcome": "classified",
        "members": 1,
        "inputs_digest": "-",
        "computed_at": moment,
    }


def test_a_level_that_stood_a_week_is_accepted_once_and_an_override_rejects_it(
    home: Home,
) -> None:
    settings = home([], [])
    days = [AS_OF - timedelta(days=day) for day in (20, 13, 6, 0)]
    put(settings, "scores.org_runs", [_scored(moment) for moment in days])
    labels = [_label(u, "moderate", day) for u in ("keen", "lost") for day in days]
    put(settings, "scores.classifications", labels)
    put(
        settings,
        "scores.override_history",
        [_override(1, "lost", "highly_engaged", days[0] + timedelta(days=3))],
    )
    for moment in (days[2], AS_OF, AS_OF + WEEK):
        learn(settings, moment, "suggestion")
    found = rows(
        settings,
        "SELECT kind, user_id, subject, value, occurred_at FROM loops.signals "
        "WHERE archetype = 'suggestion' ORDER BY kind",
    )
    assert [tuple(row.values()) for row in found] == [
        ("ACCEPT", "keen", "moderate", 1.0, days[0] + timedelta(days=7)),
        ("REJECT", "lost", "moderate", 0.0, days[0] + timedelta(days=3)),
    ]
    rate = _calibration(settings, "choir", "acceptance-rate:moderate")
    assert rate is not None
    assert (rate["value"], rate["n"]) == (0.5, 2)
    agreement = rows(
        settings,
        "SELECT computed_level, admin_level, n FROM loops.label_agreement "
        "WHERE window_end = (SELECT max(window_end) FROM loops.label_agreement) ORDER BY ALL",
    )
    assert [tuple(row.values()) for row in agreement] == [
        ("moderate", "highly_engaged", 2),
        ("moderate", "moderate", 2),
    ]


OVERRULED_FROM = AS_OF - timedelta(days=2)
FOUND = ("corrections", "review_queue", "label_agreement")
"""The findings about what admins make of levels, each with its moment in a column of its own."""


def _overrule(settings: Settings, levels: list[str]) -> None:
    """Put ten inactive members on record, and each hour an override of one of them."""
    users = [f"u{n:02d}" for n in range(len(levels))]
    put(settings, "scores.org_runs", [_scored(OVERRULED_FROM)])
    put(
        settings,
        "scores.classifications",
        [_label(user, "inactive", OVERRULED_FROM, days_since_active=200) for user in users],
    )
    put(
        settings,
        "scores.override_history",
        [
            _override(n, user, level, OVERRULED_FROM + timedelta(hours=1 + n))
            for n, (user, level) in enumerate(zip(users, levels, strict=True))
        ],
    )


def _found(settings: Settings, moment: datetime) -> dict[str, list[dict[str, object]]]:
    """What the learning for a moment found."""
    return {
        name: rows(
            settings,
            f"SELECT * FROM loops.{name} WHERE {contract(f'loops.{name}').time_column} = "
            f"'{moment.isoformat()}' ORDER BY ALL",
        )
        for name in FOUND
    }


def _guides(settings: Settings, moment: datetime) -> Guides:
    with Warehouse.of(settings).open() as connection:
        return guides_at(connection, settings, as_of=moment)


def test_learning_for_a_past_moment_leaves_what_was_found_for_today(home: Home) -> None:
    settings = home([], [], members_per_profile=1)
    _overrule(settings, ["at_risk"] * 6 + ["moderate"] * 4)
    past = OVERRULED_FROM + timedelta(hours=6)
    learn(settings, AS_OF, "suggestion")
    today, guides = _found(settings, AS_OF), _guides(settings, AS_OF)
    assert all(today.values())
    learn(settings, past, "suggestion")
    assert _found(settings, AS_OF) == today
    assert _guides(settings, AS_OF) == guides
    # The past is learned from what was known then, and once more takes its own place.
    found = _found(settings, past)
    assert [row["admin_level"] for row in found["corrections"]] == ["at_risk"]
    assert [row["n"] for row in found["review_queue"]] == [6]
    assert [row["n"] for row in found["label_agreement"]] == [6]
    learn(settings, past, "suggestion")
    assert (_found(settings, past), _found(settings, AS_OF)) == (found, today)


def test_an_earlier_moment_is_scored_by_what_was_in_force_then_whatever_was_learned_since(
    home: Home,
) -> None:
    settings = home([], [], members_per_profile=1)
    _overrule(settings, ["at_risk"] * 6 + ["moderate"] * 4)
    past = OVERRULED_FROM + timedelta(hours=6)
    learn(settings, past, "suggestion")
    moments = [past - timedelta(hours=1), past, AS_OF - timedelta(hours=1)]
    before = [_guides(settings, moment) for moment in moments]
    learn(settings, AS_OF, "suggestion")
    assert [_guides(settings, moment) for moment in moments] == before
    levels = [
        [one.admin_level for one in _guides(settings, moment).of("choir").corrections]
        for moment in (*moments, AS_OF)
    ]
    assert levels == [[], ["at_risk"], ["at_risk"], ["moderate"]]


def test_a_learning_that_finds_nothing_any_more_leaves_no_row_of_its_moment(home: Home) -> None:
    settings = home([], [], members_per_profile=1)
    _overrule(settings, ["at_risk"] * 10)
    learn(settings, AS_OF, "suggestion")
    waiting = _found(settings, AS_OF)
    assert all(waiting.values())
    lenient = settings.model_copy(update={"review_acceptance_below": 0.0})
    later = AS_OF + WEEK
    learn(lenient, later, "suggestion")
    assert {name: bool(found) for name, found in _found(settings, later).items()} == {
        "corrections": True,
        "review_queue": False,
        "label_agreement": True,
    }
    # Learned again for the first moment as well, nothing is left of it.
    assert _found(settings, AS_OF) == waiting
    learn(lenient, AS_OF, "suggestion")
    assert _found(settings, AS_OF) == {**waiting, "review_queue": []}


def test_a_level_that_admins_always_overrule_goes_to_the_review_queue_and_guides_the_model(
    home: Home,
) -> None:
    settings = home([], [], members_per_profile=1)
    _overrule(settings, ["at_risk"] * 10)
    learn(settings, AS_OF, "suggestion")
    queue = rows(settings, "SELECT org_id, level, acceptance_rate, n FROM loops.review_queue")
    assert [tuple(row.values()) for row in queue] == [("choir", "inactive", 0.0, 10)]
    corrected = rows(
        settings, "SELECT place, profile, computed_level, admin_level FROM loops.corrections"
    )
    assert [(r["place"], r["computed_level"], r["admin_level"]) for r in corrected] == [
        (1, "inactive", "at_risk")
    ]
    with Warehouse.of(settings).open() as connection:
        guides = guides_at(connection, settings, as_of=AS_OF)
        expired = guides_at(connection, settings, as_of=AS_OF + timedelta(days=30))
    assert [c.profile for c in guides.of("choir").corrections] == [corrected[0]["profile"]]
    assert expired.of("choir").corrections == ()


def test_what_a_run_was_billed_corrects_the_next_estimate(home: Home) -> None:
    settings = home([], [])
    with Warehouse.of(settings).open() as connection:
        add_predictions(
            connection, forecast_rows("run-1", AS_OF, settings.model, {"choir": (100_000, 50_000)})
        )
    put(settings, "scores.llm_calls", [_call("answered", 200_000, 50_000)])
    learn(settings, AS_OF + timedelta(hours=1), "prediction")
    ratio = _calibration(settings, "choir", "cost-ratio:input_tokens")
    assert ratio is not None
    assert 1.9 < ratio["value"] <= 2.0
    with Warehouse.of(settings).open() as connection:
        guides = guides_at(connection, settings, as_of=AS_OF + timedelta(hours=2))
    assert guides.ratios["choir"].input == ratio["value"]
    assert guides.ratios["choir"].output == pytest.approx(1.0)


def _call(outcome: str, input_tokens: int, output_tokens: int) -> dict[str, object]:
    return {
        "call_id": "call-1",
        "run_id": "run-1",
        "as_of": AS_OF,
        "org_id": "choir",
        "classifier": "anthropic",
        "model": "a-model",
        "prompt_version": "a-prompt",
        "purpose": "first",
        "attempt": 1,
        "profiles": 10,
        "asked": "{}",
        "outcome": outcome,
        "answers": 10,
        "input_tokens": input_tokens,
        "cache_write_tokens": 0,
        "cache_read_tokens": 0,
        "output_tokens": output_tokens,
        "estimated_usd": 0.1,
        "spent_usd": 0.1,
        "is_spent_certain": True,
        "started_at": AS_OF,
        "ended_at": AS_OF,
    }


def test_a_churn_prediction_meets_its_outcome_when_its_horizon_has_passed(home: Home) -> None:
    settings = home([], [])
    made = AS_OF - timedelta(days=50)
    put(
        settings,
        "loops.predictions",
        [
            {
                "prediction_id": f"{user}-{days}",
                "kind": "churn",
                "org_id": "choir",
                "user_id": user,
                "subject": user,
                "predicted": 0.5,
                "made_at": made,
                "due_at": made + timedelta(days=days),
                "predicted_by": "a-model",
            }
            for user in ("keen", "lost")
            for days in (30, 60)
        ],
    )
    learn(settings, AS_OF, "prediction")
    learn(settings, AS_OF, "prediction")
    found = rows(
        settings,
        "SELECT user_id, subject, value, source_key, occurred_at "
        "FROM loops.signals WHERE kind = 'OUTCOME' ORDER BY user_id",
    )
    assert [tuple(row.values()) for row in found] == [
        # Attended forty and twenty days before; not since four months.
        ("keen", "churn", 0.0, "keen-30", made + timedelta(days=30)),
        ("lost", "churn", 1.0, "lost-30", made + timedelta(days=30)),
    ]
    brier = _calibration(settings, "choir", "churn-brier")
    assert brier is not None
    assert (brier["value"], brier["n"]) == (0.25, 2)


def test_what_one_loop_cannot_draw_stops_no_other_and_is_drawn_the_next_time(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = home([["n1", "keen", "choir", "digest", ago(2)]], [["n1", ago(1)]])
    put(settings, "scores.org_runs", [_scored(AS_OF - timedelta(days=8)), _scored(AS_OF)])
    for moment in (AS_OF - timedelta(days=8), AS_OF):
        put(settings, "scores.classifications", [_label("keen", "moderate", moment)])

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no judgement today")

    with monkeypatch.context() as patch, Warehouse.of(settings).open() as connection:
        patch.setattr(suggestion, "judgements", broken)
        drawn = draw(connection, settings, as_of=AS_OF, computed_at=AS_OF)
    assert drawn.failed == {"suggestion": "RuntimeError: no judgement today"}
    assert {kind for kind, count in drawn.new.items() if count} == {"ENGAGE"}
    assert rows(settings, "SELECT * FROM loops.productions") == []
    learn(settings, AS_OF)
    kinds = rows(settings, "SELECT kind FROM loops.signals ORDER BY kind")
    assert [row["kind"] for row in kinds] == ["ACCEPT", "ENGAGE"]


def test_an_organisation_whose_digests_cannot_be_planned_keeps_its_last_decision(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    orgs = ("choir", "garden")
    sent = [[f"{o}{n}", "keen", o, "digest", ago(n / 10 + 1)] for o in orgs for n in range(200)]
    settings = home(sent, [])
    learn(settings, AS_OF - timedelta(days=1), "engagement", plans_digests=True)
    plan = digest_plan.plan

    def broken(calibrations: pl.DataFrame, *args: Any, **kwargs: Any) -> Any:
        if "garden" in calibrations["org_id"]:
            raise RuntimeError("no plan today")
        return plan(calibrations, *args, **kwargs)

    monkeypatch.setattr(digest_plan, "plan", broken)
    with Warehouse.of(settings).open() as connection:
        draw(connection, settings, as_of=AS_OF, computed_at=AS_OF)
        learning = learning_at(connection, settings, AS_OF)
        learning.learn("engagement")
        _, failed = learning.plan_digests()
    assert failed == {"garden": "RuntimeError: no plan today"}
    decided = rows(
        settings,
        "SELECT org_id, max(decided_at) AS at FROM loops.digest_decisions "
        "GROUP BY org_id ORDER BY org_id",
    )
    assert [row["at"] for row in decided] == [AS_OF, AS_OF - timedelta(days=1)]
