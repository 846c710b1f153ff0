"""Every knob: its unit, default and bounds, and where its value came from.

Values come from code, then `engagement.toml` in the home folder, then the environment
(`ENGAGEMENT_…`). Only knobs belong here; what they do is in the room that takes them as arguments.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import SettingsError as UnreadableValueError

from engagement_pipeline.contracts.vocabulary import ORG_SETTING_BOUNDS

PROJECT_FOLDER = Path(__file__).resolve().parent.parent
ENV_PREFIX = "ENGAGEMENT_"
SETTINGS_FILE = "engagement.toml"


class SettingsError(ValueError):
    """A setting has a value it may not have; the text names it, what was expected and found."""


def _org_setting(name: str, default: int, description: str) -> Any:
    """The field of a setting that an organisation may set for itself, within the same bounds."""
    lowest, highest = ORG_SETTING_BOUNDS[name]
    return Field(default, ge=lowest, le=highest, description=f"{description} Per org.")


class Settings(BaseSettings):
    """All settings of the pipeline. `load_settings` is the way to get one."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        extra="forbid",
        frozen=True,
        validate_default=True,
        populate_by_name=True,
    )

    profile: Literal["test", "production"] = Field(
        "production", description="`production` refuses values that only make sense in tests."
    )
    home: Path = Field(
        PROJECT_FOLDER, description="Folder that holds `data/`, `.dagster/` and `engagement.toml`."
    )
    source: Path | None = Field(
        None, description="Folder of input tables; default `data/raw` in the home folder."
    )
    sql_folder: Path = Field(
        PROJECT_FOLDER / "dbt_like_sql", description="Folder of the SQL models."
    )
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
    seed: int = Field(
        20260101, ge=0, description="Seed of all chance: jitter, and the order of repetitions."
    )
    highly_engaged_min: int = _org_setting(
        "highly_engaged_min", 3, "Events attended in 90 days that make a member highly engaged."
    )
    moderate_min: int = _org_setting(
        "moderate_min", 1, "Events attended in 90 days that make a member moderately engaged."
    )
    new_member_days: int = _org_setting(
        "new_member_days", 60, "Days since joining during which a member is new."
    )
    inactive_days: int = _org_setting(
        "inactive_days", 180, "Days without activity that make a member inactive."
    )
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
    known_features: tuple[str, ...] = Field(
        (),
        description="The features that notifications may name; others are quarantined. "
        "Empty: any feature is taken.",
    )
    significant_sections: tuple[str, ...] = Field(
        ("work_history", "skills"),
        description="Profile sections whose update counts as activity.",
    )
    churn_horizon_days: int = Field(
        30, ge=1, le=365, description="Days without any activity that count as churn."
    )
    min_training_samples: int = Field(
        500, ge=10, le=100_000_000, description="Samples that a model needs to be trained."
    )
    max_training_samples: int = Field(
        200_000,
        ge=1_000,
        le=100_000_000,
        description="Samples that a model is trained on at most; of more, some are drawn.",
    )
    training_cutoffs: int = Field(
        12, ge=1, le=120, description="Past moments, a horizon apart, that models learn from."
    )
    sentiment_llm: bool = Field(
        False,
        description="Whether the model is asked too how texts of over 30 characters sound. They "
        "leave the machine then, with names, addresses and numbers taken out.",
    )
    max_reject_share: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Share of a file's rows that may be rejected before the whole file is refused.",
    )
    max_reject_rows: int = Field(
        20, ge=0, le=1_000_000, description="Rejected rows of a file that are always tolerated."
    )
    batch_rows: int = Field(
        250_000, ge=1_000, le=5_000_000, description="Rows of a file held in memory at once."
    )
    slice_rows: int = Field(
        12_000_000,
        ge=1_000,
        description="Rows of activity from which signals are computed at "
        "once; more are worked off in slices of members.",
    )
    orgs_per_run: int = Field(
        0,
        ge=0,
        le=100_000,
        description="Organisations that one scheduled run classifies at most; 0: all. "
        "The rest go to further runs.",
    )
    keep_snapshots: int = Field(
        7, ge=1, le=365, description="Published files kept in `data/published/history`."
    )
    lock_timeout_seconds: float = Field(
        60,
        ge=0,
        le=3_600,
        description="Seconds to wait for another process to let go of the warehouse.",
    )
    memory_limit_mb: int = Field(
        2_048, ge=128, le=1_048_576, description="Megabytes DuckDB may use before it spills."
    )
    min_free_disk_mb: int = Field(
        200, ge=0, le=1_048_576, description="Megabytes of free disk without which no run starts."
    )
    _given: frozenset[str] = PrivateAttr(frozenset())

    @classmethod
    def settings_customise_sources(  # type: ignore[override]
        cls,
        settings_cls: type[BaseSettings],
        init_settings: InitSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        **_: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over the environment, and that over the file in the home folder."""
        home = Path(init_settings.init_kwargs["home"])
        return (
            init_settings,
            env_settings,
            TomlConfigSettingsSource(settings_cls, home / SETTINGS_FILE),
        )

    @field_validator("anthropic_base_url", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        return value or "https://api.anthropic.com"

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

    @model_validator(mode="after")
    def _thresholds_agree(self) -> Self:
        if self.moderate_min > self.highly_engaged_min:
            raise ValueError(
                f"moderate_min ({self.moderate_min}) must not be above highly_engaged_min "
                f"({self.highly_engaged_min})"
            )
        return self

    @model_validator(mode="after")
    def _production_is_safe(self) -> Self:
        if self.profile == "production" and self.max_reject_share > 0.5:
            raise ValueError(
                "max_reject_share above 0.5 lets mostly broken files in; the profile "
                f"`production` refuses it (found {self.max_reject_share})"
            )
        return self

    @model_validator(mode="after")
    def _key_travels_safely(self) -> Self:
        parts = urlsplit(self.anthropic_base_url)
        is_safe = parts.scheme == "https" or parts.hostname in ("127.0.0.1", "localhost", "::1")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(
                "ANTHROPIC_BASE_URL: expected an address such as https://api.anthropic.com, found "
                f"{self.anthropic_base_url!r}"
            )
        if self.profile == "production" and not is_safe:
            raise ValueError(
                "ANTHROPIC_BASE_URL: expected https, or this machine; the profile `production` "
                f"does not send the key in the clear (found {self.anthropic_base_url!r})"
            )
        return self

    @property
    def chosen_classifier(self) -> str:
        """The classifier, with `auto` decided."""
        if self.classifier != "auto":
            return self.classifier
        return "anthropic" if self.has_api_key else "rules"

    @property
    def has_api_key(self) -> bool:
        return bool(self.anthropic_api_key and self.anthropic_api_key.get_secret_value().strip())

    @property
    def given(self) -> frozenset[str]:
        """The settings whose values were given as arguments."""
        return self._given

    @property
    def data_folder(self) -> Path:
        return self.home / "data"

    @property
    def source_folder(self) -> Path:
        """Where input tables are looked for."""
        return self.source or self.data_folder / "raw"

    @property
    def sample_folder(self) -> Path:
        return self.data_folder / "sample"

    @property
    def warehouse_path(self) -> Path:
        return self.data_folder / "warehouse.duckdb"

    @property
    def models_folder(self) -> Path:
        """Trained models, with their reports."""
        return self.data_folder / "models"

    @property
    def spool_folder(self) -> Path:
        """Scratch space beside the warehouse: unpacked files, and what DuckDB spills."""
        return self.data_folder / "spool"

    @property
    def published_folder(self) -> Path:
        return self.data_folder / "published"

    @property
    def published_path(self) -> Path:
        return self.published_folder / "engagement.duckdb"

    @property
    def dagster_home(self) -> Path:
        return self.home / ".dagster"


def _home() -> Path:
    return Path(os.environ.get(f"{ENV_PREFIX}HOME") or PROJECT_FOLDER).expanduser().resolve()


def load_settings(**given: Any) -> Settings:
    """The settings in force; `given` values win over the file and the environment.

    Raises:
        SettingsError: names each bad setting, what was expected and what was found.
    """
    given = {name: value for name, value in given.items() if value is not None}
    found = {"home": _home()} | given
    try:
        settings = Settings(**found)
    except ValidationError as error:
        listed = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']} (found {_shown(e)})"
            for e in error.errors()
        )
        raise SettingsError(f"settings: {listed}") from None
    except UnreadableValueError as error:
        # Of a list in the environment; the text names the setting and the source, not the value.
        raise SettingsError(f"settings: {error}: expected JSON ({error.__cause__})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{found['home']}/{SETTINGS_FILE}: expected TOML, found: {error}"
        ) from None
    settings._given = frozenset(given)
    return settings


def _shown(error: Mapping[str, Any]) -> str:
    # A model-wide check reports every setting as its input, the secret ones included.
    return "the values above" if isinstance(error["input"], dict) else repr(error["input"])
