"""Which organisations have to be classified, and by what it is known that one need not be.

An organisation is due until all that its levels depend on has been classified as it is now.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Protocol, TypeVar

from engagement_pipeline.scoring.classifier import Classifier
from engagement_pipeline.scoring.levels import Correction, Thresholds
from engagement_pipeline.scoring.profiles import corrections_as_sent


class UnknownOrgError(ValueError):
    """Someone asked for organisations that there are not; the text names them and those known."""

    def __init__(self, unknown: Sequence[str], known: Sequence[str]) -> None:
        shown = ", ".join(known[:20]) + (" …" if len(known) > 20 else "")
        super().__init__(f"org: expected one of {shown or 'none yet'}, found {', '.join(unknown)}")


class Org(Protocol):
    """What of an organisation its levels depend on."""

    @property
    def org_id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str | None: ...
    @property
    def settings(self) -> Mapping[str, str]: ...


class Run(Protocol):
    """How the last classification of an organisation ended."""

    @property
    def outcome(self) -> str: ...
    @property
    def inputs_digest(self) -> str: ...


AnyOrg = TypeVar("AnyOrg", bound=Org)


def org_digest(
    org: Org,
    *,
    signals_digest: str,
    defaults: Thresholds,
    classifier: Classifier,
    corrections: Sequence[Correction] = (),
    tuned: Mapping[str, float] = MappingProxyType({}),
    tuned_inactive_days: int | None = None,
) -> str:
    """Sha256 of all that the organisation's levels depend on.

    What was learned counts only where it is used, so that a digest from before stays good.

    Args:
        org: the organisation. Its own settings count as they are written, so that also unusable
            ones give a digest.
        signals_digest: stands for the signals of all members, `as_of` included.
        defaults: the thresholds that hold where it sets none.
        classifier: who gives the levels.
        corrections: those that the classifier is told of, in their order.
        tuned: tuned thresholds that take the place of its own, by name.
        tuned_inactive_days: the one that severities are judged by, if it is a tuned one.

    Raises:
        MalformedProfileError: a correction is of no profile.
    """
    described: dict[str, object] = {
        "org": [org.org_id, org.name, org.description, dict(org.settings)],
        "signals": signals_digest,
        "defaults": asdict(defaults),
        "classifier": [
            classifier.name,
            classifier.model_version,
            classifier.prompt_version,
            classifier.setup,
        ],
    }
    if corrections:
        described["guidance"] = corrections_as_sent(corrections)
    if tuned:
        described["tuned"] = dict(tuned)
    if tuned_inactive_days is not None:
        described["tuned_inactive_days"] = tuned_inactive_days
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def is_done(run: Run | None, digest: str) -> bool:
    """Whether the last classification was good, and of just what there is now."""
    return run is not None and run.outcome == "classified" and run.inputs_digest == digest


def due_orgs(
    orgs: Sequence[AnyOrg], digests: Mapping[str, str], runs: Mapping[str, Run]
) -> list[AnyOrg]:
    """The organisations to classify, in their order."""
    return [org for org in orgs if not is_done(runs.get(org.org_id), digests[org.org_id])]
