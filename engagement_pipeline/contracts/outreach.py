"""Whom the pipeline writes to, what, when, and what came of it: the schema `outreach`.

Words that these tables take their values from are in `vocabulary`; what analysts read of them is
in `outreach_marts`.
"""

import pandera.polars as pa

from engagement_pipeline.contracts import vocabulary
from engagement_pipeline.contracts.columns import (
    Instant,
    amount,
    count,
    flag,
    identifier,
    instant,
    share,
    signed_share,
    text,
    word,
)
from engagement_pipeline.contracts.contract import table


@table("outreach.decisions", key=["cycle_id", "org_id", "user_id"], time_column="decided_at")
class Decisions(pa.DataFrameModel):
    """Every evaluation of a member by a cycle, eligible or not."""

    cycle_id: str = identifier("The cycle.")
    org_id: str = identifier("The organisation.")
    user_id: str = identifier("The member.")
    decided_at: Instant = instant("The moment that it was decided for.")
    eligible: bool = flag("Whether the member may be written to.")
    segment: str = word(
        "Whom a message is for; null of who is not eligible.", vocabulary.SEGMENTS, nullable=True
    )
    tone: str = word("How it is to sound; null likewise.", vocabulary.TONES, nullable=True)
    reason: str = word("Why not; null of who is eligible.", vocabulary.SKIP_REASONS, nullable=True)
    is_target: bool = flag(
        "Whether the member is eligible, or would be but for the holdout: what an uplift compares."
    )

    class Config:
        strict = True


class CycleCounts(pa.DataFrameModel):
    """What a cycle decided in one organisation, counted from its decisions."""

    cycle_id: str = identifier("The cycle.")
    org_id: str = identifier("The organisation.")
    as_of: Instant = instant("The moment that it was decided for.")
    total: int = count("Members evaluated: eligible and skipped ones.")
    eligible: int = count("Members who may be written to: the sum of the segments.")
    skipped: int = count("Members who may not: the sum of the reasons.")
    dormant: int = count("Eligible members who were absent for three days or more.")
    new_user: int = count("Eligible members who have been here for less than a day.")
    normal: int = count("Eligible members who are neither.")
    opted_out: int = count("Skipped: they want no messages.")
    held_out: int = count("Skipped: they are in the holdout.")
    erased: int = count("Skipped: they asked to be forgotten.")
    active: int = count("Skipped: they were active of late.")
    recently_messaged: int = count("Skipped: a message went out within `message_frequency_hours`.")
    too_soon_after_last: int = count("Skipped: less than `min_gap_hours` since the last message.")
    daily_cap: int = count("Skipped: they had `daily_cap` messages in 24 hours.")
    messages: int = count("Messages planned for those who are eligible.")
    withheld: int = count("Messages that members of the holdout would have been sent.")


@table("outreach.cycles", key=["cycle_id", "org_id"], time_column="as_of")
class Cycles(CycleCounts):
    """What each cycle decided in each organisation. Outlives the decisions themselves."""

    computed_at: Instant = instant("When that was.")

    class Config:
        strict = True


class Planned(pa.DataFrameModel):
    """What was planned to be said to a member, for what occasion, and when."""

    message_id: str = identifier(
        "Sha256, in hex, of organisation, member, type, occasion and try: the same is never said "
        "twice."
    )
    org_id: str = identifier("The organisation.")
    user_id: str = identifier("The member.")
    engine: str = word("Who planned it.", vocabulary.OUTREACH_ENGINES)
    cycle_id: str = identifier("The cycle in which that was.")
    outreach_type: str = word("What it is for.", vocabulary.OUTREACH_TYPES)
    trigger: str = word("What makes it worth sending.", vocabulary.TRIGGERS)
    occasion: str = identifier(
        "The occasion, such as the absence that it is about: each has one message."
    )
    tries: int = count("How many messages for the same occasion were cancelled before it.")
    priority: float = share("How much it matters among a member's messages.")
    planned_at: Instant = instant("The moment that it was planned for.")
    send_at: Instant = instant("When it is to be sent.", may_be_future=True)


@table("outreach.withheld", key=["message_id"], time_column="planned_at")
class Withheld(Planned):
    """What members of the holdout would have been sent. None of it is ever sent."""

    class Config:
        strict = True


class MessageLog(Planned):
    """A message with all that became of it."""

    segment: str = word("Whom it is for.", vocabulary.SEGMENTS, nullable=True)
    tone: str = word("How it sounds.", vocabulary.TONES)
    template_id: str = identifier("The template.")
    is_rewritten: bool = flag("Whether a model put the template into other words.")
    propensity: float = share("How probable the choice of the template was.")
    channel: str = word("How it leaves.", vocabulary.CHANNELS)
    status: str = word("How far it has come.", vocabulary.MESSAGE_STATUSES)
    reason: str = word(
        "Why it was cancelled; null of others.", vocabulary.CANCEL_REASONS, nullable=True
    )
    attempts: int = count("Attempts to send it.")
    last_error: str = text("What went wrong at the last attempt, if anything.", nullable=True)
    text: str = text("What the member reads.")
    reserved_at: Instant = instant("When it was last taken in hand to be sent.", nullable=True)
    sent_at: Instant = instant("When it was taken by the channel.", nullable=True)
    delivered_at: Instant = instant("When it was delivered, where that is known.", nullable=True)
    read_at: Instant = instant("When it was first read, where that is known.", nullable=True)
    responded_at: Instant = instant(
        "The member's first interaction within 24 hours of sending.", nullable=True
    )


@table("outreach.messages", key=["message_id"], time_column="planned_at")
class Messages(MessageLog):
    """Every message that was planned, and how far it has come: the one ledger of all caps."""

    class Config:
        strict = True


@table("outreach.deliveries", key=["message_id", "attempt"], time_column="attempted_at")
class Deliveries(pa.DataFrameModel):
    """Every attempt to send a message, and what came of it."""

    message_id: str = identifier("The message, which is also its idempotency key.")
    attempt: int = count("Which attempt, from 1.")
    channel: str = word("How it was to leave.", vocabulary.CHANNELS)
    attempted_at: Instant = instant("When.")
    outcome: str = word("What came of it.", vocabulary.ATTEMPT_OUTCOMES)
    http_status: int = count("The answer's status, where there was one.", nullable=True)
    error: str = text("What went wrong, if anything.", nullable=True)

    class Config:
        strict = True


@table("outreach.channels", key=["channel"])
class Channels(pa.DataFrameModel):
    """How each channel fares: its circuit breaker."""

    channel: str = word("The channel.", vocabulary.CHANNELS)
    failures_in_a_row: int = count("Failures since it last worked.")
    opened_at: Instant = instant(
        "Since when nothing is sent by it; null: it is closed, and all is well.", nullable=True
    )
    updated_at: Instant = instant("When that last changed.")

    class Config:
        strict = True


@table("outreach.channel_opt_outs", key=["org_id", "user_id", "channel"])
class ChannelOptOuts(pa.DataFrameModel):
    """Members who can no longer be reached by a channel: it answered that they are gone (410)."""

    org_id: str = identifier("The organisation.")
    user_id: str = identifier("The member.")
    channel: str = word("The channel.", vocabulary.CHANNELS)
    opted_out_at: Instant = instant("When.")
    message_id: str = identifier("The message that was answered so.")

    class Config:
        strict = True


@table("outreach.outcomes", key=["message_id"], time_column="sent_at")
class Outcomes(pa.DataFrameModel):
    """What came of each message that was sent, once 24 hours had passed, answered or not."""

    message_id: str = identifier("The message.")
    org_id: str = identifier("The organisation.")
    user_id: str = identifier("The member.")
    outreach_type: str = word("What it was for.", vocabulary.OUTREACH_TYPES)
    template_id: str = identifier("The template.")
    sent_at: Instant = instant("When it was sent.")
    is_response: bool = flag("Whether the member responded within 24 hours.")
    interaction_id: str = identifier("The first response.", nullable=True)
    responded_at: Instant = instant("When that was.", nullable=True)
    response_minutes: float = amount("Minutes from sending to it.", nullable=True)
    response_sentiment: float = signed_share("How it sounds, if it has a text.", nullable=True)
    is_meaningful: bool = flag("Whether it says something; false of silence.")
    effectiveness: float = share(
        "0 for silence; else 0.5, and more for a quick, friendly, meaningful response."
    )

    class Config:
        strict = True


class UpliftEstimate(pa.DataFrameModel):
    """How many more members came back because of outreach: treated against held out.

    By intention to treat: who was planned a message counts as treated, sent or not. Each member
    counts once, at the first occasion in the window. Later ones are no longer random: who came back
    because of the first is not written to again so soon, and who was held out is.
    """

    org_id: str = identifier("The organisation; `*`: all of them together.")
    as_of: Instant = instant("The moment that it was estimated for.")
    window_start: Instant = instant("Start of the window of occasions, excluded.")
    window_end: Instant = instant(
        "Its end, included: the last moment whose horizon had passed by what was known."
    )
    horizon_days: int = count("Days within which a return counts.")
    treated_members: int = count(
        "Members planned a message, each once, at the first occasion in the window."
    )
    held_out_members: int = count("Members held out, counted alike.")
    treated_rate: float = share("Share of the treated members that came back.", nullable=True)
    held_out_rate: float = share("Share of the held-out members that came back.", nullable=True)
    uplift: float = signed_share("The difference of the two.", nullable=True)
    uplift_lower: float = signed_share("Lower end of its 95 % interval.", nullable=True)
    uplift_upper: float = signed_share("Upper end of its 95 % interval.", nullable=True)
    holdout_share: float = share("The share of members who are meant to be held out.")
    sample_ratio_p: float = share(
        "Chi-squared test of members held out against that share: how probable a split as uneven "
        "would be by chance.",
        nullable=True,
    )
    is_sample_ratio_ok: bool = flag(
        "Whether that is at least 0.001; if not, something sorts members, and the uplift is void."
    )


@table("outreach.uplift", key=["org_id"])
class Uplift(UpliftEstimate):
    """The uplift of each organisation and of all, as last estimated."""

    class Config:
        strict = True


@table("outreach.rewritings", key=["fingerprint"], time_column="written_at")
class Rewritings(pa.DataFrameModel):
    """Templates that a model has put into other words. It is told of no member."""

    fingerprint: str = identifier("Sha256, in hex, of all that was asked.")
    template_id: str = identifier("The template.")
    outreach_type: str = word("What it is for.", vocabulary.OUTREACH_TYPES)
    tone: str = word("How it sounds.", vocabulary.TONES)
    text: str = text("The new words, with the template's slots.")
    model_version: str = identifier("The model.")
    written_at: Instant = instant("The moment that it was asked for.")

    class Config:
        strict = True
