"""What came of a message: whether the member responded, and how much that is worth.

What is learned from it belongs to `loops.routing`; whether outreach helps at all, to `uplift`.
"""

from datetime import datetime, timedelta

import polars as pl

from engagement_pipeline.contracts import contract

OUTCOMES = contract("outreach.outcomes")

RESPONDS_WITHIN = timedelta(hours=24)
"""How long after a message an interaction still counts as a response to it."""

MESSAGE_COLUMNS = ("message_id", "org_id", "user_id", "outreach_type", "template_id", "sent_at")
INTERACTION_COLUMNS = (
    "interaction_id",
    "org_id",
    "user_id",
    "sent_at",
    "sentiment",
    "is_meaningful",
)

_RESPONDED = 0.5
_QUICKNESS = ((60.0, 0.3), (240.0, 0.2), (1_440.0, 0.1))
"""Minutes up to which a response is worth so much more, quickest first."""
_SENTIMENT = 0.1
_MEANINGFUL = 0.1

_MEMBER = ["org_id", "user_id"]
_MINUTE_MICROSECONDS = 60_000_000
_MINUTES_PER_MICROSECOND = 1 / _MINUTE_MICROSECONDS


class ResponseInputError(ValueError):
    """A response that cannot be one; the text says what was expected and what was found."""


def effectiveness(
    response_minutes: float | None, sentiment: float | None, is_meaningful: bool
) -> float:
    """What a message came to, from 0 for silence to 1 for a quick, friendly, meaningful response.

    A response is worth 0.5; within an hour 0.3 more, within four 0.2, within 24 hours 0.1; and 0.1
    times its sentiment, and 0.1 if it is meaningful. (The pipeline's own scale.)

    Args:
        response_minutes: minutes from sending to the response, in [0, 1,440]; None: silence, of
            which the rest is not looked at.
        sentiment: how it sounds, in [-1, 1]; None where it has no text.
        is_meaningful: whether it says something.

    Returns:
        A share, in [0, 1].

    Raises:
        ResponseInputError: the minutes or the sentiment are out of their bounds.
    """
    if response_minutes is None:
        return 0.0
    longest = _QUICKNESS[-1][0]
    if not 0 <= response_minutes <= longest:
        raise ResponseInputError(
            f"response_minutes: expected minutes from 0 to {longest:g}, found {response_minutes!r}"
        )
    if sentiment is not None and not -1 <= sentiment <= 1:
        raise ResponseInputError(f"sentiment: expected -1 to 1, found {sentiment!r}")
    quickness = next(worth for minutes, worth in _QUICKNESS if response_minutes <= minutes)
    worth = _RESPONDED + quickness + _SENTIMENT * (sentiment or 0.0)
    return min(max(worth + _MEANINGFUL * is_meaningful, 0.0), 1.0)


def outcomes(
    messages: pl.DataFrame, interactions: pl.DataFrame, *, known_until: datetime
) -> pl.DataFrame:
    """What came of each message that was sent, as far as it is known.

    A response is the member's first interaction in the organisation in `(sent_at, sent_at + 24 h]`
    that no later message lies before: an interaction answers the latest message sent before it, and
    that alone. Of two messages sent to a member at the same instant the one with the greater id
    counts as the later. Nothing is told before the 24 hours have passed, be it of silence or of a
    response: else those who answer at once would count before those who are silent.

    Args:
        messages: `MESSAGE_COLUMNS`, each message once; all that were sent to the members, also
            those whose outcome is not asked for, or their responses would go to others.
        interactions: `INTERACTION_COLUMNS`; the last two are null where it is not known yet how it
            sounds and whether it says something. Those of others and of other times are passed
            over.
        known_until: up to when interactions have been taken in, with a time zone; messages and
            interactions after it are passed over.

    Returns:
        Rows of `outreach.outcomes`, sorted by its key. None of a message whose 24 hours have not
        passed yet; see `first_responses` for what is known of those.

    Raises:
        ContractViolationError: a message comes twice, or its response breaks the contract.
    """
    instant = OUTCOMES.polars_schema["sent_at"]
    known = pl.lit(known_until, dtype=instant)
    sent = messages.select(MESSAGE_COLUMNS).filter(pl.col("sent_at") <= known)
    found = sent.join(
        first_responses(sent, interactions, known_until=known_until), on="message_id", how="left"
    )
    is_response = pl.col("interaction_id").is_not_null()
    is_over = pl.col("sent_at") + RESPONDS_WITHIN <= known
    waited = (pl.col("responded_at") - pl.col("sent_at")).dt.total_microseconds()
    # Polars divides a column by a constant in another way where it has one row, and the same
    # response would take other minutes beside others. So nothing is divided by a constant.
    minutes = waited // _MINUTE_MICROSECONDS + (
        waited % _MINUTE_MICROSECONDS * _MINUTES_PER_MICROSECOND
    )
    rows = (
        found.filter(is_over)
        .with_columns(
            is_response=is_response,
            response_minutes=minutes,
            is_meaningful=pl.col("is_meaningful").fill_null(False),
        )
        .with_columns(effectiveness=_effectiveness())
    )
    schema = OUTCOMES.polars_schema
    return OUTCOMES.validate(
        rows.select(pl.col(name).cast(dtype) for name, dtype in schema.items()).sort(OUTCOMES.key)
    )


def first_responses(
    messages: pl.DataFrame, interactions: pl.DataFrame, *, known_until: datetime
) -> pl.DataFrame:
    """The first response to each message that has one, as soon as it is known.

    What counts as one, and all arguments, are as for `outcomes`.

    Returns:
        `message_id`, `interaction_id`, `responded_at`, `response_sentiment` and `is_meaningful`,
        sorted by when that was.
    """
    instant = OUTCOMES.polars_schema["sent_at"]
    sent = messages.filter(pl.col("sent_at") <= pl.lit(known_until, dtype=instant))
    latest = (
        sent.sort("message_id")
        .unique([*_MEMBER, "sent_at"], keep="last", maintain_order=True)
        .select(*_MEMBER, "message_id", message_sent_at="sent_at")
        .sort("message_sent_at")
    )
    said = (
        interactions.select(INTERACTION_COLUMNS)
        .rename({"sent_at": "responded_at", "sentiment": "response_sentiment"})
        .filter(pl.col("responded_at") <= pl.lit(known_until, dtype=instant))
        .join(latest.select(_MEMBER).unique(), on=_MEMBER, how="semi")
        .sort("responded_at", "interaction_id")
    )
    answering = said.join_asof(
        latest,
        left_on="responded_at",
        right_on="message_sent_at",
        by=_MEMBER,
        strategy="backward",
        allow_exact_matches=False,
        check_sortedness=False,
    ).filter(pl.col("responded_at") - pl.col("message_sent_at") <= RESPONDS_WITHIN)
    return (
        answering.sort("responded_at", "interaction_id")
        .unique("message_id", keep="first", maintain_order=True)
        .drop("message_sent_at", *_MEMBER)
    )


def _effectiveness() -> pl.Expr:
    """`effectiveness`, of columns."""
    minutes = pl.col("response_minutes")
    quickness: pl.Expr = pl.lit(0.0)
    for longest, more in reversed(_QUICKNESS):
        quickness = pl.when(minutes <= longest).then(pl.lit(more)).otherwise(quickness)
    sentiment = pl.col("response_sentiment").fill_null(0.0)
    meaningful = pl.col("is_meaningful").cast(pl.Float64)
    worth: pl.Expr = quickness + pl.lit(_RESPONDED)
    worth = worth + _SENTIMENT * sentiment + _MEANINGFUL * meaningful
    return pl.when("is_response").then(worth.clip(0.0, 1.0)).otherwise(pl.lit(0.0))
