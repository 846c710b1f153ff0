"""What the loops have taught about organisations, for those who score them.

Each organisation as classifiers know it is put together here: its own texts and settings, and what
was learned of it. How that is learned is in `defs.learning`.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from engagement_pipeline.loops.calibration import COST_RATIO, EXPIRES_AFTER, THRESHOLD, in_force
from engagement_pipeline.scoring import due
from engagement_pipeline.scoring.anthropic.estimate import TokenRatios
from engagement_pipeline.scoring.classifier import Classifier
from engagement_pipeline.scoring.levels import Correction, OrgContext, Thresholds
from engagement_pipeline.scoring.profiles import Profile
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse import calibrations as stored
from engagement_pipeline.warehouse.classifications import StoredOrg
from engagement_pipeline.warehouse.connection import Connection

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Guidance:
    """What was learned of one organisation, and is in force.

    Attributes:
        tuned: tuned thresholds, by name.
        corrections: profiles that its admins corrected.
        ratios: how its tokens differ from those expected, where that is known.
    """

    tuned: Mapping[str, float] = field(default_factory=dict)
    corrections: tuple[Correction, ...] = ()
    ratios: TokenRatios | None = None


_NONE = Guidance()


@dataclass(frozen=True)
class Guides:
    """What was learned of all organisations, and the thresholds of those that set none.

    Attributes:
        defaults: the thresholds of an organisation that sets none itself.
        by_org: organisation -> what was learned; nothing of those that are not in it.
        applies_tuned: whether tuned thresholds take the place of an organisation's own.
    """

    defaults: Thresholds
    by_org: Mapping[str, Guidance] = field(default_factory=dict)
    applies_tuned: bool = False

    def of(self, org_id: str) -> Guidance:
        return self.by_org.get(org_id, _NONE)

    def context_of(self, org: StoredOrg) -> OrgContext:
        """The organisation as classifiers know it.

        Raises:
            InvalidThresholdsError: its own settings cannot be used.
        """
        thresholds = self.defaults.with_org_settings(org.settings)
        if self.applies_tuned:
            thresholds = thresholds.with_tuned(self.of(org.org_id).tuned)
        return OrgContext(
            org.org_id, org.name, org.description, thresholds, self.of(org.org_id).corrections
        )

    def digest_of(self, org: StoredOrg, *, signals_digest: str, classifier: Classifier) -> str:
        """Sha256 of all that the organisation's levels depend on."""
        guidance = self.of(org.org_id)
        return due.org_digest(
            org,
            signals_digest=signals_digest,
            defaults=self.defaults,
            classifier=classifier,
            corrections=guidance.corrections,
            tuned=guidance.tuned if self.applies_tuned else {},
            tuned_inactive_days=self.inactive_days_of(org.org_id),
        )

    def inactive_days_of(self, org_id: str) -> int | None:
        """The tuned days that severities are judged by; None: the organisation's own."""
        tuned = self.of(org_id).tuned.get("inactive_days")
        return None if tuned is None else int(tuned)

    @property
    def ratios(self) -> dict[str, TokenRatios]:
        """Organisation -> how its tokens differ from those expected."""
        return {org: one.ratios for org, one in self.by_org.items() if one.ratios is not None}


def thresholds_of(settings: Settings) -> Thresholds:
    """The thresholds of an organisation that sets none itself."""
    return Thresholds(
        settings.highly_engaged_min,
        settings.moderate_min,
        settings.new_member_days,
        settings.inactive_days,
    )


def guides_at(connection: Connection, settings: Settings, *, as_of: datetime) -> Guides:
    """What is in force at `as_of`; nothing where the loops are off."""
    defaults = thresholds_of(settings)
    if not settings.loops_enabled:
        return Guides(defaults)
    tuned = _values(connection, THRESHOLD, as_of)
    ratios = _values(connection, COST_RATIO, as_of)
    corrected = _corrections(connection, as_of)
    by_org = {
        org_id: Guidance(
            tuned.get(org_id, {}),
            corrected.get(org_id, ()),
            _ratios(ratios.get(org_id)),
        )
        for org_id in sorted({*tuned, *ratios, *corrected})
    }
    return Guides(defaults, by_org, settings.apply_tuned_thresholds)


def record_use(
    connection: Connection,
    guides: Guides,
    orgs: Sequence[StoredOrg],
    *,
    asks_a_model: bool,
    as_of: datetime,
) -> None:
    """Write down which organisations' levels were made with what was learned of them."""
    known = {org.org_id: guides.of(org.org_id) for org in orgs}
    if all(one == _NONE for one in known.values()):
        return
    consumers: dict[tuple[str, str], dict[str, int]] = {
        ("threshold", "flag_severity"): {
            o: int("inactive_days" in g.tuned) for o, g in known.items()
        },
        ("threshold", "baseline"): {
            o: len(g.tuned) if guides.applies_tuned else 0 for o, g in known.items()
        },
        ("suggestion", "prompt"): {
            o: len(g.corrections) if asks_a_model else 0 for o, g in known.items()
        },
        ("prediction", "cost_estimate"): {
            o: 2 if asks_a_model and g.ratios else 0 for o, g in known.items()
        },
    }
    for (archetype, consumer), used in consumers.items():
        counts = {org_id: count for org_id, count in used.items() if count}
        if counts:
            stored.record_uses(connection, archetype, consumer, counts, as_of=as_of)


def _values(connection: Connection, prefix: str, as_of: datetime) -> dict[str, dict[str, float]]:
    """Organisation -> what follows the prefix in a key -> the value in force."""
    found = in_force(stored.unexpired(connection, as_of=as_of, prefix=prefix), as_of=as_of)
    values: dict[str, dict[str, float]] = {}
    for org_id, key, value in found.select("org_id", "key", "value").iter_rows():
        values.setdefault(org_id, {})[key.removeprefix(prefix)] = value
    return values


def _corrections(connection: Connection, as_of: datetime) -> dict[str, tuple[Correction, ...]]:
    rows = stored.corrections_in_force(connection, as_of=as_of, learned_after=as_of - EXPIRES_AFTER)
    found: dict[str, tuple[Correction, ...]] = {}
    for row in rows.iter_rows(named=True):
        try:
            one = Correction(
                Profile(row["profile"]).text, row["computed_level"], row["admin_level"]
            )
        except ValueError as error:
            # Written by a release whose cells or levels were others: no reason to label nobody.
            _LOG.warning(
                "a correction of %s is left out, the model is not told of it: %s",
                row["org_id"],
                error,
            )
            continue
        found[row["org_id"]] = (*found.get(row["org_id"], ()), one)
    return found


def _ratios(values: Mapping[str, float] | None) -> TokenRatios | None:
    if not values:
        return None
    return TokenRatios(values.get("input_tokens", 1.0), values.get("output_tokens", 1.0))
