"""What every classifier takes and gives, whoever stands behind it.

The seam belongs here: the protocol, the shape of a label, and the fingerprint by which a label
is known again. How a level is found belongs to the classifiers, and what becomes of a label to
`org_scoring`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Protocol

import polars as pl

from engagement_pipeline.scoring.levels import OrgContext

LABEL_SCHEMA = pl.Schema(
    {
        "user_id": pl.String(),
        "level": pl.String(),
        "source": pl.String(),
        "admin_template": pl.String(),
        "user_template": pl.String(),
        "fingerprint": pl.String(),
        "model_version": pl.String(),
        "prompt_version": pl.String(),
        "classified_at": pl.Datetime("us", "UTC"),
    }
)
"""A label: one row per member, no value null.

The two templates are texts whose figures are placeholders (see `explanations`): they are filled
from the member's own signals, so that a label made for many members, or made weeks ago, still
cites each member's figures of today.
"""


class Classifier(Protocol):
    """Gives every member of an organisation a level, and the templates that explain it."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def model_version(self) -> str:
        """The model, or the version of the rules."""

    @property
    def prompt_version(self) -> str:
        """The prompt, or the version of the templates."""

    @property
    def setup(self) -> str:
        """Whatever else could change its labels."""

    def classify(self, org: OrgContext, members: pl.DataFrame, *, as_of: datetime) -> pl.DataFrame:
        """One label per member.

        Args:
            org: the organisation that all members belong to.
            members: their signals, with `baseline_level` and `reason`; at least one row.
            as_of: the moment that the signals describe, with a time zone.

        Returns:
            A frame with the columns of `LABEL_SCHEMA`, each member once, in any order.
        """


def fingerprint(org: OrgContext, facts: Mapping[str, object]) -> str:
    """Sha256, in hex, of all that could change a label.

    Two labels with one fingerprint say the same, so that one may stand for the other.

    Args:
        org: the organisation: its id, name, description and thresholds all count, and its
            corrections where there are any.
        facts: whatever else counts, as values that JSON can hold; their order does not count.
    """
    described = asdict(org)
    # An empty list would make every label ever kept look like a different one.
    if not org.corrections:
        del described["corrections"]
    identity = {"org": described, "facts": dict(facts)}
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
