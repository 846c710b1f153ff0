"""Putting templates into other words, where the setting `outreach_rewriting` says so.

Looked up, asked, and written down. What is asked, and which words stand, is decided in
`outreach.rewriting`; everything about the API is in `scoring.anthropic`. Wherever something goes
wrong, the templates' own words stand.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from dagster import DagsterLogManager

from engagement_pipeline.outreach import rewriting
from engagement_pipeline.outreach.templates import Template, catalogue
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse import rewritings as stored
from engagement_pipeline.warehouse.connection import Connection

if TYPE_CHECKING:
    from engagement_pipeline.defs.asking_texts import TextAsking
    from engagement_pipeline.scoring.answers import Reply
    from engagement_pipeline.scoring.anthropic.texts import Prompt
    from engagement_pipeline.scoring.row_answers import RowAnswers

_OF_NO_ORG = "*"
"""Whom the ledger books calls about templates to: they are for all organisations alike."""


def why_nothing_is_rewritten(settings: Settings) -> str | None:
    """Why templates keep their own words; None where the model is asked."""
    if not settings.outreach_rewriting:
        return "outreach_rewriting is off"
    if not settings.has_api_key:
        return "outreach_rewriting is on, but there is no ANTHROPIC_API_KEY to ask with"
    return None


def rewritten_templates(
    connection: Connection,
    settings: Settings,
    *,
    run_id: str,
    as_of: datetime,
    log: DagsterLogManager,
) -> dict[str, str]:
    """The words that a model put templates into, and that stand.

    Words are asked for once, and anew when they are older than `label_max_age_days`. Those that do
    not stand are asked for once more, and again in the next run.

    Args:
        connection: the warehouse, in no transaction while the model is asked.
        settings: whether it is asked, of whom, and for how much.
        run_id: the run, for the ledger. All that it spends counts towards `max_cost_usd`.
        as_of: the moment of the run.
        log: of the run. Whatever goes wrong is told there, and raises nothing.

    Returns:
        Template id -> its new words, with the template's slots. Templates that are not in it keep
        their own.
    """
    if (reason := why_nothing_is_rewritten(settings)) is not None:
        log.debug(f"{reason}; templates keep their own words")
        return {}
    try:
        return _rewritten(connection, settings, run_id, as_of, log)
    # Whatever it is, members can be written to without: templates have words of their own.
    except Exception as error:
        log.warning(f"templates keep their own words: {type(error).__name__}: {error}")
        return {}


def _rewritten(
    connection: Connection,
    settings: Settings,
    run_id: str,
    as_of: datetime,
    log: DagsterLogManager,
) -> dict[str, str]:
    # The API's client takes seconds to import, and nearly nobody has templates rewritten.
    from engagement_pipeline.defs.asking_texts import TextAsking
    from engagement_pipeline.defs.model import way_of

    asking = TextAsking(connection, settings, run_id, as_of, log, way_of(settings))
    asking.settle_abandoned()
    model = asking.way.model
    templates = {
        rewriting.fingerprint(one, model=model.name, output_mode=model.output_mode): one
        for one in rewriting.rewritable(catalogue())
    }
    since = as_of - timedelta(days=settings.label_max_age_days)
    words = stored.known(connection, sorted(templates), since=since)
    lost = stored.paid_for(
        connection,
        sorted(templates.keys() - words),
        prompt_version=rewriting.PROMPT_VERSION,
        model=model.name,
        since=since,
    )
    _keep(connection, templates, lost, model.name)
    words |= {fingerprint: text for fingerprint, (text, _) in lost.items()}
    missing = {key: one for key, one in sorted(templates.items()) if key not in words}
    if missing:
        found = _asked(asking, missing)
        written = {fingerprint: (text, as_of) for fingerprint, text in found.items()}
        _keep(connection, templates, written, model.name)
        words |= found
    return {templates[fingerprint].template_id: text for fingerprint, text in words.items()}


def _asked(asking: "TextAsking", templates: Mapping[str, Template]) -> dict[str, str]:
    """The words for these templates that stand, by fingerprint; why others do not is logged."""
    from engagement_pipeline.scoring.anthropic.sending import StopRunError
    from engagement_pipeline.scoring.anthropic.texts import Text

    texts = [
        Text(fingerprint, _OF_NO_ORG, rewriting.told_of(one))
        for fingerprint, one in templates.items()
    ]
    log = asking.log
    try:
        outcome = asking.ask(
            texts,
            _prompt(templates),
            texts_per_call=rewriting.TEMPLATES_PER_CALL,
            what="templates",
        )
    except StopRunError as error:
        log.warning(f"{len(texts)} templates keep their own words: {error}")
        return {}
    for fingerprint, problem in sorted(outcome.bad.items()):
        name = templates[fingerprint].template_id
        log.warning(f"{name} keeps its own words: the model's do not stand: {problem}")
    for reason in outcome.failed.values():
        log.warning(f"templates keep their own words: {reason}")
    if outcome.over_budget:
        unasked = len(outcome.over_budget)
        log.warning(f"{unasked} templates keep their own words: max_cost_usd is spent")
    return outcome.answers


def _keep(
    connection: Connection,
    templates: Mapping[str, Template],
    words: Mapping[str, tuple[str, datetime]],
    model: str,
) -> None:
    stored.keep(
        connection,
        [
            {
                "fingerprint": fingerprint,
                "template_id": templates[fingerprint].template_id,
                "outreach_type": templates[fingerprint].outreach_type,
                "tone": templates[fingerprint].tone,
                "text": text,
                "model_version": model,
                "written_at": written_at,
            }
            for fingerprint, (text, written_at) in sorted(words.items())
        ],
    )


def _prompt(templates: Mapping[str, Template]) -> "Prompt[str]":
    from engagement_pipeline.scoring.anthropic.texts import Prompt

    by_line = {rewriting.told_of(one): one for one in templates.values()}

    def check(reply: "Reply", told: Sequence[str]) -> "RowAnswers[str]":
        return rewriting.check_rewritings(reply, [by_line[line] for line in told])

    return Prompt(
        rewriting.PROMPT_VERSION,
        rewriting.SYSTEM,
        rewriting.TOOL_NAME,
        rewriting.SCHEMA,
        rewriting.user_turn,
        check,
        answers_are="rewritings",
        # A number and two short sentences. Replaced by what answers turn out to take.
        output_tokens_a_text=40,
        max_tokens_a_text=150,
    )
