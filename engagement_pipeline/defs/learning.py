"""Learning from loop signals: what is read, handed to each loop's learner, and written down.

What is learned from what is decided in `loops`. One organisation's trouble stays with it: it is
put on record with its error, and all others are learned for.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import polars as pl

from engagement_pipeline.defs.guidance import Guides
from engagement_pipeline.loops import (
    cost_forecast,
    digest_plan,
    engagement,
    prediction,
    routing,
    suggestion,
    threshold,
)
from engagement_pipeline.loops.calibration import (
    LEARNED_SCHEMA,
    THRESHOLD,
    WINDOW,
    in_force,
    new_versions,
)
from engagement_pipeline.loops.isolation import learn_each
from engagement_pipeline.scoring.sharing import with_shared_profiles
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse import calibrations as stored
from engagement_pipeline.warehouse import loop_signals as stored_signals
from engagement_pipeline.warehouse import predictions as stored_predictions
from engagement_pipeline.warehouse.classifications import StoredOrg
from engagement_pipeline.warehouse.connection import Connection

_CORRECTIONS_LOOKED_AT = 20
"""Overrides of an organisation, the newest, whose members' profiles are made out: a model is told
of three, and each may take the signals of all members at another moment."""

Findings = dict[str, pl.DataFrame]
Learner = Callable[[Collection[str]], tuple[pl.DataFrame, Findings]]
"""Learns for some organisations: rows of `LEARNED_SCHEMA`, and of further tables by name."""


@dataclass
class Learned:
    """What came of learning one loop: calibrations by number, and who could not be learned for."""

    archetype: str
    calibrations: int
    failed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Learning:
    """One run's learning."""

    connection: Connection
    settings: Settings
    guides: Guides
    orgs: Mapping[str, StoredOrg]
    as_of: datetime
    computed_at: datetime

    def learn(self, archetype: str) -> Learned:
        """Learn one loop for all organisations, and write down what was learned."""
        learners = {
            "suggestion": self._suggestion,
            "prediction": self._prediction,
            "threshold": self._threshold,
            "ranking": self._ranking,
            "engagement": self._engagement,
        }
        if archetype not in learners:
            # What values mean, people say: there is nothing to compute.
            return Learned(archetype, 0)
        org_ids = sorted(self.orgs)
        days = self.settings.engagement_lookback_days
        window = timedelta(days=days) if archetype == "engagement" else WINDOW
        start = self.as_of - window
        findings: Findings = {}
        try:
            learner = learners[archetype](start)
            versions = stored.latest_versions(self.connection, before=self.as_of)
        except Exception as error:
            # What all organisations share could not be read or fitted: none can be learned for.
            failed = dict.fromkeys(org_ids, f"{type(error).__name__}: {error}")
            rows = stored.no_calibrations()
        else:
            rows, failed = self._learn_each(learner, org_ids, start, versions, findings)
        stored.write_learned(
            self.connection,
            archetype,
            rows,
            failed,
            org_ids=org_ids,
            as_of=self.as_of,
            computed_at=self.computed_at,
            findings=findings,
        )
        self._record_findings_used(findings)
        return Learned(archetype, rows.height, failed)

    def _learn_each(
        self,
        learner: Learner,
        org_ids: list[str],
        start: datetime,
        versions: pl.DataFrame,
        findings: Findings,
    ) -> tuple[pl.DataFrame, dict[str, str]]:
        def learn(some: Collection[str]) -> pl.DataFrame:
            learned, found = learner(some)
            rows = new_versions(learned, window_start=start, as_of=self.as_of, versions=versions)
            # Only once nothing can fail any more, or the half that is tried again counts twice.
            for name, frame in found.items():
                findings[name] = pl.concat([findings[name], frame]) if name in findings else frame
            return rows

        rows, failed = learn_each(org_ids, learn)
        return stored.no_calibrations() if rows is None else rows, failed

    def _engagement(self, start: datetime) -> Learner:
        engaged = stored_signals.engaged_counts(
            self.connection, window_start=start, as_of=self.as_of
        )
        sent = stored_signals.sent_counts(self.connection, window_start=start)
        priors = engagement.read_rate_priors(sent)
        days = self.settings.engagement_lookback_days

        def learn(org_ids: Collection[str]) -> tuple[pl.DataFrame, Findings]:
            return (
                engagement.learn_engagement(org_ids, engaged, sent, days=days, priors=priors),
                {},
            )

        return learn

    def _threshold(self, start: datetime) -> Learner:
        overridden = stored_signals.overridden_members(
            self.connection, since=start, as_of=self.as_of
        )
        versions = stored.unexpired(self.connection, as_of=self.as_of, prefix=THRESHOLD)

        def learn(org_ids: Collection[str]) -> tuple[pl.DataFrame, Findings]:
            own = overridden.filter(pl.col("org_id").is_in(list(org_ids)))
            # Of all of them, not only of those that are tuned: settings that contradict each
            # other are a trouble that somebody has to see.
            current = {o: self.guides.context_of(self.orgs[o]).thresholds for o in org_ids}
            return threshold.learn_thresholds(own, current, versions, as_of=self.as_of), {}

        return learn

    def _suggestion(self, start: datetime) -> Learner:
        judged = stored_signals.judgements(
            self.connection,
            window_start=start,
            as_of=self.as_of,
            accepted_after=suggestion.ACCEPTED_AFTER,
        )
        overridden = stored_signals.overridden_members(
            self.connection, since=start, as_of=self.as_of
        )

        def learn(org_ids: Collection[str]) -> tuple[pl.DataFrame, Findings]:
            theirs = pl.col("org_id").is_in(list(org_ids))
            own = judged.filter(theirs)
            learned = suggestion.learn_acceptance(own)
            profiles = self._profiles_of(overridden.filter(theirs))
            return learned, {
                "loops.label_agreement": suggestion.label_agreement(
                    own, window_start=start, as_of=self.as_of
                ),
                "loops.corrections": suggestion.corrections(own, profiles, as_of=self.as_of),
                "loops.review_queue": self._review_queue(learned, start),
            }

        return learn

    def _review_queue(self, learned: pl.DataFrame, start: datetime) -> pl.DataFrame:
        versions = new_versions(
            learned, window_start=start, as_of=self.as_of, versions=stored.no_calibrations()
        )
        return suggestion.review_levels(
            versions, below=self.settings.review_acceptance_below, as_of=self.as_of
        )

    def _profiles_of(self, overridden: pl.DataFrame) -> pl.DataFrame:
        """`source_key` of each override, and the `profile` that its member shared at the time."""
        newest = (
            overridden.sort("performed_at", "source_key", descending=True)
            .group_by("org_id", maintain_order=True)
            .head(_CORRECTIONS_LOOKED_AT)
        )
        found = [pl.DataFrame(schema={"source_key": pl.String, "profile": pl.String})]
        for (org_id, scored_at), named in newest.partition_by(
            ["org_id", "scored_at"], as_dict=True
        ).items():
            members = stored_signals.scored_members(self.connection, org_id, scored_at)
            shared = with_shared_profiles(
                members,
                self.guides.context_of(self.orgs[org_id]).thresholds,
                min_members=self.settings.members_per_profile,
            )
            found.append(
                named.join(shared, on=["org_id", "user_id"], how="inner").select(
                    "source_key", "profile"
                )
            )
        return pl.concat(found)

    def _prediction(self, start: datetime) -> Learner:
        met = stored_predictions.outcome_pairs(
            self.connection, window_start=start, as_of=self.as_of
        )
        # What another model took tells little of what this one will.
        is_cost = pl.col("kind").is_in(cost_forecast.KINDS)
        met = met.filter(~is_cost | (pl.col("predicted_by") == self.settings.model))
        kinds = met["kind"].unique().sort().to_list()
        pairs = {
            kind: met.filter(pl.col("kind") == kind).select(prediction.PAIR_SCHEMA.names())
            for kind in kinds
        }
        costs = [kind for kind in kinds if kind in cost_forecast.KINDS]
        probabilities = [kind for kind in kinds if kind not in cost_forecast.KINDS]
        # A map turns one predictor's figures into probabilities, and would distort another's.
        by_predictor = {
            prediction.map_key(str(kind), str(predictor)): own.select(
                prediction.PAIR_SCHEMA.names()
            )
            for (kind, predictor), own in met.filter(~is_cost)
            .partition_by("kind", "predicted_by", as_dict=True)
            .items()
        }

        def learn(org_ids: Collection[str]) -> tuple[pl.DataFrame, Findings]:
            theirs = pl.col("org_id").is_in(list(org_ids))
            learned = [LEARNED_SCHEMA.to_frame()]
            learned += [cost_forecast.learn_cost(pairs[k], org_ids, kind=k) for k in costs]
            learned += [
                prediction.learn_probabilities(pairs[k].filter(theirs), kind=k)
                for k in probabilities
            ]
            maps = [
                prediction.calibration_maps(by_predictor[key], org_ids, kind=key, as_of=self.as_of)
                for key in sorted(by_predictor)
            ]
            return pl.concat(learned), {"loops.calibration_maps": pl.concat(maps)} if maps else {}

        return learn

    def _ranking(self, start: datetime) -> Learner:
        known = stored_signals.signals_of(
            self.connection, "ranking", window_start=start, as_of=self.as_of
        )
        signals = routing.settled(known)

        def learn(org_ids: Collection[str]) -> tuple[pl.DataFrame, Findings]:
            arms = routing.arms_seen(signals, org_ids)
            posteriors = routing.learn_arms(signals, arms, as_of=self.as_of)
            return routing.learned_rates(posteriors), {"loops.arm_posteriors": posteriors}

        return learn

    def _record_findings_used(self, findings: Findings) -> None:
        queue = findings.get("loops.review_queue")
        if queue is not None and not queue.is_empty():
            used = dict(queue.group_by("org_id").len().iter_rows())
            stored.record_uses(
                self.connection, "suggestion", "review_queue", used, as_of=self.as_of
            )

    def plan_digests(self) -> tuple[pl.DataFrame, dict[str, str]]:
        """Decide how notifications are to be delivered.

        Gives rows of `loops.digest_decisions`, and organisation -> why nothing could be decided
        for it: its last decision stands.
        """
        days = timedelta(days=self.settings.engagement_lookback_days)
        sent = stored_signals.sent_counts(self.connection, window_start=self.as_of - days)
        current = in_force(stored.unexpired(self.connection, as_of=self.as_of), as_of=self.as_of)
        previous = stored.previous_decisions(self.connection, before=self.as_of)
        counts = sent.group_by("org_id", "feature").agg(
            pl.col("n_sent").sum(), pl.col("n_read").sum()
        )

        def decide(org_ids: Collection[str]) -> pl.DataFrame:
            theirs = pl.col("org_id").is_in(list(org_ids))
            return digest_plan.plan(
                current.filter(theirs),
                counts.filter(theirs),
                previous.filter(theirs),
                immediate_min=self.settings.digest_immediate_min,
                daily_min=self.settings.digest_daily_min,
                as_of=self.as_of,
                known=counts.filter(theirs),
            )

        found, failed = learn_each(sorted(self.orgs), decide)
        decisions = stored.no_decisions() if found is None else found
        stored.write_decisions(self.connection, decisions, as_of=self.as_of)
        used = decisions.filter(pl.col("expires_at").is_not_null()).group_by("org_id").len()
        stored.record_uses(
            self.connection, "engagement", "digest_plan", dict(used.iter_rows()), as_of=self.as_of
        )
        return decisions, failed
