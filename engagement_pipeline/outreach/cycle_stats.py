"""How many members a cycle found eligible, in which segments, and why it skipped the others.

Only counting belongs here, and only of decisions that were taken.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from engagement_pipeline.contracts.vocabulary import SEGMENTS, SKIP_REASONS
from engagement_pipeline.outreach.decision import Decision


@dataclass(frozen=True)
class CycleStats:
    """Decisions, counted. The sums agree, because all are counted from the same decisions.

    Attributes:
        total: decisions: `eligible + skipped`.
        eligible: members who may be written to: the sum of `by_segment`.
        skipped: members who may not: the sum of `skip_reasons`.
        by_segment: eligible members by segment, each of `vocabulary.SEGMENTS`.
        skip_reasons: skipped members by reason, each of `vocabulary.SKIP_REASONS`.
    """

    total: int
    eligible: int
    skipped: int
    by_segment: Mapping[str, int]
    skip_reasons: Mapping[str, int]

    @classmethod
    def of(cls, decisions: Iterable[Decision]) -> "CycleStats":
        """Count decisions.

        Raises:
            ValueError: a segment or a reason is none of the vocabulary's.
        """
        by_segment, skip_reasons = dict.fromkeys(SEGMENTS, 0), dict.fromkeys(SKIP_REASONS, 0)
        for decision, count in Counter(decisions).items():
            counts, word = (
                (by_segment, decision.segment)
                if decision.eligible
                else (skip_reasons, decision.reason)
            )
            if word not in counts:
                raise ValueError(f"decisions: expected one of {list(counts)}, found {decision}")
            counts[word] += count
        return cls._summed(by_segment, skip_reasons)

    def __add__(self, other: "CycleStats") -> "CycleStats":
        """The counts of both together: of the organisations of a cycle, or of its slices."""
        return self._summed(
            {word: n + other.by_segment[word] for word, n in self.by_segment.items()},
            {word: n + other.skip_reasons[word] for word, n in self.skip_reasons.items()},
        )

    @classmethod
    def _summed(
        cls, by_segment: Mapping[str, int], skip_reasons: Mapping[str, int]
    ) -> "CycleStats":
        eligible, skipped = sum(by_segment.values()), sum(skip_reasons.values())
        return cls(eligible + skipped, eligible, skipped, by_segment, skip_reasons)
