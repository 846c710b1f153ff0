"""Every knob: its unit, default and bounds, and where its value came from.

Values come from code, then `engagement.toml` in the home folder, then the environment
(`ENGAGEMENT_…`). Only knobs belong here; what they do is in the room that takes them as arguments.
Those of asking a model, of learning and of outreach have modules of their own.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    Field,
    PrivateAttr,
    ValidationError,
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
from engagement_pipeline.settings.asking import AskingKnobs
from engagement_pipeline.settings.learning import LearningKnobs
from engagement_pipeline.settings.outreach import OutreachKnobs

PROJECT_FOLDER = Path(__file__).resolve().parent.parent.parent
ENV_PREFIX = "ENGAGEMENT_"
SETTINGS_FILE = "engagement.toml"


class SettingsError(ValueError):
    """A setting has a value it may not have; the text names it, what was expected and found."""


def _org_setting(name: str, default: int, description: str) -> Any:
    """The field of a setting that an organisation may set for itself, within the same bounds."""
    lowest, highest = ORG_SETTING_BOUNDS[name]
    return Field(default, ge=lowest, le=highest, description=f"{description} Per org.")


class Settings(AskingKnobs, LearningKnobs, OutreachKnobs, BaseSettings):
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
        if self.profile == "production" and self.inactivity_threshold_seconds < 3_600:
            raise ValueError(
                "inactivity_threshold_seconds below 3600 writes to people who were here a moment "
                "ago; the profile `production` refuses it (found "
                f"{self.inactivity_threshold_seconds})"
            )
        if (
            self.profile == "production"
            and self.outreach_channel == "webhook"
            and not (self.webhook_secret and self.webhook_secret.get_secret_value())
        ):
            raise ValueError(
                "webhook_secret: expected one, in ENGAGEMENT_WEBHOOK_SECRET, found none; the "
                "profile `production` sends nothing that could not be told from a forgery"
            )
        return self

    @model_validator(mode="after")
    def _secrets_travel_safely(self) -> Self:
        self._check_address("ANTHROPIC_BASE_URL", self.anthropic_base_url, "the key")
        if self.webhook_url:
            self._check_address("webhook_url", self.webhook_url, "what is said to members")
        return self

    def _check_address(self, name: str, address: str, cargo: str) -> None:
        parts = urlsplit(address)
        is_safe = parts.scheme == "https" or parts.hostname in ("127.0.0.1", "localhost", "::1")
        if parts.scheme not in ("http", "https") or not parts.hostname or not _has_port(parts):
            raise ValueError(
                f"{name}: expected an address such as https://example.org, found {address!r}"
            )
        if self.profile == "production" and not is_safe:
            raise ValueError(
                f"{name}: expected https, or this machine; the profile `production` does not send "
                f"{cargo} in the clear (found {address!r})"
            )

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


def _has_port(parts: SplitResult) -> bool:
    """Whether the port is one that there is, or none is named."""
    try:
        return parts.port is None or parts.port > 0
    except ValueError:
        return False


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
        listed = "; ".join(map(_told, error.errors()))
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


def _told(error: Mapping[str, Any]) -> str:
    """What is wrong with a setting, or with several together: then the text names them itself."""
    what = error["msg"].removeprefix("Value error, ")
    # A check of all settings reports them all as its input, the secret ones included.
    if not error["loc"]:
        return str(what)
    if isinstance(error["input"], dict):
        return f"{'.'.join(map(str, error['loc']))}: {what}"
    return f"{'.'.join(map(str, error['loc']))}: {what} (found {error['input']!r})"
