"""From the settings to the model: which one, how it is reached, and how fast it may be asked."""

from engagement_pipeline.scoring.answers import VALIDATOR_VERSION
from engagement_pipeline.scoring.anthropic.client import Connection
from engagement_pipeline.scoring.anthropic.models import ModelSpec, model_spec
from engagement_pipeline.scoring.anthropic.session import Pace, Way
from engagement_pipeline.scoring.model_labels import ModelClassifier
from engagement_pipeline.scoring.prompt import PROMPT_VERSION
from engagement_pipeline.scoring.questions import fingerprint_for
from engagement_pipeline.scoring.sharing import SHARING_VERSION
from engagement_pipeline.settings import Settings

BATCH = "anthropic-batch"


class MissingKeyError(RuntimeError):
    """The settings choose a model, and there is no key to ask it with."""


def spec_of(settings: Settings) -> ModelSpec:
    """What is known of the model that the settings name.

    Raises:
        UnknownModelError: nobody described it.
    """
    return model_spec(settings.model, settings.models, output_mode=settings.output_mode)


def model_classifier(settings: Settings) -> ModelClassifier:
    """The classifier behind which the model stands, without any answers yet."""
    spec, shared_by = spec_of(settings), settings.members_per_profile
    return ModelClassifier(
        name=settings.chosen_classifier,
        model_version=spec.name,
        prompt_version=PROMPT_VERSION,
        setup=f"{spec.output_mode}/{VALIDATOR_VERSION}/{SHARING_VERSION}/{shared_by}",
        members_per_profile=shared_by,
        fingerprint=fingerprint_for(spec.name, spec.output_mode),
    )


def way_of(settings: Settings) -> Way:
    """How the model is asked.

    Raises:
        MissingKeyError: there is no key.
        UnknownModelError: nobody described the model.
    """
    key = settings.anthropic_api_key
    if key is None or not settings.has_api_key:
        raise MissingKeyError(
            f"classifier: {settings.chosen_classifier!r} asks a model, so ANTHROPIC_API_KEY was "
            "expected in the environment, and none was found. Set it, or use the classifier "
            "`rules`."
        )
    return Way(
        connection=Connection(
            key.get_secret_value().strip(),
            settings.anthropic_base_url,
            settings.call_timeout_seconds,
            max_connections=settings.calls_in_flight + 2,
        ),
        model=spec_of(settings),
        pace=Pace(
            settings.requests_per_minute,
            settings.input_tokens_per_minute,
            settings.output_tokens_per_minute,
            settings.rate_share,
            settings.calls_in_flight,
            settings.profiles_per_call,
        ),
        max_cost_usd=settings.max_cost_usd,
    )
