"""The knobs of asking a model: whom, how, how fast, and for how much."""

from typing import Any, Literal

from pydantic import BaseModel, Field, SecretStr, field_validator


class AskingKnobs(BaseModel):
    """Part of `Settings`."""

    classifier: Literal["auto", "rules", "anthropic", "anthropic-batch"] = Field(
        "auto",
        description="Who gives the levels; `auto` is `anthropic` if there is a key, else `rules`.",
    )
    anthropic_api_key: SecretStr | None = Field(
        None,
        validation_alias="ANTHROPIC_API_KEY",
        description="Key of the Anthropic API. Taken from the environment only.",
    )
    anthropic_base_url: str = Field(
        "https://api.anthropic.com",
        validation_alias="ANTHROPIC_BASE_URL",
        description="Address of the Anthropic API. Taken from the environment only.",
    )
    model: str = Field("claude-haiku-4-5-20251001", description="The model that is asked.")
    output_mode: Literal["auto", "tool", "json"] = Field(
        "auto",
        description="How the model is held to the answer's shape: a forced tool, or JSON; `auto` "
        "is what suits the model.",
    )
    models: dict[str, dict[str, Any]] = Field(
        {}, description="Further models, by id: what they take and cost. See the documentation."
    )
    profiles_per_call: int = Field(
        10,
        ge=1,
        le=100,
        description="Profiles in a call; it takes up to half as many again rather than leave a "
        "few over for a call of their own.",
    )
    members_per_profile: int = Field(
        5,
        ge=1,
        le=1_000,
        description="Members of an organisation who have to share a profile: whoever is unusual is "
        "described to the model less closely until so many are alike; 1: never.",
    )
    label_max_age_days: int = Field(
        30, ge=0, le=3_650, description="Days for which an answer of the model is used again."
    )
    max_cost_usd: float = Field(
        10.0,
        ge=0,
        le=1_000_000,
        allow_inf_nan=False,
        description="Dollars that one run may spend on the model; over this it is refused.",
    )
    requests_per_minute: float = Field(
        1_000,
        gt=0,
        allow_inf_nan=False,
        description="Calls a minute that a run begins with; the API's own limit replaces it.",
    )
    input_tokens_per_minute: float = Field(
        450_000,
        gt=0,
        allow_inf_nan=False,
        description="Input tokens a minute that a run begins with; likewise.",
    )
    output_tokens_per_minute: float = Field(
        90_000,
        gt=0,
        allow_inf_nan=False,
        description="Output tokens a minute that a run begins with; likewise.",
    )
    rate_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the API's limits that the pipeline may use; the rest is for others.",
    )
    calls_in_flight: int = Field(16, ge=1, le=256, description="Calls at a time at most.")
    max_attempts: int = Field(
        8, ge=1, le=100, description="Times one request is sent before it is given up."
    )
    call_timeout_seconds: float = Field(
        120, gt=0, le=600, description="Seconds that one call may take, its whole answer included."
    )
    batch_poll_seconds: float = Field(
        60,
        gt=0,
        le=3_600,
        description="Seconds between looks at a batch that is out, from a terminal.",
    )

    @field_validator("anthropic_base_url", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        return value or "https://api.anthropic.com"

    @property
    def chosen_classifier(self) -> str:
        """The classifier, with `auto` decided."""
        if self.classifier != "auto":
            return self.classifier
        return "anthropic" if self.has_api_key else "rules"

    @property
    def has_api_key(self) -> bool:
        return bool(self.anthropic_api_key and self.anthropic_api_key.get_secret_value().strip())
