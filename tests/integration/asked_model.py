"""Organisations, questions and ledgers for tests that ask the loopback API with the real client.

What the server does belongs to `tests.anthropic_api`; what is asserted, to the tests.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from engagement_pipeline.scoring.anthropic import session
from engagement_pipeline.scoring.anthropic.asking import AskOutcome
from engagement_pipeline.scoring.anthropic.client import Connection
from engagement_pipeline.scoring.anthropic.ledger import Row, Writing
from engagement_pipeline.scoring.anthropic.models import KNOWN_MODELS, ModelSpec
from engagement_pipeline.scoring.anthropic.sending import RunFacts
from engagement_pipeline.scoring.anthropic.session import Pace, Way
from engagement_pipeline.scoring.levels import OrgContext, Thresholds
from engagement_pipeline.scoring.profiles import Profile
from engagement_pipeline.scoring.questions import OrgQuestions, Question, fingerprint_for
from tests.anthropic_api import AnthropicApi, expected_level

AS_OF = datetime(2026, 5, 20, 4, tzinfo=UTC)
HAIKU = KNOWN_MODELS["claude-haiku-4-5-20251001"]
NEW_HAIKU = KNOWN_MODELS["claude-haiku-5-5"]

# As fast as the machine allows: whoever tests a limit says so.
UNHURRIED = Pace(1e9, 1e9, 1e9, calls_in_flight=4)

_CELLS: tuple[Sequence[str], ...] = (
    ("0", "1", "2", "3", "4", "5"),
    ("0", "1", "2", "3", "4", "5"),
    ("0", "1", "3", "6"),
    ("0", "1", "2"),
    ("x", "0", "8", "31", "61", "91", "181"),
    ("0", "8", "31", "61", "91", "180", "181"),
    ("0", "30", "60", "180", "365"),
    ("?", "0", "1", "25", "75"),
    ("?", "0", "1", "5", "20"),
    ("x", "0", "91"),
    ("+", "=", "-"),
)


def profiles_of(count: int, seed: int = 0, *, joined: Sequence[str] | None = None) -> list[Profile]:
    """So many profiles, no two alike; `joined` narrows the cell of that name."""
    dice = random.Random(seed)
    cells = [*_CELLS[:6], joined or _CELLS[6], *_CELLS[7:]]
    found: dict[str, None] = {}
    while len(found) < count:
        found[" ".join(dice.choice(choices) for choices in cells)] = None
    return [Profile(text) for text in found]


def org_of(
    number: int,
    profiles: int | Sequence[Profile],
    *,
    model: ModelSpec = HAIKU,
    thresholds: Thresholds | None = None,
) -> OrgQuestions:
    """An organisation with questions about profiles, or about so many of its own."""
    org = OrgContext(f"org-{number}", f"Society {number}", None, thresholds or Thresholds())
    chosen = profiles_of(profiles, number) if isinstance(profiles, int) else profiles
    fingerprint = fingerprint_for(model.name, model.output_mode)
    questions = tuple(Question(fingerprint(org, profile), profile) for profile in chosen)
    return OrgQuestions(org, 3 * len(questions), questions)


def levels_by_policy(orgs: Sequence[OrgQuestions]) -> dict[str, str]:
    """Fingerprint -> the level that the server's model gives."""
    return {
        question.fingerprint: expected_level(question.profile.text, asked.org.thresholds)
        for asked in orgs
        for question in asked.questions
    }


@dataclass
class Recorded:
    """A ledger in memory that also keeps the order in which things were written."""

    calls: dict[str, Row] = field(default_factory=dict)
    answers: list[Row] = field(default_factory=list)
    writings: list[Writing] = field(default_factory=list)

    def write(self, writings: Sequence[Writing]) -> None:
        for writing in writings:
            self.writings.append(writing)
            for row in (*writing.begun, *writing.ended):
                self.calls[row["call_id"]] = row
            self.answers += writing.answers

    @property
    def levels(self) -> dict[str, str]:
        """Fingerprint -> level of its answer."""
        return {row["fingerprint"]: row["level"] for row in self.answers}

    @property
    def outcomes(self) -> list[str]:
        """The calls' outcomes, in the order in which they began."""
        return [row["outcome"] for row in self.calls.values()]

    @property
    def spent_usd(self) -> float:
        return float(sum(row["spent_usd"] for row in self.calls.values()))


WriteNow = Callable[[Sequence[Writing]], None]


def way_to(
    api: AnthropicApi | str,
    *,
    model: ModelSpec = HAIKU,
    pace: Pace = UNHURRIED,
    max_cost_usd: float = 10.0,
    timeout_seconds: float = 10.0,
    key: str = "sk-ant-test-key",
) -> Way:
    """The way to a server, or to an address."""
    url = api if isinstance(api, str) else api.base_url
    connection = Connection(key, url, timeout_seconds, max_connections=64)
    return Way(connection, model, pace, max_cost_usd)


def facts_of(*, max_attempts: int = 4, seed: int = 7, run_id: str = "run-1") -> RunFacts:
    return RunFacts(run_id, AS_OF, "anthropic", seed, max_attempts, lambda: datetime.now(UTC))


@dataclass
class Asked:
    """What became of a run."""

    outcome: AskOutcome
    ledger: Recorded

    @property
    def fallbacks(self) -> set[str]:
        """Fingerprints that are left to the written rules."""
        return set(self.outcome.unanswered)


def ask_model(
    orgs: Sequence[OrgQuestions],
    api: AnthropicApi | str,
    *,
    ledger: Recorded | None = None,
    facts: RunFacts | None = None,
    per_call: int | None = None,
    workers: int | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
    **way: Any,
) -> Asked:
    """Ask through `session.ask`; `per_call` and `workers` change the pace, the rest is `way_to`'s.

    Raises:
        StopRunError: as `session.ask`; a ledger handed in has what was written until then.
    """
    kept = ledger if ledger is not None else Recorded()
    pace: Pace = way.pop("pace", UNHURRIED)
    changes: Mapping[str, Any] = {
        name: value
        for name, value in (("profiles_per_call", per_call), ("calls_in_flight", workers))
        if value is not None
    }
    outcome = session.ask(
        orgs,
        way_to(api, pace=replace(pace, **changes), **way),
        facts or facts_of(),
        kept.write,
        on_progress=on_progress,
    )
    return Asked(outcome, kept)
