"""A receiver of webhooks on this machine, for tests: real HTTP, and as unreliable as told.

Tests of our client do not belong here.
"""

from .faults import Fault, Misbehaviour
from .server import Received, WebhookServer

__all__ = ["Fault", "Misbehaviour", "Received", "WebhookServer"]
