"""From an organisation's signals to its rows of `scores.classifications`."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import polars as pl
import pytest

from engagement_pipeline.contracts import contract
from engagement_pipeline.scoring import (
    LABEL_SCHEMA,
    InvalidLabelsError,
    OrgContext,
    RulesClassifier,
    ScoringInputError,
    Thresholds,
    UnknownPlaceholderError,
    fingerprint,
    score_org,
)
from engagement_pipeline.scoring.due import org_digest
from engagement_pipeline.scoring.levels import Correction
from engagement_pipeline.scoring.profiles import MalformedProfileError

PROFILE = "3 2 1 0 8 0 180 ? 0 x +"
AS_OF = datetime(2026, 5, 20, 12, tzinfo=UTC)
COMPUTED_AT = AS_OF + timedelta(minutes=3)
ORG = OrgContext("o", "Chess Club", None, Thresholds())


def signals(*attended: int, org_id: str = "o", as_of: datetime = AS_OF) -> pl.DataFrame:
    """A member per figure: who attended so often, most lately yesterday, and joined in 2024."""
    rows = [
        {
            "org_id": org_id,
            "user_id": f"u{number}",
            "as_of": as_of,
            "events_attended_90d": figure,
            "events_attended_prev_90d": 1,
            "events_attended_total": figure + 1,
            "last_attended_at": AS_OF - timedelta(days=1 if figure else 100),
            "no_show_count_90d": 0,
            "rsvp_count_90d": figure,
            "joined_at": datetime(2024, 1, 1, tzinfo=UTC),
            "days_since_joined": 870,
            "last_active_at": AS_OF - timedelta(days=1 if figure else 100),
            "days_since_active": 1 if figure else 100,
        }
        for number, figure in enumerate(attended)
    ]
    return pl.DataFrame(rows, schema=contract("signals.member_90d").polars_schema)


def score(frame: pl.DataFrame, classifier: object = None, org: OrgContext = ORG) -> pl.DataFrame:
    chosen = RulesClassifier() if classifier is None else classifier
    return score_org(org, frame, chosen, as_of=AS_OF, computed_at=COMPUTED_AT)  # type: ignore[arg-type]


@dataclass
class Tampering:
    """The rules' labels with something done to them."""

    with_labels: object
    name: str = "tampering"
    model_version: str = "m"
    prompt_version: str = "p"
    calls: list[int] = field(default_factory=list)

    def classify(self, org: OrgContext, members: pl.DataFrame, *, as_of: datetime) -> pl.DataFrame:
        self.calls.append(len(members))
        labels = RulesClassifier().classify(org, members, as_of=as_of)
        return self.with_labels(labels)  # type: ignore[operator, no-any-return]


def test_rows_are_sorted_and_keep_the_contract_with_the_signals_they_came_from() -> None:
    frame = signals(5, 2, 0)
    rows = score(frame.reverse())
    assert rows.schema == contract("scores.classifications").polars_schema
    assert rows["user_id"].to_list() == ["u0", "u1", "u2"]
    assert rows["level"].to_list() == ["highly_engaged", "moderate", "at_risk"]
    assert rows["reason"].to_list() == [None, None, "lapsed"]
    assert rows.select(frame.columns).equals(frame)
    assert set(rows["computed_at"]) == {COMPUTED_AT}
    assert rows["admin_explanation"][0].startswith(
        "Attended 5 events in the last 90 days, up from 1 in the 90 days before."
    )


def test_the_same_signals_give_the_same_rows_in_whatever_order_they_come() -> None:
    frame = signals(*range(8))
    assert score(frame).equals(score(frame.reverse()))
    assert score(frame).equals(score(frame.sample(fraction=1, shuffle=True, seed=3)))


def test_an_organisations_own_thresholds_decide() -> None:
    org = OrgContext("o", "Chess Club", None, Thresholds(highly_engaged_min=6, moderate_min=3))
    assert score(signals(5, 2, 0), org=org)["level"].to_list() == ["moderate", "at_risk", "at_risk"]


def test_an_organisation_without_members_gives_no_rows_and_asks_nobody() -> None:
    classifier = Tampering(lambda labels: labels)
    assert score(signals(), classifier).equals(contract("scores.classifications").empty())
    assert classifier.calls == []


def test_an_instant_is_the_same_in_any_time_zone() -> None:
    local = timezone(timedelta(hours=5))
    elsewhere = score_org(
        ORG,
        signals(3),
        RulesClassifier(),
        as_of=AS_OF.astimezone(local),
        computed_at=COMPUTED_AT.astimezone(local),
    )
    assert elsewhere.equals(score(signals(3)))


def test_a_classifier_may_depart_from_the_baseline_and_both_are_kept() -> None:
    rows = score(
        signals(5), Tampering(lambda labels: labels.with_columns(level=pl.lit("moderate")))
    )
    assert rows.select("level", "baseline_level").row(0) == ("moderate", "highly_engaged")


def test_labels_may_come_in_any_order() -> None:
    frame = signals(5, 2, 0)
    assert score(frame, Tampering(lambda labels: labels.reverse())).equals(score(frame))


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (lambda labels: labels.head(2), "1 members left out, e.g. 'u2'"),
        (lambda labels: labels.clear(), "3 members left out, e.g. 'u0'"),
        (lambda labels: pl.concat([labels, labels.tail(1)]), "'u2' has several"),
        (
            lambda labels: pl.concat([labels, labels.tail(1).with_columns(user_id=pl.lit("x"))]),
            "1 members invented, e.g. 'x'",
        ),
        (
            lambda labels: labels.with_columns(level=pl.lit("keen")),
            "expected one of highly_engaged, .*, found 'keen' of 'u0'",
        ),
        (lambda labels: labels.with_columns(level=pl.lit(None, pl.String)), "nulls in level"),
        (lambda labels: labels.with_columns(user_template=pl.lit(None, pl.String)), "nulls in"),
        (lambda labels: labels.drop("source"), "expected labels with"),
        (lambda labels: labels.with_columns(more=pl.lit(1)), "expected labels with"),
        (lambda labels: labels.with_columns(classified_at=pl.lit("now")), "expected labels with"),
    ],
)
def test_a_classifier_that_breaks_its_promise_is_named_with_an_example(
    tamper: object, message: str
) -> None:
    with pytest.raises(InvalidLabelsError, match=message) as caught:
        score(signals(5, 2, 0), Tampering(tamper))
    assert "'tampering', org 'o'" in str(caught.value)


def test_a_template_that_cannot_be_filled_is_an_error() -> None:
    bad = Tampering(lambda labels: labels.with_columns(admin_template=pl.lit("{name}")))
    with pytest.raises(UnknownPlaceholderError, match="name"):
        score(signals(5), bad)


def test_signals_of_another_organisation_or_moment_are_refused() -> None:
    mixed = pl.concat([signals(5), signals(5, org_id="p").with_columns(user_id=pl.lit("x"))])
    with pytest.raises(ScoringInputError, match="found the org 'p'"):
        score(mixed)
    with pytest.raises(ScoringInputError, match="2026-05-19"):
        score(signals(5, as_of=AS_OF - timedelta(days=1)))


def test_a_member_may_not_come_twice() -> None:
    with pytest.raises(ScoringInputError, match="'u0' twice"):
        score(pl.concat([signals(5), signals(5)]))


@pytest.mark.parametrize("name", ["as_of", "computed_at"])
def test_a_time_without_a_zone_is_refused(name: str) -> None:
    times = {"as_of": AS_OF, "computed_at": COMPUTED_AT}
    times[name] = times[name].replace(tzinfo=None)
    with pytest.raises(ScoringInputError, match=f"{name} must have a time zone"):
        score_org(ORG, signals(5), RulesClassifier(), **times)


def test_labels_have_the_columns_that_the_table_takes_from_them() -> None:
    table = contract("scores.classifications").column_names
    templates = {"admin_template", "user_template"}
    assert set(LABEL_SCHEMA.names()) - templates <= set(table)


def test_every_member_has_the_severity_that_a_flag_would_have() -> None:
    frame = signals(0, 0, 5, 0).with_columns(days_since_active=pl.Series([59, 60, 119, 120]))
    rows = score(frame)
    assert rows["flag_severity"].to_list() == ["low", "medium", "medium", "high"]
    assert rows["level"].to_list() == ["at_risk", "at_risk", "highly_engaged", "at_risk"]


def test_severity_is_judged_by_the_tuned_threshold_and_levels_by_the_own() -> None:
    frame = signals(0).with_columns(days_since_active=pl.Series([59]))
    own = replace(ORG, thresholds=Thresholds(inactive_days=60))
    times = {"as_of": AS_OF, "computed_at": COMPUTED_AT}
    rows = score_org(own, frame, RulesClassifier(), **times, tuned_inactive_days=300)
    assert rows.select("level", "flag_severity").row(0) == ("at_risk", "low")
    assert score(frame, org=own)["flag_severity"].to_list() == ["high"]
    with pytest.raises(ValueError, match="inactive_days: expected at least 1, found 0"):
        score_org(own, frame, RulesClassifier(), **times, tuned_inactive_days=0)


# --- By what it is known that an organisation need not be classified again ------------------------


@dataclass(frozen=True)
class Choir:
    org_id: str = "choir"
    name: str = "Choir"
    description: str | None = None
    settings: dict[str, str] = field(default_factory=dict)


RISEN = Correction(PROFILE, "at_risk", "moderate")
KNOWN = RulesClassifier(prompt_version="p")


def digest(**learned: Any) -> str:
    return org_digest(
        Choir(), signals_digest="s", defaults=Thresholds(), classifier=KNOWN, **learned
    )


def test_an_organisation_that_nothing_was_learned_of_keeps_its_digest() -> None:
    # Another one would classify every organisation once more.
    assert digest() == "89aeb64477e96be4e75749d74f0df837898cb0f1586cd06a3747c8c19046bd9f"
    assert digest(corrections=[], tuned={}, tuned_inactive_days=None) == digest()


def test_whatever_was_learned_and_is_used_makes_an_organisation_due() -> None:
    found = {
        digest(**learned)
        for learned in (
            {},
            {"corrections": [RISEN]},
            {"corrections": [replace(RISEN, admin_level="inactive")]},
            {"tuned": {"inactive_days": 194.0}},
            {"tuned": {"inactive_days": 180.0}},
            {"tuned_inactive_days": 194},
        )
    }
    assert len(found) == 6
    assert digest(corrections=[replace(RISEN, computed_level="inactive")]) in found
    with pytest.raises(MalformedProfileError):
        digest(corrections=[replace(RISEN, profile="x")])


def test_only_an_organisation_with_corrections_has_other_fingerprints_for_them() -> None:
    told = replace(ORG, corrections=(RISEN,))
    assert fingerprint(replace(told, corrections=()), {}) == fingerprint(ORG, {})
    assert fingerprint(told, {}) != fingerprint(ORG, {})
