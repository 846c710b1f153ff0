"""The knobs of the loops: whether anything is learned, from how much, and what follows from it."""

from typing import Self

from pydantic import BaseModel, Field, field_validator, model_validator


class LearningKnobs(BaseModel):
    """Part of `Settings`."""

    loops_enabled: bool = Field(
        True,
        validation_alias="LOOPS_ENABLED",
        description="Whether the pipeline learns from what happened; any value but `true` is off: "
        "nothing is recorded, learned or used then.",
    )
    engagement_lookback_days: int = Field(
        30, ge=1, le=365, description="Days of notifications that engagement is learned from."
    )
    digest_immediate_min: float = Field(
        0.3,
        gt=0,
        le=1,
        description="Share of a feature's notifications read from which they go out at once.",
    )
    digest_daily_min: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Share read from which they go out daily; below it, weekly.",
    )
    review_acceptance_below: float = Field(
        0.5,
        ge=0,
        le=1,
        description="A level goes to the review queue when admins surely leave fewer of its "
        "labels standing than this share.",
    )
    apply_tuned_thresholds: bool = Field(
        False,
        description="Whether thresholds tuned from overrides take the place of the "
        "organisations' own; if not, they are only shown.",
    )
    exploration_floor: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Share of outreach whose template is drawn from all alike, to go on learning.",
    )

    @field_validator("loops_enabled", mode="before")
    @classmethod
    def _only_true_is_on(cls, value: object) -> bool:
        # A switch that a slip of the pen leaves on is worse than one that it turns off.
        return value is True or (isinstance(value, str) and value == "true")

    @model_validator(mode="after")
    def _digest_bounds_agree(self) -> Self:
        if self.digest_daily_min >= self.digest_immediate_min:
            raise ValueError(
                f"digest_daily_min ({self.digest_daily_min}) must be below digest_immediate_min "
                f"({self.digest_immediate_min})"
            )
        return self
