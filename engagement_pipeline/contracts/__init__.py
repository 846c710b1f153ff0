"""One contract per table: what it holds, and what every row of it promises.

Importing the package registers every contract. Look one up with `contract("raw.attendance")`.
"""

from engagement_pipeline.contracts import (
    behavior,
    behavior_marts,
    inputs,
    journal,
    llm,
    loop_marts,
    loops,
    marts,
    milestones,
    outreach,
    outreach_marts,
    scores,
    signals,
)
from engagement_pipeline.contracts.contract import (
    Column,
    Contract,
    ContractViolationError,
    contract,
    contracts,
)

__all__ = [
    "Column",
    "Contract",
    "ContractViolationError",
    "behavior",
    "behavior_marts",
    "contract",
    "contracts",
    "inputs",
    "journal",
    "llm",
    "loop_marts",
    "loops",
    "marts",
    "milestones",
    "outreach",
    "outreach_marts",
    "scores",
    "signals",
]
