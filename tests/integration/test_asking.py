"""Asking a model that behaves, with the real client against the loopback API.

What goes wrong, and what is done about it, is in `test_asking_faults`; how fast, in
`test_asking_pace`; what it costs and what is written down, in `test_asking_accounts`.
"""

import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest

from engagement_pipeline.contracts import contract
from engagement_pipeline.scoring import rules
from engagement_pipeline.scoring.anthropic.models import ModelSpec, model_spec
from engagement_pipeline.scoring.levels import OrgContext, Thresholds, with_baseline
from engagement_pipeline.scoring.model_labels import KNOWN_ANSWERS_SCHEMA, ModelClassifier
from engagement_pipeline.scoring.prompt import PROMPT_VERSION
from engagement_pipeline.scoring.questions import fingerprint_for, questions_about
from tests.anthropic_api import AnthropicApi, Fault, expected_level
from tests.anthropic_api import ModelSpec as ServedModel
from tests.integration.asked_model import (
    AS_OF,
    HAIKU,
    NEW_HAIKU,
    Recorded,
    ask_model,
    facts_of,
    levels_by_policy,
    org_of,
)

MEMBER: dict[str, Any] = {
    "org_id": "o",
    "as_of": AS_OF,
    "event_view_count_90d": None,
    "joined_at": AS_OF - timedelta(days=200),
    "last_active_at": None,
}


@pytest.fixture
def api() -> Iterator[AnthropicApi]:
    with AnthropicApi() as api:
        yield api


def members_of(org_id: str, count: int, seed: int) -> pl.DataFrame:
    """Members whose signals differ in every column that a profile looks at."""
    dice = random.Random(seed)
    rows = []
    for number in range(count):
        attended, previous = dice.randrange(7), dice.randrange(7)
        days_joined = dice.choice((5, 45, 100, 300, 900))
        has_attended = attended + previous > 0
        rows.append(
            {
                **MEMBER,
                "org_id": org_id,
                "user_id": f"member-{seed}-{number}",
                "events_attended_90d": attended,
                "events_attended_prev_90d": previous,
                "events_attended_total": attended + previous,
                "last_attended_at": AS_OF - timedelta(days=3) if has_attended else None,
                "no_show_count_90d": dice.randrange(4),
                "rsvp_count_90d": dice.randrange(8),
                "notifications_sent_90d": dice.choice((None, 8)),
                "notifications_read_90d": dice.choice((None, 0, 1, 4, 8)),
                "interaction_count_90d": dice.choice((None, 0, 3, 9, 40)),
                "profile_updated_at": dice.choice((None, AS_OF - timedelta(days=4))),
                "joined_at": AS_OF - timedelta(days=days_joined),
                "days_since_joined": days_joined,
                "days_since_active": dice.choice((0, 20, 70, 170, 400)),
            }
        )
    return pl.DataFrame(rows, schema=contract("signals.member_90d").polars_schema)


def known_answers(ledger: Recorded, asked_as_of: datetime = AS_OF) -> pl.DataFrame:
    rows = [
        {**{name: row.get(name) for name in KNOWN_ANSWERS_SCHEMA}, "asked_as_of": asked_as_of}
        for row in ledger.answers
    ]
    return pl.DataFrame(rows, schema=KNOWN_ANSWERS_SCHEMA)


def classifier_of(**given: Any) -> ModelClassifier:
    fingerprint = fingerprint_for(HAIKU.name, HAIKU.output_mode)
    return ModelClassifier("anthropic", HAIKU.name, PROMPT_VERSION, "tool", fingerprint, **given)


@pytest.mark.parametrize("per_call", [1, 3, 10])
@pytest.mark.parametrize("model", [HAIKU, NEW_HAIKU, replace(HAIKU, output_mode="json")])
def test_every_question_gets_the_models_own_level_once_however_it_is_packed(
    api: AnthropicApi, per_call: int, model: ModelSpec
) -> None:
    orgs = [
        org_of(1, 23, model=model),
        org_of(2, 0, model=model),
        org_of(3, 1, model=model, thresholds=Thresholds(highly_engaged_min=5)),
        org_of(4, 12, model=model, thresholds=Thresholds(8, 2, 30, 91)),
    ]
    asked = ask_model(orgs, api, model=model, per_call=per_call)
    assert asked.ledger.levels == levels_by_policy(orgs)
    assert len(asked.ledger.answers) == 36
    assert (asked.outcome.failed, asked.outcome.unanswered) == ({}, {})
    assert len(api.messages) == {1: 36, 3: 7 + 1 + 4, 10: 2 + 1 + 1}[per_call]
    assert set(asked.ledger.outcomes) == {"answered"}


def test_nothing_is_opened_where_nothing_is_asked() -> None:
    # No server listens on port 1.
    assert ask_model([org_of(1, 0)], "http://127.0.0.1:1").ledger.calls == {}


def test_an_answer_is_the_same_whatever_stands_beside_it(api: AnthropicApi) -> None:
    org = org_of(1, 30)
    turned = replace(org, questions=org.questions[::-1])
    first = ask_model([org], api).ledger
    second = ask_model([turned], api, per_call=4, facts=facts_of(seed=99)).ledger
    assert {(r["fingerprint"], r["level"], r["user_template"]) for r in first.answers} == {
        (r["fingerprint"], r["level"], r["user_template"]) for r in second.answers
    }


def test_organisations_are_asked_in_their_order(api: AnthropicApi) -> None:
    orgs = [org_of(n, 25) for n in range(6)]
    asked = ask_model(orgs, api, workers=3)
    assert [row["org_id"] for row in asked.ledger.calls.values()] == [
        asked_org.org.org_id for asked_org in orgs for _ in range(2)
    ]
    arrived = [record.profiles for record in api.messages]
    texts = [q.profile.text for org in orgs for q in org.questions]
    places = [texts.index(profiles[0]) for profiles in arrived]
    # Two that are on their way at once may overtake each other, but no more than that.
    ranks = [sorted(places).index(place) for place in places]
    assert all(abs(rank - at) < 3 for at, rank in enumerate(ranks))


def test_what_is_left_of_an_organisation_is_all_that_is_asked(api: AnthropicApi) -> None:
    org = org_of(1, 20)
    first = ask_model([replace(org, questions=org.questions[:8])], api).ledger
    rest = org.without(first.levels)
    second = ask_model([rest], api).ledger
    assert len(rest.questions) == len(second.answers) == 12
    assert {**first.levels, **second.levels} == levels_by_policy([org])
    assert sum(len(record.profiles) for record in api.messages) == 20


def test_progress_ends_at_the_number_of_questions(api: AnthropicApi) -> None:
    told: list[int] = []
    orgs = [org_of(1, 20), org_of(2, 13)]
    api.misbehave(Fault.ROW_MISSING, rows=3)
    text = orgs[0].questions[4].profile.text
    api.misbehave(Fault.DIGITS, times=9, rows=None, when=lambda body: text in str(body))
    ask_model(orgs, api, on_progress=told.append)
    assert sum(told) == 33


# What a member gets of it


def test_members_get_their_profiles_level_and_the_rules_stand_in_for_vetoes_and_gaps(
    api: AnthropicApi,
) -> None:
    org = OrgContext("o", "Choir", "We sing.", Thresholds())
    classifier = classifier_of()
    signals = members_of("o", 120, seed=1)
    questions = questions_about(org, signals, classifier.fingerprint)
    assert 10 < len(questions.questions) <= 120
    # One profile is always bad, and one answer in whole is "at risk" for everyone.
    bad = questions.questions[25]
    api.misbehave(
        Fault.DIGITS, times=99, rows=None, when=lambda body: bad.profile.text in str(body)
    )
    api.misbehave(Fault.ALL_AT_RISK, when=lambda body: " ".join(("1", first)) in str(body))
    first = questions.questions[0].profile.text
    asked = ask_model([questions], api)
    answers = known_answers(asked.ledger)
    unanswered = {key: why.source for key, why in asked.outcome.unanswered.items()}
    assert unanswered == {bad.fingerprint: "fallback"}
    members = with_baseline(signals, org.thresholds)
    known = classifier_of(answers=answers, unanswered=unanswered)
    labels = known.classify(org, members, as_of=AS_OF)
    by_rules = rules.RulesClassifier().classify(org, members, as_of=AS_OF)
    profiles = {q.fingerprint: q.profile for q in questions.questions}
    sources = Counter(labels["source"])
    asked_first = {row["fingerprint"] for row in asked.ledger.answers if _is_of_call(row, 1)}
    assert set(sources) == {"llm", "vetoed", "fallback"}
    for label, baseline, rules_text in zip(
        labels.iter_rows(named=True),
        members["baseline_level"],
        by_rules["user_template"],
        strict=True,
    ):
        profile = profiles[label["fingerprint"]]
        if label["source"] == "fallback":
            assert label["fingerprint"] == bad.fingerprint
            assert (label["level"], label["user_template"]) == (baseline, rules_text)
        elif label["source"] == "vetoed":
            assert profile.is_new(org.thresholds)
            assert label["fingerprint"] in asked_first
            assert (label["level"], label["user_template"]) == (baseline, rules_text)
        elif label["fingerprint"] in asked_first:
            assert label["level"] == "at_risk"
        else:
            assert label["level"] == expected_level(profile.text)
            assert label["user_template"] != rules_text


def _is_of_call(answer: dict[str, Any], number: int) -> bool:
    return bool(answer["call_id"].endswith(f":{number}"))


# What is sent


def test_no_member_and_no_other_organisation_is_ever_in_a_request(api: AnthropicApi) -> None:
    fingerprint = fingerprint_for(HAIKU.name, HAIKU.output_mode)
    orgs, members = [], []
    for number in range(6):
        org = OrgContext(
            f"idtoken{number}x",
            f"Society nametoken{number}x",
            f"About desctoken{number}x" if number % 2 else None,
            Thresholds(highly_engaged_min=3 + number),
        )
        signals = members_of(org.org_id, 60, seed=number).with_columns(
            ("membertoken" + pl.col("user_id")).alias("user_id")
        )
        members.append(signals)
        orgs.append(questions_about(org, signals, fingerprint))
    api.misbehave(Fault.ROW_MISSING, times=3, rows=4)
    api.misbehave(Fault.MAX_TOKENS, times=2)
    ask_model(orgs, api)
    assert len(api.messages) > 6 * 4
    for record in api.messages:
        sent = json.dumps([record.path, dict(record.headers), record.body])
        assert "membertoken" not in sent
        assert "idtoken" not in sent
        assert f"{AS_OF:%Y-%m-%d}" not in json.dumps(record.body)
        named = {number for number in range(6) if f"nametoken{number}x" in sent}
        described = {number for number in range(6) if f"desctoken{number}x" in sent}
        assert len(named) == 1
        assert described <= named
        assert record.path == "/v1/messages"
    assert {record.org_name for record in api.messages} == {asked.org.name for asked in orgs}


def test_the_new_model_is_told_not_to_think_and_its_cached_prefix_is_cheaper(
    api: AnthropicApi,
) -> None:
    orgs = [org_of(n, 20, model=NEW_HAIKU) for n in range(5)]
    asked = ask_model(orgs, api, model=NEW_HAIKU, workers=1)
    first, *others = asked.ledger.calls.values()
    assert first["cache_write_tokens"] >= 512
    assert {row["cache_read_tokens"] for row in others} == {first["cache_write_tokens"]}
    assert max(row["spent_usd"] for row in others) < first["spent_usd"]
    for record in api.messages:
        assert record.body["thinking"] == {"type": "disabled"}
        assert record.body["system"][0]["cache_control"] == {"type": "ephemeral"}
        assert record.usage.thinking == 0
    assert asked.ledger.spent_usd == pytest.approx(api.billed_usd, abs=1e-9)


def test_the_old_model_is_sent_neither_a_thinking_switch_nor_a_cache_mark(
    api: AnthropicApi,
) -> None:
    ask_model([org_of(1, 3)], api)
    (record,) = api.messages
    assert set(record.body) == {
        "model",
        "max_tokens",
        "system",
        "messages",
        "tools",
        "tool_choice",
    }
    assert "cache_control" not in record.body["system"][0]


@pytest.mark.parametrize("model", [HAIKU, NEW_HAIKU])
def test_json_output_is_asked_for_without_tools(api: AnthropicApi, model: ModelSpec) -> None:
    spoken = replace(model, output_mode="json")
    org = org_of(1, 11, model=spoken)
    asked = ask_model([org], api, model=spoken)
    assert asked.ledger.levels == levels_by_policy([org])
    (record,) = api.messages
    assert "tools" not in record.body
    assert record.body["output_config"]["format"]["type"] == "json_schema"
    assert record.usage.thinking == 0


def test_a_model_described_in_the_settings_is_asked_and_billed_as_described() -> None:
    served = ServedModel("house-model", 2.0, 7.0, takes_forced_tool=False)
    spec = model_spec(
        "house-model",
        {"house-model": {"input_usd": 2.0, "output_usd": 7.0, "output_mode": "json"}},
    )
    with AnthropicApi(models=(served,)) as api:
        org = org_of(1, 10, model=spec)
        asked = ask_model([org], api, model=spec)
        assert asked.ledger.levels == levels_by_policy([org])
        assert asked.ledger.spent_usd == pytest.approx(api.billed_usd, abs=1e-9)


@pytest.mark.parametrize("model", [HAIKU, replace(HAIKU, output_mode="json")])
def test_ten_profiles_a_call_take_at_most_100_tokens_in_and_90_out_each(
    api: AnthropicApi, model: ModelSpec
) -> None:
    ask_model([org_of(n, 50, model=model) for n in range(10)], api, model=model)
    usage = api.totals.usage
    assert len(api.messages) == 50
    assert usage.input_total / 500 <= 100
    assert usage.output / 500 <= 90
