"""A server and the real client of it, for the tests of the server's own parts."""

from collections.abc import Iterator

import anthropic
import pytest

from tests.anthropic_api import AnthropicApi
from tests.anthropic_api.asking import client_of


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    # A proxy of the machine would be asked for 127.0.0.1 too.
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def api() -> Iterator[AnthropicApi]:
    with AnthropicApi() as api:
        yield api


@pytest.fixture
def client(api: AnthropicApi) -> anthropic.Anthropic:
    return client_of(api)
