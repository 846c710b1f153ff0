"""The files of one table into the warehouse, one after another.

A bad file or a refused one stops neither the others of its table nor any other table.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from engagement_pipeline.contracts import Contract
from engagement_pipeline.defs.progress import Progress
from engagement_pipeline.ingest import (
    BadFileError,
    FileFacts,
    SourceFile,
    check_rows,
    digest,
    read_batches,
    rejects_of_lines,
)
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse.connection import Connection
from engagement_pipeline.warehouse.loading import (
    CheckedBatch,
    FileIdentity,
    LoadedFile,
    RejectLimit,
    known_org_ids,
    load_file,
    loaded_digests,
    rows_of_orgs_now_known,
)

_NO_LIMIT = RejectLimit(share=1.0, rows=0)


@dataclass
class TableIngest:
    """What became of the files of one table."""

    loaded: list[LoadedFile] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    unknown_columns: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def refused(self) -> list[LoadedFile]:
        return [file for file in self.loaded if file.is_refused]

    @property
    def rows_loaded(self) -> int:
        return sum(file.rows_loaded for file in self.loaded)

    @property
    def rows_read(self) -> int:
        return sum(file.rows_read for file in self.loaded)

    def reasons(self) -> list[tuple[str, int]]:
        """Rejected rows by reason, the commonest first."""
        counts: dict[str, int] = {}
        for file in self.loaded:
            for reason, count in file.reasons:
                counts[reason] = counts.get(reason, 0) + count
        return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def ingest_table(
    connection: Connection,
    into: Contract,
    files: list[SourceFile],
    *,
    settings: Settings,
    now: datetime,
    progress: Progress,
) -> TableIngest:
    """Load every file of a table whose content is new; gives what became of each."""
    result = TableIngest()
    loaded = loaded_digests(connection, into.name)
    for file in files:
        try:
            facts = digest(file.path)
            if facts.sha256 in loaded:
                result.known.append(str(file.path))
            else:
                outcome = _load(connection, into, file, facts, settings, now, result)
                result.loaded.append(outcome)
                loaded |= set() if outcome.is_refused else {facts.sha256}
        except BadFileError as error:
            result.problems.append(str(error))
        progress.advance(1)
    again = _load_again(connection, into, settings, now)
    if again is not None:
        result.loaded.append(again)
    return result


def _load_again(
    connection: Connection, into: Contract, settings: Settings, now: datetime
) -> LoadedFile | None:
    """Rows whose organisation came later than they did: the order of arrival must not matter."""
    rows = rows_of_orgs_now_known(connection, into.name)
    if not rows:
        return None
    path = settings.spool_folder / f"{into.name}.jsonl"
    # The moment keeps apart two loads of the same rows, which a file's content could not.
    sha256 = hashlib.sha256("\n".join([now.isoformat(), *rows]).encode()).hexdigest()
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    try:
        file = SourceFile(into.name, path, "jsonl")
        return load_file(
            connection,
            into,
            FileIdentity("raw.rejects", sha256, path.stat().st_size),
            _checked(connection, into, file, digest(path), settings, now, TableIngest()),
            limit=_NO_LIMIT,
            now=now,
            settles_rejects=True,
        )
    finally:
        path.unlink()


def _load(
    connection: Connection,
    into: Contract,
    file: SourceFile,
    facts: FileFacts,
    settings: Settings,
    now: datetime,
    result: TableIngest,
) -> LoadedFile:
    return load_file(
        connection,
        into,
        FileIdentity(str(file.path), facts.sha256, facts.bytes),
        _checked(connection, into, file, facts, settings, now, result),
        limit=RejectLimit(settings.max_reject_share, settings.max_reject_rows),
        now=now,
    )


def _checked(
    connection: Connection,
    into: Contract,
    file: SourceFile,
    facts: FileFacts,
    settings: Settings,
    now: datetime,
    result: TableIngest,
) -> Iterator[CheckedBatch]:
    orgs = None if into.name == "organizations" else known_org_ids(connection)
    for batch in read_batches(file, contract=into, facts=facts, batch_rows=settings.batch_rows):
        if batch.unknown_columns:
            before = result.unknown_columns.get(str(file.path), ())
            result.unknown_columns[str(file.path)] = before + batch.unknown_columns
        checked = check_rows(batch.frame, into, now=now, known_org_ids=orgs)
        lines = rejects_of_lines((line.row_number, line.text) for line in batch.unparseable)
        yield CheckedBatch(
            rows=checked.rows,
            rejects=checked.rejects.vstack(lines),
            rows_read=batch.frame.height + lines.height,
            reads=None if checked.reads is None else checked.reads.drop("row_number"),
        )
