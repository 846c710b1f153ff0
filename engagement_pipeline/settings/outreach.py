"""The knobs of outreach and milestones: who is written to, how often, how, and what is kept."""

from typing import Literal, Self

from pydantic import BaseModel, Field, SecretStr, model_validator

_CLOCK = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"


class OutreachKnobs(BaseModel):
    """Part of `Settings`."""

    inactivity_threshold_seconds: int = Field(
        86_400,
        ge=1,
        le=31_536_000,
        description="Seconds without activity after which a member may be written to.",
    )
    new_user_delay_seconds: int = Field(
        3_600,
        ge=1,
        le=86_400,
        description="The same for whoever has been here for less than a day.",
    )
    message_frequency_hours: int = Field(
        24,
        ge=0,
        le=8_760,
        description="Hours after a message to a member of an organisation without another.",
    )
    min_gap_hours: int = Field(
        12,
        ge=0,
        le=8_760,
        description="Hours between two messages to a member of an organisation at least.",
    )
    daily_cap: int = Field(
        1,
        ge=0,
        le=100,
        description="Messages to a member of an organisation in any 24 hours at most; 0: none.",
    )
    holdout_share: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="Share of members who are never written to, so that the effect can be told.",
    )
    holdout_salt: str = Field(
        "engagement",
        min_length=1,
        max_length=256,
        description="What the holdout is drawn by; another one draws other members.",
    )
    quiet_start: str = Field(
        "22:00",
        pattern=_CLOCK,
        description="Start of the quiet hours, HH:MM by the member's clock, of members who set "
        "none themselves. The same as the end: none.",
    )
    quiet_end: str = Field(
        "08:00", pattern=_CLOCK, description="End of those quiet hours, likewise."
    )
    max_signal_age_hours: int = Field(
        48,
        ge=1,
        le=87_600,
        description="Hours since the last refresh after which nobody is written to: absence may "
        "then only be ours.",
    )
    outreach_channel: Literal["log", "webhook"] = Field(
        "log",
        description="How messages leave: `log`, where the row itself is the message, or `webhook`.",
    )
    webhook_url: str | None = Field(None, description="Where `webhook` posts messages to.")
    webhook_secret: SecretStr | None = Field(
        None,
        description="What messages to the webhook are signed with (HMAC-SHA256). Belongs into the "
        "environment, not into a file.",
    )
    webhook_timeout_seconds: float = Field(
        10, gt=0, le=120, description="Seconds that the webhook may take to answer."
    )
    outreach_rewriting: bool = Field(
        False,
        description="Whether the model may put templates of mood support and of celebrations into "
        "other words. It is told of no member.",
    )
    uplift_horizon_days: int = Field(
        7, ge=1, le=90, description="Days within which a member's return counts for outreach."
    )
    gamification_enabled: int = Field(
        1,
        ge=0,
        le=1,
        description="Whether milestones are counted and celebrated, 1 or 0. Members never see "
        "points. Per org.",
    )
    retention_days: int = Field(
        365, ge=30, le=36_500, description="Days that interactions are kept for, texts included."
    )
    decision_retention_days: int = Field(
        7,
        ge=1,
        le=36_500,
        description="Days that decisions of outreach are kept for: each cycle removes older ones, "
        "and so does the cleanup.",
    )
    run_retention_days: int = Field(
        90, ge=7, le=36_500, description="Days that Dagster's records of runs are kept for."
    )

    @model_validator(mode="after")
    def _webhook_has_an_address(self) -> Self:
        if self.outreach_channel == "webhook" and not self.webhook_url:
            raise ValueError(
                "webhook_url: expected an address for the channel `webhook`, found none"
            )
        return self
