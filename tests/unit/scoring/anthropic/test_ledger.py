"""The ledger: written together while others wait, and read again as it was meant."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from engagement_pipeline.scoring.anthropic.ledger import (
    Call,
    GroupCommitLedger,
    Writing,
    asked_as_text,
    asked_from_text,
)
from engagement_pipeline.scoring.anthropic.models import Usage
from engagement_pipeline.scoring.levels import Thresholds
from engagement_pipeline.scoring.profiles import Profile
from engagement_pipeline.scoring.questions import Question

NOW = datetime(2026, 5, 20, 4, tzinfo=UTC)
CALL = Call("run:1", "run", NOW, "o", "anthropic", "m", "p", "first", 1, 2, "asked", 0.5, NOW)


def writing(name: str) -> Writing:
    return Writing(begun=[{"call_id": name}])


def test_what_waits_together_is_written_together_and_in_order() -> None:
    groups: list[list[str]] = []

    def write(writings: Sequence[Writing]) -> None:
        groups.append([row["call_id"] for one in writings for row in one.begun])

    async def scene() -> None:
        ledger = GroupCommitLedger(write)
        await asyncio.gather(*(ledger.write(writing(str(n))) for n in range(9)))
        await ledger.write(writing("later"))

    asyncio.run(scene())
    assert [name for group in groups for name in group] == [*"012345678", "later"]
    assert len(groups) <= 3


def test_a_failed_write_is_told_to_all_who_wait_for_it_and_to_nobody_else() -> None:
    written: list[Writing] = []

    def write(writings: Sequence[Writing]) -> None:
        if not written and any(one.begun for one in writings):
            written.append(Writing())
            raise OSError("disk full")
        written.extend(writings)

    async def scene() -> list[object]:
        ledger = GroupCommitLedger(write)
        first = await asyncio.gather(
            ledger.write(writing("a")), ledger.write(writing("b")), return_exceptions=True
        )
        await ledger.write(writing("c"))
        return list(first)

    assert [str(found) for found in asyncio.run(scene())] == ["disk full"] * 2
    assert written[1:] == [writing("c")]


def test_a_call_that_begins_has_cost_nothing_for_certain() -> None:
    row = CALL.begun()
    assert (row["outcome"], row["spent_usd"], row["is_spent_certain"]) == ("pending", 0.0, False)
    assert row["ended_at"] is None


def test_a_calls_end_has_the_columns_of_its_beginning_and_what_it_took() -> None:
    row = CALL.ended(
        outcome="answered",
        usage=Usage(1, 2, 3, 4),
        spent_usd=0.25,
        is_spent_certain=True,
        ended_at=NOW,
    )
    assert set(row) == set(CALL.begun())
    tokens = ("input_tokens", "output_tokens", "cache_write_tokens", "cache_read_tokens")
    assert [row[name] for name in tokens] == [1, 2, 3, 4]


@pytest.mark.parametrize("thresholds", [Thresholds(), Thresholds(8, 2, 0, 400)])
def test_what_was_asked_is_read_again_from_its_text(thresholds: Thresholds) -> None:
    questions = [Question(f"f{n}", Profile(f"{n} 2 1 0 8 0 180 ? 0 x +")) for n in range(3)]
    assert asked_from_text(asked_as_text(thresholds, questions)) == (thresholds, questions)
