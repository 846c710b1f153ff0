"""Models, requests, tokens and estimates: what is sent to which model, and what it will cost."""

import itertools
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.scoring.anthropic.estimate import TokenRatios, estimate
from engagement_pipeline.scoring.anthropic.models import (
    DEFAULT_MODEL,
    KNOWN_MODELS,
    ModelSpec,
    UnknownModelError,
    Usage,
    model_spec,
)
from engagement_pipeline.scoring.anthropic.requests import expected_usage, message_params
from engagement_pipeline.scoring.anthropic.tokens import input_tokens, prefix_tokens, text_tokens
from engagement_pipeline.scoring.levels import OrgContext, Thresholds
from engagement_pipeline.scoring.profiles import Profile
from engagement_pipeline.scoring.questions import OrgQuestions, Question

OLD, NEW = KNOWN_MODELS[DEFAULT_MODEL], KNOWN_MODELS["claude-haiku-5-5"]
ORG = OrgContext("org-secret-id", "Choir", None, Thresholds())
TWICE = TokenRatios(2.0, 2.0)
PROFILES = [Profile(f"{n} 2 1 0 8 0 180 ? 0 x +") for n in range(6)]


def asked_about(count: int, members: int) -> OrgQuestions:
    questions = tuple(Question(f"f{n}", PROFILES[n % 6]) for n in range(count))
    return OrgQuestions(ORG, members, questions)


# Models


def test_prices_are_per_million_tokens_and_half_in_a_batch() -> None:
    million = Usage(10**6, 10**6, 10**6, 10**6)
    assert OLD.cost_usd(million) == pytest.approx(1 + 5 + 1.25 + 0.1)
    assert NEW.cost_usd(million) == pytest.approx(OLD.cost_usd(million) / 10)
    assert OLD.cost_usd(million, is_batch=True) == pytest.approx(OLD.cost_usd(million) / 2)
    assert OLD.cost_usd(Usage()) == 0


def test_an_unknown_model_is_an_error_that_lists_the_known_and_how_to_add_one() -> None:
    added = {"mine": {"input_usd": 1, "output_usd": 2}}
    with pytest.raises(UnknownModelError) as unknown:
        model_spec("gpt", added)
    for words in ("'gpt'", DEFAULT_MODEL, "claude-haiku-5-5", "mine", '[models."gpt"]'):
        assert words in str(unknown.value)


def test_a_model_in_the_settings_wins_over_the_one_built_in() -> None:
    spec = model_spec(DEFAULT_MODEL, {DEFAULT_MODEL: {"input_usd": 3, "output_usd": 4}})
    assert (spec.input_usd, spec.output_usd, spec.output_mode) == (3, 4, "tool")


def test_the_output_mode_asked_for_wins_over_the_models_own() -> None:
    assert model_spec(DEFAULT_MODEL, {}).output_mode == "tool"
    assert model_spec(DEFAULT_MODEL, {}, output_mode="json") == replace(OLD, output_mode="json")


@pytest.mark.parametrize(
    ("described", "words"),
    [
        ({"input_usd": 1}, "output_usd: Field required"),
        ({}, "input_usd: Field required"),
        ({"input_usd": 1, "output_usd": 1, "prize": 9}, "prize: Extra inputs"),
        ({"input_usd": 1, "output_usd": 1, "output_mode": "xml"}, "found 'xml'"),
        ({"input_usd": "3", "output_usd": 1}, "input_usd: .*found '3'"),
        ({"input_usd": -1, "output_usd": 1}, "input_usd: .*found -1"),
        ({"input_usd": float("nan"), "output_usd": 1}, "input_usd: .*found nan"),
        ({"input_usd": 1, "output_usd": 1, "token_factor": 0}, "token_factor: .*found 0"),
        ({"input_usd": 1, "output_usd": 1, "must_disable_thinking": "no"}, "found 'no'"),
    ],
)
def test_a_bad_description_is_an_error_that_says_what_is_wrong(
    described: dict[str, object], words: str
) -> None:
    with pytest.raises(UnknownModelError, match=words):
        model_spec("mine", {"mine": described})


# Requests


def test_a_forced_tool_is_strict_and_called_once() -> None:
    params = message_params(OLD, ORG, PROFILES)
    (tool,) = params["tools"]
    assert (tool["name"], tool["strict"]) == ("classify_engagement", True)
    assert params["tool_choice"] == {
        "type": "tool",
        "name": "classify_engagement",
        "disable_parallel_tool_use": True,
    }
    assert not {"output_config", "thinking", "temperature"} & set(params)


def test_json_output_has_the_same_schema_and_no_tool() -> None:
    params = message_params(replace(NEW, output_mode="json"), ORG, PROFILES)
    schema = message_params(OLD, ORG, PROFILES)["tools"][0]["input_schema"]
    assert params["output_config"] == {"format": {"type": "json_schema", "schema": schema}}
    assert not {"tools", "tool_choice"} & set(params)
    assert params["thinking"] == {"type": "disabled"}


def test_only_a_prefix_that_the_model_would_keep_is_marked_to_be_kept() -> None:
    assert "cache_control" not in message_params(OLD, ORG, PROFILES)["system"][0]
    assert message_params(NEW, ORG, PROFILES)["system"][0]["cache_control"] == {"type": "ephemeral"}
    long = replace(NEW, min_cacheable_tokens=10**5)
    assert "cache_control" not in message_params(long, ORG, PROFILES)["system"][0]


def test_room_for_the_answer_grows_with_the_profiles() -> None:
    rooms = [message_params(OLD, ORG, PROFILES[:n])["max_tokens"] for n in range(1, 7)]
    assert {after - before for before, after in itertools.pairwise(rooms)} == {240}


def test_the_organisations_id_is_not_sent() -> None:
    assert "org-secret-id" not in json.dumps(message_params(OLD, ORG, PROFILES))


# Tokens


@given(st.text(max_size=300))
def test_a_text_takes_tokens_for_all_that_is_not_blank(text: str) -> None:
    tokens = text_tokens(text)
    assert 0 <= tokens <= len(text)
    assert text_tokens(text + " word") == tokens + 1 or not text.isascii()


def test_tokens_of_a_request_are_its_prefix_and_its_turn() -> None:
    params = message_params(OLD, ORG, PROFILES)
    turn = text_tokens(params["messages"][0]["content"]) + 4
    assert input_tokens(params) == prefix_tokens(params) + turn
    assert prefix_tokens(params) == prefix_tokens(message_params(OLD, ORG, PROFILES[:1]))
    # Without a tool the API adds no words of its own.
    assert prefix_tokens(message_params(replace(OLD, output_mode="json"), ORG, PROFILES)) < (
        prefix_tokens(params) - 313
    )


def test_what_answers_turned_out_to_take_replaces_the_first_guess() -> None:
    params = message_params(OLD, ORG, PROFILES)
    assert expected_usage(OLD, params, 6).output_tokens == 510
    assert expected_usage(OLD, params, 6, output_a_profile=50).output_tokens == 300
    assert expected_usage(NEW, params, 10).output_tokens == 1_105


# Estimates


@given(st.integers(0, 60), st.integers(1, 20))
def test_an_estimate_is_the_sum_over_calls(count: int, per_call: int) -> None:
    one = estimate([asked_about(count, count)], OLD, profiles_per_call=per_call)
    two = estimate([asked_about(count, count)] * 2, OLD, profiles_per_call=per_call)
    assert (two.calls, two.profiles) == (2 * one.calls, 2 * count)
    assert two.cost_usd == pytest.approx(2 * one.cost_usd)
    assert one.cost_usd == pytest.approx(OLD.cost_usd(Usage(one.input_tokens, one.output_tokens)))
    half = estimate([asked_about(count, count)], OLD, profiles_per_call=per_call, is_batch=True)
    assert half.cost_usd == pytest.approx(one.cost_usd / 2)


def test_one_call_a_member_is_counted_for_members_who_have_an_answer_too() -> None:
    some = estimate([asked_about(6, 100)], OLD, profiles_per_call=10)
    none = estimate([asked_about(6, 100).without_all()], OLD, profiles_per_call=10)
    assert (none.calls, none.cost_usd) == (0, 0.0)
    assert none.one_call_a_member_usd == pytest.approx(some.one_call_a_member_usd, rel=0.05)
    assert some.one_call_a_member_usd > 20 * some.cost_usd


def test_an_added_models_own_figures_are_used() -> None:
    spec = ModelSpec("mine", input_usd=0, output_usd=10, token_factor=2.0)
    found = estimate([asked_about(10, 10)], spec, profiles_per_call=10, output_a_profile=100)
    assert found.cost_usd == pytest.approx(10 * 1_000 / 1e6)


# Estimates, corrected


def of_org(org_id: str, count: int = 12, members: int = 40) -> OrgQuestions:
    return replace(asked_about(count, members), org=replace(ORG, org_id=org_id))


def test_corrections_multiply_the_tokens_of_their_own_organisation_before_they_are_priced() -> None:
    a, b = of_org("a"), of_org("b", 20, 60)
    plain_a, plain_b = (estimate([org], OLD, profiles_per_call=10) for org in (a, b))
    found = estimate(
        [a, b], OLD, profiles_per_call=10, corrections={"a": TokenRatios(1.5, 0.5), "c": TWICE}
    )
    assert found.input_tokens == pytest.approx(
        1.5 * plain_a.input_tokens + plain_b.input_tokens, abs=2
    )
    assert found.output_tokens == pytest.approx(
        0.5 * plain_a.output_tokens + plain_b.output_tokens, abs=2
    )
    assert found.cost_usd == pytest.approx(
        OLD.cost_usd(Usage(found.input_tokens, found.output_tokens))
    )
    assert (found.profiles, found.calls) == (32, plain_a.calls + plain_b.calls)


def test_one_call_a_member_is_corrected_like_what_it_is_compared_with() -> None:
    plain = estimate([of_org("a")], OLD, profiles_per_call=10)
    found = estimate([of_org("a")], OLD, profiles_per_call=10, corrections={"a": TWICE})
    assert found.cost_usd == pytest.approx(2 * plain.cost_usd)
    assert found.one_call_a_member_usd == pytest.approx(2 * plain.one_call_a_member_usd)


def test_without_corrections_an_estimate_is_what_it_was() -> None:
    orgs = [of_org("a"), of_org("b")]
    plain = estimate(orgs, OLD, profiles_per_call=10)
    for corrections in (None, {}, {"a": TokenRatios(), "c": TWICE}):
        assert estimate(orgs, OLD, profiles_per_call=10, corrections=corrections) == plain


@pytest.mark.parametrize(("ratio", "bound"), [(0.01, 0.25), (0.0, 0.25), (-1, 0.25), (90.0, 4.0)])
def test_a_ratio_beyond_the_bounds_counts_as_the_bound(ratio: float, bound: float) -> None:
    found, wanted = (
        estimate([of_org("a")], OLD, profiles_per_call=10, corrections={"a": TokenRatios(r, r)})
        for r in (ratio, bound)
    )
    assert found == wanted


@pytest.mark.parametrize("ratio", [float("nan"), float("inf")])
def test_a_ratio_that_is_no_number_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match=r"output: expected a finite ratio of tokens, found"):
        TokenRatios(1.0, ratio)


def test_the_tokens_of_each_organisation_are_told_as_they_are_without_corrections() -> None:
    orgs = [of_org("a"), of_org("b", 20), of_org("a", 3), of_org("idle", 0)]
    found = estimate(orgs, OLD, profiles_per_call=10, corrections={"a": TWICE, "b": TWICE})
    alone = {
        org: estimate([o for o in orgs if o.org.org_id == org], OLD, profiles_per_call=10)
        for org in ("a", "b")
    }
    assert found.uncorrected_tokens == {
        org: (one.input_tokens, one.output_tokens) for org, one in alone.items()
    }
    assert found.input_tokens == 2 * sum(one.input_tokens for one in alone.values())


def test_what_was_learned_of_an_organisation_takes_the_place_of_what_answers_took_on_average() -> (
    None
):
    org = of_org("a", 10)
    plain = estimate([org], OLD, profiles_per_call=10)
    # Twice the guess was billed: the average says so, and so does the ratio, but not both at once.
    double = plain.output_tokens / 5
    average = estimate([org], OLD, profiles_per_call=10, output_a_profile=double)
    both = estimate(
        [org],
        OLD,
        profiles_per_call=10,
        output_a_profile=double,
        corrections={"a": TokenRatios(output=2.0)},
    )
    assert average.output_tokens == both.output_tokens == 2 * plain.output_tokens
    assert average.uncorrected_tokens == both.uncorrected_tokens == plain.uncorrected_tokens
