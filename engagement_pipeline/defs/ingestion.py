"""The files of one table into the warehouse, one after another.

A bad file or a refused one stops neither the others of its table nor any other table. Where the
loops are off, nothing that people said of a value's meaning is applied.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl

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
from engagement_pipeline.ingest.mapping_use import mappings_used
from engagement_pipeline.ingest.validation import now_explained
from engagement_pipeline.ingest.vocabulary import Vocabulary, vocabularies_of
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse.calibrations import record_uses
from engagement_pipeline.warehouse.connection import Connection
from engagement_pipeline.warehouse.loading import (
    CheckedBatch,
    FileIdentity,
    LoadedFile,
    RejectLimit,
    known_org_ids,
    load_file,
    loaded_digests,
    quarantined_rows,
    quarantined_values,
)
from engagement_pipeline.warehouse.vocabulary import mappings

_NO_LIMIT = RejectLimit(share=1.0, rows=0)


@dataclass
class TableIngest:
    """What became of the files of one table.

    `mappings_not_applied` are those on record for the table, where the loops are off.
    """

    loaded: list[LoadedFile] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    unknown_columns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    mappings_not_applied: int = 0

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


@dataclass(frozen=True)
class _Work:
    """What the files of one table are read with, and where their rows go.

    `unmapped` are the vocabularies without the mappings; `uses` gathers what mappings gave words to
    rows that landed.
    """

    connection: Connection
    into: Contract
    settings: Settings
    now: datetime
    vocabularies: Mapping[str, Vocabulary]
    unmapped: Mapping[str, Vocabulary]
    uses: list[pl.DataFrame] = field(default_factory=list)


def ingest_table(
    connection: Connection,
    into: Contract,
    files: list[SourceFile],
    *,
    settings: Settings,
    now: datetime,
    progress: Progress,
    used_at: datetime | None = None,
) -> TableIngest:
    """Load every file of a table whose content is new; gives what became of each.

    So are rows that were kept out before for a value that is known by now.

    Args:
        connection: to the warehouse.
        into: the table.
        files: all of its files that the source has.
        settings: in force.
        now: the moment of ingestion, with its time zone.
        progress: told of each file.
        used_at: the moment for which accepted mappings count as used; None: `now`.
    """
    result = TableIngest()
    said = mappings(connection).filter(pl.col("table_name") == into.name)
    if not settings.loops_enabled:
        result.mappings_not_applied = said.height
        said = said.clear()
    known_features = settings.known_features
    work = _Work(
        connection,
        into,
        settings,
        now,
        vocabularies=vocabularies_of(into, known_features=known_features, mappings=said),
        unmapped=vocabularies_of(into, known_features=known_features),
    )
    loaded = loaded_digests(connection, into.name)
    for file in files:
        try:
            facts = digest(file.path)
            if facts.sha256 in loaded:
                result.known.append(str(file.path))
            else:
                outcome = _load(work, file, facts, result)
                result.loaded.append(outcome)
                loaded |= set() if outcome.is_refused else {facts.sha256}
        except BadFileError as error:
            result.problems.append(str(error))
        progress.advance(1)
    again = _load_again(work)
    if again is not None:
        result.loaded.append(again)
    _record_uses(work, used_at or now)
    return result


def _record_uses(work: _Work, used_at: datetime) -> None:
    if work.uses:
        used = pl.concat(work.uses).unique().group_by("org_id").len()
        record_uses(
            work.connection, "vocabulary", "ingestion", dict(used.iter_rows()), as_of=used_at
        )


def _load_again(work: _Work) -> LoadedFile | None:
    """Rows that came before their organisation, or before somebody said what a value means: the
    order of arrival must not matter."""
    connection, table = work.connection, work.into.name
    explained = now_explained(
        quarantined_values(connection, table),
        vocabularies=work.vocabularies,
        known_org_ids=known_org_ids(connection),
    )
    if explained.is_empty():
        return None
    rows = quarantined_rows(connection, table, explained)
    path = work.settings.spool_folder / f"{table}.jsonl"
    # The moment keeps apart two loads of the same rows, which a file's content could not.
    sha256 = hashlib.sha256("\n".join([work.now.isoformat(), *rows]).encode()).hexdigest()
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    try:
        file = SourceFile(table, path, "jsonl")
        return load_file(
            connection,
            work.into,
            FileIdentity("raw.rejects", sha256, path.stat().st_size),
            _checked(work, file, digest(path), TableIngest(), work.uses),
            limit=_NO_LIMIT,
            now=work.now,
            settles=explained,
        )
    finally:
        path.unlink()


def _load(work: _Work, file: SourceFile, facts: FileFacts, result: TableIngest) -> LoadedFile:
    uses: list[pl.DataFrame] = []
    loaded = load_file(
        work.connection,
        work.into,
        FileIdentity(str(file.path), facts.sha256, facts.bytes),
        _checked(work, file, facts, result, uses),
        limit=RejectLimit(work.settings.max_reject_share, work.settings.max_reject_rows),
        now=work.now,
    )
    if not loaded.is_refused:
        # A refused file is tried in every run, and nothing of it lands.
        work.uses.extend(uses)
    return loaded


def _checked(
    work: _Work,
    file: SourceFile,
    facts: FileFacts,
    result: TableIngest,
    uses: list[pl.DataFrame],
) -> Iterator[CheckedBatch]:
    into = work.into
    orgs = None if into.name == "organizations" else known_org_ids(work.connection)
    for batch in read_batches(
        file, contract=into, facts=facts, batch_rows=work.settings.batch_rows
    ):
        if batch.unknown_columns:
            before = result.unknown_columns.get(str(file.path), ())
            result.unknown_columns[str(file.path)] = before + batch.unknown_columns
        checked = check_rows(
            batch.frame, into, now=work.now, known_org_ids=orgs, vocabularies=work.vocabularies
        )
        used = mappings_used(
            batch.frame,
            checked.rows,
            into,
            vocabularies=work.vocabularies,
            unmapped=work.unmapped,
        )
        if not used.is_empty():
            uses.append(used)
        lines = rejects_of_lines((line.row_number, line.text) for line in batch.unparseable)
        yield CheckedBatch(
            rows=checked.rows,
            rejects=checked.rejects.vstack(lines),
            rows_read=batch.frame.height + lines.height,
            reads=None if checked.reads is None else checked.reads.drop("row_number"),
        )
