"""What a run would do, worked out without doing any of it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from engagement_pipeline.defs.asking import estimate_open, open_questions, profiles_out
from engagement_pipeline.defs.guidance import guides_at
from engagement_pipeline.defs.model import BATCH, MissingKeyError, way_of
from engagement_pipeline.defs.resources import classifier_of, parse_moment
from engagement_pipeline.ingest import SourceError, digest, discover
from engagement_pipeline.scoring import due
from engagement_pipeline.scoring.anthropic.budget import CostRefusedError, refuse_if_over
from engagement_pipeline.scoring.anthropic.estimate import Estimate
from engagement_pipeline.scoring.model_labels import ModelClassifier
from engagement_pipeline.settings import Settings
from engagement_pipeline.terminal.reading import Row
from engagement_pipeline.warehouse import classifications as stored
from engagement_pipeline.warehouse import signals as stored_signals
from engagement_pipeline.warehouse.connection import Connection, Warehouse
from engagement_pipeline.warehouse.loading import loaded_digests
from engagement_pipeline.warehouse.schema import upgrade


@dataclass(frozen=True)
class Plan:
    """The work of a run and its price. With the rules there are no calls, and nothing to pay.

    `cached` are those of the `profiles` that have an answer already, `waiting` those that are out
    in a batch; calls, tokens and dollars are for the others. `refusal` says why the run would not
    start, where it would not, and `note` what the plan does not know.
    """

    new_files: int
    due_orgs: int
    members: int
    classifier: str = "rules"
    profiles: int = 0
    cached: int = 0
    waiting: int = 0
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    one_call_a_member_usd: float = 0.0
    refusal: str | None = None
    note: str | None = None

    def as_row(self) -> Row:
        return asdict(self)


def check_source(settings: Settings) -> None:
    """Say what to do where there is no source, before anything is started.

    Raises:
        SourceError: names the folder that was looked for.
    """
    if not settings.source_folder.exists():
        raise SourceError(
            f"{settings.source_folder}: expected a folder of input tables, found nothing there. "
            "Put your files there or name their folder with --source; `engagement demo` makes a "
            f"sample in {settings.sample_folder}."
        )


def plan(settings: Settings, *, as_of: str | None, org_ids: Sequence[str]) -> Plan:
    """The plan of `run` with these options.

    `members` and profiles are those of the last signals: who is a member then, and what they have
    done, shows only once the new files are in.

    Raises:
        UnknownOrgError: the warehouse has no such organisation, and there is no new file that may
            bring it.
    """
    check_source(settings)
    contents = [
        (table, digest(file.path).sha256)
        for table, files in discover(settings.source_folder).files.items()
        for file in files
    ]
    if not settings.warehouse_path.exists():
        return Plan(
            len(contents),
            len(org_ids),
            0,
            settings.chosen_classifier,
            note="Nothing has been taken in yet: who is a member, what would be asked and what it "
            "would cost shows once the files are in. The run itself is refused if it would cost "
            f"more than max_cost_usd = ${settings.max_cost_usd:.2f}.",
        )
    with Warehouse.of(settings).open() as connection:
        upgrade(connection, now=datetime.now(UTC))
        new = [sha for table, sha in contents if sha not in loaded_digests(connection, table)]
        orgs = stored.stored_orgs(connection)
        known = [org.org_id for org in orgs]
        unknown = sorted(set(org_ids) - set(known))
        if unknown and not new:
            raise due.UnknownOrgError(unknown, known)
        if org_ids:
            orgs = [org for org in orgs if org.org_id in org_ids]
        snapshot = stored_signals.snapshot(connection)
        # Without a fixed moment the signals move on, and all organisations are due.
        is_known = snapshot is not None and as_of and parse_moment(as_of) == snapshot.as_of
        if is_known and not new:
            orgs = _due(connection, settings, orgs)
        moment = parse_moment(as_of) if as_of else datetime.now(UTC)
        asking = _asking(connection, settings, orgs, moment)
    return Plan(
        len(new),
        len(orgs),
        sum(org.members for org in orgs),
        settings.chosen_classifier,
        note=None if is_known and not new else _foreseen_from(snapshot),
        **asking,
    )


def _foreseen_from(snapshot: stored_signals.SnapshotState | None) -> str:
    when = f"{snapshot.as_of:%Y-%m-%d %H:%M} UTC" if snapshot else "no moment yet"
    return (
        f"Worked out from the signals as of {when}. New files and the time since then change who "
        "is a member and what they did; the run works it out anew before anything is sent."
    )


def _asking(
    connection: Connection, settings: Settings, orgs: Sequence[stored.StoredOrg], as_of: datetime
) -> dict[str, Any]:
    classifier = classifier_of(settings)
    if not isinstance(classifier, ModelClassifier):
        return {}
    guides = guides_at(connection, settings, as_of=as_of)
    questions = open_questions(connection, settings, orgs, guides, classifier, as_of=as_of)
    out = profiles_out(connection) if settings.chosen_classifier == BATCH else {}
    pending = [one.pending.without(out) for one in questions]
    foreseen = estimate_open(connection, settings, pending, guides)
    waiting = sum(len(one.pending.questions) for one in questions) - foreseen.profiles
    profiles = sum(len(one.asked.questions) for one in questions)
    return {
        "profiles": profiles,
        "cached": profiles - foreseen.profiles - waiting,
        "waiting": waiting,
        "calls": foreseen.calls,
        "input_tokens": foreseen.input_tokens,
        "output_tokens": foreseen.output_tokens,
        "cost_usd": foreseen.cost_usd,
        "one_call_a_member_usd": foreseen.one_call_a_member_usd,
        "refusal": _refusal(settings, foreseen),
    }


def _refusal(settings: Settings, foreseen: Estimate) -> str | None:
    try:
        if foreseen.calls:
            way_of(settings)
        refuse_if_over(
            foreseen.cost_usd,
            settings.max_cost_usd,
            profiles=foreseen.profiles,
            calls=foreseen.calls,
        )
    except (CostRefusedError, MissingKeyError) as error:
        return str(error)
    return None


def due_org_ids(settings: Settings) -> list[str]:
    """The organisations that are due for the signals there are now, in order of their ids."""
    with Warehouse.of(settings).open() as connection:
        upgrade(connection, now=datetime.now(UTC))
        orgs = stored.stored_orgs(connection)
        return [org.org_id for org in _due(connection, settings, orgs)]


def _due(
    connection: Connection, settings: Settings, orgs: list[stored.StoredOrg]
) -> list[stored.StoredOrg]:
    snapshot = stored_signals.snapshot(connection)
    if snapshot is None:
        return orgs
    classifier = classifier_of(settings)
    guides = guides_at(connection, settings, as_of=snapshot.as_of)
    digests = {
        org.org_id: guides.digest_of(
            org, signals_digest=snapshot.inputs_digest, classifier=classifier
        )
        for org in orgs
    }
    return due.due_orgs(orgs, digests, stored.org_runs(connection, as_of=snapshot.as_of))
