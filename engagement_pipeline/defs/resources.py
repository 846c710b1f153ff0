"""What every asset is given: the settings in force, and what the run was started with."""

from datetime import UTC, datetime

import dagster as dg
from pydantic import Field

from engagement_pipeline.defs.model import model_classifier
from engagement_pipeline.defs.runs import PROCESS_TAG, this_process
from engagement_pipeline.scoring.classifier import Classifier
from engagement_pipeline.scoring.rules import RulesClassifier
from engagement_pipeline.settings import Settings, load_settings
from engagement_pipeline.warehouse.connection import Warehouse


class BadRunOptionError(ValueError):
    """A run option has a value it may not have; the text names it, expected and found."""


class PipelineResource(dg.ConfigurableResource[None]):
    """Options of one run. What is left empty comes from the settings."""

    home: str = Field(
        default="", description="Home folder of the pipeline. Empty: that of the settings."
    )
    source: str = Field(
        default="", description="Folder with the input tables. Empty: the setting `source`."
    )
    as_of: str = Field(
        default="",
        description="The moment to compute everything for, as ISO 8601 in UTC, such as "
        "`2026-01-31T04:00:00Z`. Empty: the run's start.",
    )
    classifier: str = Field(default="", description="Who gives the levels. Empty: the setting.")
    max_cost_usd: float | None = Field(
        default=None, description="Dollars the run may spend on the model. Empty: the setting."
    )
    orgs: list[str] = Field(
        default=[], description="Classify only these organisations. Empty: all that are due."
    )

    def settings(self) -> Settings:
        """The settings in force for this run."""
        return load_settings(
            home=self.home or None,
            source=self.source or None,
            classifier=self.classifier or None,
            max_cost_usd=self.max_cost_usd,
        )

    def warehouse(self) -> Warehouse:
        return Warehouse.of(self.settings())

    def levels_from(self) -> Classifier:
        """The classifier that the settings choose, with nothing asked yet."""
        return classifier_of(self.settings())

    def moment(self, run_start: datetime) -> datetime:
        """The run's `as_of`: as given, or its start."""
        return parse_moment(self.as_of) if self.as_of else run_start


def classifier_of(settings: Settings) -> Classifier:
    """The classifier that these settings choose, with nothing asked yet.

    Raises:
        UnknownModelError: it is a model, and nobody described that model.
    """
    name = settings.chosen_classifier
    return RulesClassifier() if name == "rules" else model_classifier(settings)


def parse_moment(text: str) -> datetime:
    """An ISO 8601 moment; without a zone it is read as UTC.

    Raises:
        BadRunOptionError: the text is no moment.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadRunOptionError(
            f"as_of: expected a moment such as 2026-01-31T04:00:00Z, found {text!r}"
        ) from None
    return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)


def run_start(context: dg.AssetExecutionContext | dg.OpExecutionContext) -> datetime:
    """When the run started: the one clock reading that all its steps share."""
    if PROCESS_TAG not in context.run.tags:
        # By this a run whose process was killed is told from one at work.
        context.instance.add_run_tags(context.run.run_id, {PROCESS_TAG: this_process()})
    record = context.instance.get_run_record_by_id(context.run.run_id)
    if record is None or record.start_time is None:
        return datetime.now(UTC)
    return datetime.fromtimestamp(record.start_time, UTC)
