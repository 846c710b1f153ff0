"""The ledger of calls to the model, kept in the warehouse."""

from collections.abc import Sequence
from dataclasses import dataclass

from engagement_pipeline.scoring.anthropic.ledger import Row, Writing
from engagement_pipeline.warehouse import llm
from engagement_pipeline.warehouse.connection import Connection


@dataclass(frozen=True)
class WarehouseLedger:
    """What calls and batches have to say, each time in one transaction of an open warehouse."""

    connection: Connection

    def write(self, writings: Sequence[Writing], batch: Row | None = None) -> None:
        llm.write_calls(
            self.connection,
            begun=[row for writing in writings for row in writing.begun],
            ended=[row for writing in writings for row in writing.ended],
            answers=[row for writing in writings for row in writing.answers],
            batch=batch,
        )

    def open_batches(self) -> list[Row]:
        return llm.open_batches(self.connection)

    def open_calls(self, batch_key: str) -> dict[str, Row]:
        return llm.open_calls(self.connection, batch_key)

    def known_batch_ids(self) -> set[str]:
        return llm.known_batch_ids(self.connection)
