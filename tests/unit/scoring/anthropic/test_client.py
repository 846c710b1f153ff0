"""The client's own judgement: origins, loopbacks, and what counts as a message."""

from typing import Any

import pytest

from engagement_pipeline.scoring.anthropic.client import (
    Connection,
    is_loopback,
    read_message,
    same_origin,
    usage_of,
)
from engagement_pipeline.scoring.anthropic.models import Usage

API = "https://api.anthropic.com"
GOOD: dict[str, Any] = {"content": [], "usage": {"input_tokens": 3, "output_tokens": 0}}


@pytest.mark.parametrize(
    ("url", "is_same"),
    [
        (f"{API}/v1/messages/batches/b/results", True),
        ("https://api.anthropic.com:443/x", True),
        ("https://API.anthropic.com/x", True),
        ("http://api.anthropic.com/x", False),
        ("http://api.anthropic.com:443/x", False),
        ("https://api.anthropic.com:8443/x", False),
        ("https://api.anthropic.com.evil.example/x", False),
        ("https://api.anthropic.com@evil.example/x", False),
        ("https://evil.example/api.anthropic.com", False),
        ("//api.anthropic.com/x", False),
        ("/x", False),
    ],
)
def test_an_origin_is_scheme_host_and_port(url: str, is_same: bool) -> None:
    assert same_origin(url, API) is is_same


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8080", True),
        ("http://127.9.9.9", True),
        ("http://localhost:1", True),
        ("http://[::1]:9", True),
        (API, False),
        ("http://10.0.0.1", False),
        ("http://127.0.0.1.evil.example", False),
        ("http://localhost.evil.example", False),
        ("", False),
    ],
)
def test_a_loopback_is_this_machine_only(url: str, expected: bool) -> None:
    assert is_loopback(url) is expected


def test_a_key_is_not_shown() -> None:
    assert "sk-secret" not in repr(Connection("sk-secret"))


@pytest.mark.parametrize(
    "found",
    [
        None,
        "text",
        [],
        {},
        {**GOOD, "content": None},
        {**GOOD, "content": "text"},
        {**GOOD, "content": ["text"]},
        {**GOOD, "usage": None},
        {**GOOD, "usage": {"input_tokens": 3}},
        {**GOOD, "usage": {"input_tokens": "3", "output_tokens": 1}},
        {**GOOD, "usage": {"input_tokens": -1, "output_tokens": 1}},
    ],
)
def test_what_is_no_message_is_an_error(found: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        read_message(found)


def test_cached_tokens_are_none_where_nothing_is_said_of_them() -> None:
    assert usage_of(read_message(GOOD)) == Usage(3, 0)
    odd = {**GOOD["usage"], "cache_read_input_tokens": None, "cache_creation_input_tokens": 7}
    assert usage_of({**GOOD, "usage": odd}) == Usage(3, 0, 7, 0)
