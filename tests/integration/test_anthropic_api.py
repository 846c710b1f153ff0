"""The loopback server answers, refuses, bills and limits as the API does.

Batches and faults are tested beside the server, in `tests/anthropic_api`.
"""

import asyncio
import copy
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import anthropic
import pytest

from tests.anthropic_api import (
    HAIKU_4_5,
    HAIKU_5_5,
    AnthropicApi,
    Fault,
    WireThresholds,
    expected_level,
)
from tests.anthropic_api.asking import (
    PROFILES,
    REGULAR,
    client_of,
    json_request,
    post,
    rows_of,
    tool_request,
    user_message,
)

Body = dict[str, Any]

PROJECT = Path(__file__).parents[2]
LONG_PROMPT = "Judge with care and kindness. " * 900  # over 4,096 tokens


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


# Answers


@pytest.mark.parametrize("request_of", [tool_request, json_request])
def test_every_row_is_answered_once_by_the_policy(
    api: AnthropicApi, client: anthropic.Anthropic, request_of: Callable[..., Body]
) -> None:
    message = client.messages.create(**request_of())
    rows = rows_of(message)
    assert [row["row"] for row in rows] == list(range(1, len(PROFILES) + 1))
    assert [row["level"] for row in rows] == [expected_level(text) for text in PROFILES]
    assert message.stop_reason == ("tool_use" if request_of is tool_request else "end_turn")
    (record,) = api.messages
    assert (record.org_name, record.profiles, record.status) == ("Choir", PROFILES, 200)


def test_levels_follow_the_thresholds_of_the_message(client: anthropic.Anthropic) -> None:
    body = tool_request([REGULAR])
    body["messages"][0]["content"] = user_message([REGULAR], highly_engaged_min=8)
    (row,) = rows_of(client.messages.create(**body))
    assert row["level"] == "moderate"
    assert expected_level(REGULAR, WireThresholds(highly_engaged_min=8)) == "moderate"


def test_a_row_is_answered_alike_in_any_company(client: anthropic.Anthropic) -> None:
    together = rows_of(client.messages.create(**tool_request()))
    alone = [rows_of(client.messages.create(**tool_request([text])))[0] for text in PROFILES]
    assert [{**row, "row": 1} for row in together] == alone


def test_a_message_not_in_the_agreed_form_is_refused(client: anthropic.Anthropic) -> None:
    spoilings: tuple[Callable[[str], str], ...] = (
        lambda text: text.replace("2 1 2", "3 1 2"),  # a row number left out
        lambda text: text.replace(" x -", " -"),  # a cell missing
        lambda text: text.replace("moderate_min=1 ", ""),
        lambda text: text.replace('"name"', '"names"'),
    )
    for spoil in spoilings:
        body = tool_request()
        body["messages"][0]["content"] = spoil(body["messages"][0]["content"])
        with pytest.raises(anthropic.BadRequestError, match="cannot read"):
            client.messages.create(**body)


def test_an_answer_longer_than_max_tokens_is_cut(client: anthropic.Anthropic) -> None:
    whole = client.messages.create(**tool_request()).usage.output_tokens
    cut = client.messages.create(**tool_request(max_tokens=whole - 60))
    assert cut.stop_reason == "max_tokens"
    assert cut.usage.output_tokens == whole - 60
    assert len(rows_of(cut)) < len(PROFILES) + 1
    assert rows_of(cut)[-1] != rows_of(client.messages.create(**tool_request()))[-1]
    assert client.messages.create(**tool_request(max_tokens=whole)).stop_reason == "tool_use"


def test_a_model_that_thinks_by_default_says_and_bills_so(client: anthropic.Anthropic) -> None:
    model = HAIKU_5_5.id
    thinking = client.messages.create(**json_request(model=model))
    quiet = client.messages.create(**json_request(model=model, thinking={"type": "disabled"}))
    assert [block.type for block in thinking.content] == ["thinking", "text"]
    assert [block.type for block in quiet.content] == ["text"]
    assert thinking.usage.output_tokens == quiet.usage.output_tokens + 200
    assert rows_of(thinking) == rows_of(quiet)


# Tokens and money


def test_count_tokens_is_what_the_message_is_billed(client: anthropic.Anthropic) -> None:
    for body in (tool_request(), json_request(), tool_request(model="claude-haiku-4-5")):
        counted = {name: value for name, value in body.items() if name != "max_tokens"}
        message = client.messages.create(**body)
        count = client.messages.count_tokens(**counted).input_tokens
        assert count == message.usage.input_tokens > 0


def test_work_is_billed_at_the_models_prices(
    api: AnthropicApi, client: anthropic.Anthropic
) -> None:
    first = client.messages.create(**tool_request()).usage
    usd = (first.input_tokens * 1 + first.output_tokens * 5) / 1e6
    assert api.billed_usd == pytest.approx(usd)
    quiet = tool_request(model=HAIKU_5_5.id, thinking={"type": "disabled"})
    second = client.messages.create(**quiet).usage
    usd += (second.input_tokens * 0.1 + second.output_tokens * 0.5) / 1e6
    assert api.billed_usd == pytest.approx(usd)
    assert api.billed_usd == pytest.approx(sum(record.usd for record in api.requests))
    assert second.input_tokens == pytest.approx(first.input_tokens * 1.3, abs=1)


def test_a_long_prefix_is_written_to_the_cache_once_and_then_read(
    api: AnthropicApi, client: anthropic.Anthropic
) -> None:
    body = tool_request(system=LONG_PROMPT, is_cached=True)
    first, second = (client.messages.create(**body).usage for _ in range(2))
    assert first.cache_creation_input_tokens == second.cache_read_input_tokens
    assert (first.cache_creation_input_tokens or 0) > 4096
    assert second.cache_creation_input_tokens == first.cache_read_input_tokens == 0
    assert first.input_tokens == second.input_tokens < 400
    prefix = first.cache_creation_input_tokens or 0
    usd = first.input_tokens + 1.25 * prefix + second.input_tokens + 0.1 * prefix
    usd += 5 * (first.output_tokens + second.output_tokens)
    assert api.billed_usd == pytest.approx(usd / 1e6)


def test_only_a_marked_and_long_prefix_is_cached(client: anthropic.Anthropic) -> None:
    short = tool_request(system="Judge with care. " * 200, is_cached=True)
    for body in (tool_request(system=LONG_PROMPT), short):
        usage = [client.messages.create(**body).usage for _ in range(2)][-1]
        assert usage.cache_creation_input_tokens == usage.cache_read_input_tokens == 0
    quiet = {"model": HAIKU_5_5.id, "thinking": {"type": "disabled"}}
    usage = client.messages.create(**{**short, **quiet}).usage
    assert (usage.cache_creation_input_tokens or 0) >= 512


def test_a_client_that_has_gone_away_is_billed_all_the_same() -> None:
    with AnthropicApi(latency_seconds=0.3) as api:
        with pytest.raises(anthropic.APITimeoutError):
            client_of(api).with_options(timeout=0.1).messages.create(**tool_request())
        assert api.billed_usd == 0
        time.sleep(0.4)
        assert api.billed_usd > 0


# Refusals


def _with(**changes: Any) -> Body:
    return {**tool_request(), **changes}


def _with_schema(change: Callable[[Body], object], request_of: Callable[[], Body]) -> Body:
    body = copy.deepcopy(request_of())
    schema = (
        body["tools"][0]["input_schema"]
        if "tools" in body
        else body["output_config"]["format"]["schema"]
    )
    change(schema["properties"]["classifications"])
    return body


_BAD_SCHEMAS: tuple[Callable[[Body], object], ...] = (
    lambda array: array.update(minItems=1),
    lambda array: array.update(maxItems=9),
    lambda array: array["items"]["properties"]["row"].update(minimum=1),
    lambda array: array["items"]["properties"]["row"].update(maximum=9),
    lambda array: array["items"]["properties"]["level"].update(minLength=1),
    lambda array: array["items"]["properties"]["user_explanation"].update(maxLength=280),
    lambda array: array["items"]["properties"]["user_explanation"].update(pattern="a"),
    lambda array: array["items"].pop("additionalProperties"),
    lambda array: array["items"]["required"].remove("level"),
)


@pytest.mark.parametrize(
    "body",
    [
        _with(temperature=0),
        _with(top_p=0.5),
        _with(top_k=5),
        _with(output_format={}),
        _with(model=None),
        _with(max_tokens=0),
        _with(max_tokens=True),
        _with(max_tokens=10**6),
        _with(stream=True),
        _with(messages=[]),
        _with(messages=[{"role": "system", "content": "a"}]),
        _with(messages=[{"role": "user", "content": ""}]),
        _with(tools=[]),
        _with(tool_choice={"type": "tool", "name": "other"}),
        _with(thinking={"type": "enabled", "budget_tokens": 2000}),
        _with(thinking={"type": "enabled", "budget_tokens": 10}, tool_choice={"type": "auto"}),
        _with(model=HAIKU_5_5.id),
        _with(model=HAIKU_5_5.id, thinking={"type": "adaptive"}),
        _with(system=[{"type": "text", "text": ""}]),
        *(_with_schema(change, tool_request) for change in _BAD_SCHEMAS),
        *(_with_schema(change, json_request) for change in _BAD_SCHEMAS),
    ],
)
def test_what_the_api_does_not_take_is_refused_and_costs_nothing(
    api: AnthropicApi, body: Body
) -> None:
    status, found, headers = post(api, "/v1/messages", body)
    assert (status, found["type"], found["error"]["type"]) == (
        400,
        "error",
        "invalid_request_error",
    )
    assert found["request_id"] == headers["request-id"]
    assert api.billed_usd == 0


def test_what_is_missing_is_refused(api: AnthropicApi) -> None:
    for name in ("model", "max_tokens", "messages"):
        body = tool_request()
        del body[name]
        assert post(api, "/v1/messages", body)[0] == 400
    assert post(api, "/v1/messages", tool_request(), anthropic_version="")[0] == 400


def test_a_refusal_names_the_field_that_is_wrong(api: AnthropicApi) -> None:
    plain = {"model": HAIKU_4_5.id, "max_tokens": 9}
    said = [{"role": "user", "content": "Hello"}]
    for body, words in (
        ({**plain, "messages": said, "temperature": 0}, "temperature: sampling"),
        ({**plain, "messages": said, "tool_choice": {"type": "auto"}}, "tool_choice: may only"),
        ({**plain, "messages": [{"role": "user", "content": " "}]}, "messages.0.content: text"),
        ({"model": HAIKU_4_5.id, "messages": said}, "max_tokens: Field required"),
    ):
        assert words in post(api, "/v1/messages", body)[1]["error"]["message"]


def test_a_model_without_forced_tools_refuses_them() -> None:
    shy = type(HAIKU_4_5)("shy", 1, 5, takes_forced_tool=False)
    with AnthropicApi(models=(shy,)) as api:
        assert post(api, "/v1/messages", tool_request(model="shy"))[0] == 400
        assert post(api, "/v1/messages", json_request(model="shy"))[0] == 200
        assert post(api, "/v1/messages", json_request())[0] == 404


def test_keys_and_models_are_checked(api: AnthropicApi, client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.AuthenticationError):
        client_of(api, "sk-wrong").messages.create(**tool_request())
    with pytest.raises(anthropic.PermissionDeniedError):
        client_of(api, api.options.forbidden_key).messages.create(**tool_request())
    with pytest.raises(anthropic.NotFoundError) as missing:
        client.messages.create(**tool_request(model="claude-haiku-9"))
    assert (missing.value.type, missing.value.request_id) == (
        "not_found_error",
        api.requests[-1].request_id,
    )
    assert post(api, "/v1/messages", tool_request(), authorization="", x_api_key=api.key)[0] == 200
    assert post(api, "/v1/nothing", {})[0] == 404


def test_a_body_over_32_mb_is_refused(api: AnthropicApi) -> None:
    status, found, _ = post(api, "/v1/messages", tool_request(system="a" * 33 * 2**20))
    assert (status, found["error"]["type"]) == (413, "request_too_large")


def test_models_are_listed(client: anthropic.Anthropic) -> None:
    assert {model.id for model in client.models.list()} >= {HAIKU_4_5.id, HAIKU_5_5.id}
    assert client.models.retrieve(HAIKU_4_5.id).lifecycle == "active"
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("claude-haiku-9")


# Limits


@pytest.mark.parametrize(
    ("limit", "name"), [("rpm", "requests"), ("itpm", "input-tokens"), ("otpm", "output-tokens")]
)
def test_each_limit_refuses_what_is_over_it_and_says_when_to_come_back(
    limit: str, name: str
) -> None:
    usage = {"rpm": 1, "itpm": 700, "otpm": 400}
    options: Any = {limit: usage[limit] * 60, "capacity_seconds": 1}
    with AnthropicApi(**options) as api:
        client = client_of(api)
        sent = client.messages.with_raw_response.create(**tool_request())
        assert int(sent.headers[f"anthropic-ratelimit-{name}-limit"]) == usage[limit] * 60
        with pytest.raises(anthropic.RateLimitError) as refused:
            client.messages.create(**tool_request())
        headers = refused.value.response.headers
        wait = int(headers["retry-after"])
        assert 1 <= wait <= 3
        assert headers[f"anthropic-ratelimit-{name}-remaining"] in ("0", "1", "2", "3") or (
            limit == "itpm"
        )
        assert re.fullmatch(
            r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", headers[f"anthropic-ratelimit-{name}-reset"]
        )
        assert (api.totals.refused_by_limits, api.totals.billed_calls) == (1, 1)
        time.sleep(wait)
        client.messages.create(**tool_request())


def test_what_is_read_from_the_cache_does_not_count_against_the_limit() -> None:
    body = tool_request(system=LONG_PROMPT, is_cached=True)
    with AnthropicApi(itpm=9000) as api:
        client = client_of(api)
        for _ in range(3):
            client.messages.create(**body)
        with pytest.raises(anthropic.RateLimitError):
            client.messages.create(**{**body, "system": LONG_PROMPT})


# The server itself


def test_many_calls_at_once_are_all_served_and_counted(api: AnthropicApi) -> None:
    async def ask_all() -> int:
        async with anthropic.AsyncAnthropic(
            api_key=api.key, base_url=api.base_url, max_retries=0
        ) as client:
            calls = (client.messages.create(**tool_request([REGULAR])) for _ in range(100))
            return len(await asyncio.gather(*calls))

    assert asyncio.run(ask_all()) == 100
    assert api.totals.billed_calls == len(api.messages) == 100
    assert len({record.request_id for record in api.requests}) == 100


def test_a_reset_forgets_everything(api: AnthropicApi, client: anthropic.Anthropic) -> None:
    client.messages.create(**tool_request())
    api.reset()
    assert (api.requests, api.billed_usd, api.totals.calls.total()) == ([], 0, 0)


def test_records_can_be_left_out_but_totals_never() -> None:
    with AnthropicApi(is_recording=False) as api:
        client_of(api).messages.create(**tool_request())
        assert api.requests == []
        with urllib.request.urlopen(f"{api.base_url}/_stats") as answer:
            stats = json.load(answer)
        assert (stats["messages"], stats["billed_calls"]) == (1, 1)
        assert stats["billed_usd"] == api.billed_usd > 0


def test_a_mistake_in_a_test_is_not_taken_for_an_answer_of_the_api() -> None:
    def is_meant(body: Mapping[str, Any]) -> bool:
        return bool(body["no such field"])

    api = AnthropicApi().start()
    api.misbehave(Fault.OVERLOADED, when=is_meant)
    assert post(api, "/v1/messages", tool_request())[0] == 500
    with pytest.raises(RuntimeError, match="loopback server failed"):
        api.__exit__(None, None, None)


def test_a_port_that_is_taken_is_an_error(api: AnthropicApi) -> None:
    port = int(api.base_url.rsplit(":", 1)[1])
    with pytest.raises(OSError, match="in use"):
        AnthropicApi(port=port).start()


def test_the_server_runs_in_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", "tests.anthropic_api", "--fault-rate", "1"]
    command += ["--faults", "server_error,overloaded", "--key", "sk-own", "--otpm", "5000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        client = anthropic.Anthropic(api_key="sk-own", base_url=url, max_retries=0)
        with pytest.raises(anthropic.InternalServerError):
            client.messages.create(**tool_request())
        with urllib.request.urlopen(f"{url}/_stats") as answer:
            assert sum(json.load(answer)["faults"].values()) == 1
        process.terminate()
    assert process.returncode == 0
