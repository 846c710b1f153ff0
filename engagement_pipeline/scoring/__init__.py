"""Levels: who is how engaged, why, and what an admin decided instead.

Pure: frames and values in, the same out. Signals are computed in `signals`; rows are kept by
`warehouse`.
"""

from engagement_pipeline.scoring.classifier import LABEL_SCHEMA, Classifier, fingerprint
from engagement_pipeline.scoring.explanations import (
    ADMIN_EXPLANATION_MAX_CHARACTERS,
    PLACEHOLDERS,
    USER_EXPLANATION_MAX_CHARACTERS,
    MalformedTemplateError,
    NullPlaceholderError,
    TemplateError,
    UnknownPlaceholderError,
    placeholders_of,
    render,
)
from engagement_pipeline.scoring.levels import (
    InvalidThresholdsError,
    OrgContext,
    Thresholds,
    with_baseline,
)
from engagement_pipeline.scoring.org_scoring import (
    InvalidLabelsError,
    ScoringInputError,
    score_org,
)
from engagement_pipeline.scoring.overrides import (
    IN_FORCE_SCHEMA,
    REJECTED_SCHEMA,
    REJECTION_REASONS,
    OverrideOutcome,
    apply_requests,
    in_force,
)
from engagement_pipeline.scoring.rules import RulesClassifier
from engagement_pipeline.scoring.user_text import check_user_text

__all__ = [
    "ADMIN_EXPLANATION_MAX_CHARACTERS",
    "IN_FORCE_SCHEMA",
    "LABEL_SCHEMA",
    "PLACEHOLDERS",
    "REJECTED_SCHEMA",
    "REJECTION_REASONS",
    "USER_EXPLANATION_MAX_CHARACTERS",
    "Classifier",
    "InvalidLabelsError",
    "InvalidThresholdsError",
    "MalformedTemplateError",
    "NullPlaceholderError",
    "OrgContext",
    "OverrideOutcome",
    "RulesClassifier",
    "ScoringInputError",
    "TemplateError",
    "Thresholds",
    "UnknownPlaceholderError",
    "apply_requests",
    "check_user_text",
    "fingerprint",
    "in_force",
    "placeholders_of",
    "render",
    "score_org",
    "with_baseline",
]
