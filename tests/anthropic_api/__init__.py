"""The Anthropic API on this machine, for tests and benchmarks: as strict, and as unreliable.

A real HTTP server that the `anthropic` package talks to as it talks to the API, with the API's
checks, errors, rate limits, prompt caching, batches and prices, and a scripted or random way of
going wrong. Its model decides by a policy of its own (`policy`), so that answers can be known
beforehand. Tests of our client do not belong here.
"""

from .api import AnthropicApi
from .faults import Fault, Misbehaviour, Place, Stage, faults_of
from .hostile_texts import AT_RISK_SPELLINGS
from .models import HAIKU_4_5, HAIKU_5_5, MODELS, ModelSpec, Usage
from .policy import expected_level, texts_of
from .records import RequestRecord, Totals
from .rewritings import expected_rewriting
from .service import ServerOptions
from .text_ratings import expected_sentiment
from .wire import CELLS, Question, WireThresholds, citable, read_question

__all__ = [
    "AT_RISK_SPELLINGS",
    "CELLS",
    "HAIKU_4_5",
    "HAIKU_5_5",
    "MODELS",
    "AnthropicApi",
    "Fault",
    "Misbehaviour",
    "ModelSpec",
    "Place",
    "Question",
    "RequestRecord",
    "ServerOptions",
    "Stage",
    "Totals",
    "Usage",
    "WireThresholds",
    "citable",
    "expected_level",
    "expected_rewriting",
    "expected_sentiment",
    "faults_of",
    "read_question",
    "texts_of",
]
