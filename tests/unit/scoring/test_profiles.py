"""Signal profiles: buckets, what follows from a profile alone, and fingerprints."""

import json
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engagement_pipeline.contracts import contract, vocabulary
from engagement_pipeline.scoring import (
    PLACEHOLDERS,
    OrgContext,
    Thresholds,
    UnknownPlaceholderError,
    render,
    with_baseline,
)
from engagement_pipeline.scoring.levels import Correction
from engagement_pipeline.scoring.profiles import (
    CELLS,
    DESCRIPTION_MAX_CHARACTERS,
    NAME_MAX_CHARACTERS,
    PROFILES_VERSION,
    MalformedProfileError,
    Profile,
    org_as_sent,
    profile_fingerprint,
    with_profiles,
)

Row = dict[str, Any]

AS_OF = datetime(2026, 5, 20, 12, tzinfo=UTC)
SCHEMA = contract("signals.member_90d").polars_schema

MEMBER: Row = {
    "org_id": "o",
    "user_id": "u",
    "as_of": AS_OF,
    "events_attended_90d": 3,
    "events_attended_prev_90d": 2,
    "events_attended_total": 9,
    "last_attended_at": AS_OF - timedelta(days=9),
    "no_show_count_90d": 0,
    "rsvp_count_90d": 2,
    "event_view_count_90d": None,
    "notifications_sent_90d": None,
    "notifications_read_90d": None,
    "interaction_count_90d": 0,
    "profile_updated_at": None,
    "joined_at": AS_OF - timedelta(days=200),
    "days_since_joined": 200,
    "last_active_at": AS_OF - timedelta(days=3),
    "days_since_active": 3,
}
PROFILE = "3 2 1 0 8 0 180 ? 0 x +"


def members_of(*changes: Row) -> pl.DataFrame:
    return pl.DataFrame([{**MEMBER, **change} for change in changes], schema=SCHEMA)


def profile_texts(rows: Sequence[Row], limits: Thresholds | None = None) -> list[str]:
    members = pl.DataFrame(rows, schema=SCHEMA)
    return with_profiles(members, limits or Thresholds())["profile"].to_list()


def cell(name: str, limits: Thresholds | None = None, **change: Any) -> str:
    return Profile(profile_texts([{**MEMBER, **change}], limits)[0]).cells[name]


# --- An oracle that reads the written buckets one by one ---------------------------------------


def plain_bound(value: int, edges: set[int]) -> str:
    lower = 0
    for candidate in sorted(edges):
        if candidate <= value:
            lower = candidate
    return str(lower)


def plain_days(row: Row, column: str) -> int | None:
    if row[column] is None:
        return None
    days: int = (row["as_of"] - row[column]) // timedelta(days=1)
    return max(0, days)


def plain_reads(sent: int | None, read: int | None) -> str:
    if sent is None or read is None or sent == 0:
        return "?"
    for share, bucket in ((75, "75"), (25, "25")):
        if 100 * read >= share * sent:
            return bucket
    return "1" if read > 0 else "0"


def plain_profile(row: Row, limits: Thresholds) -> str:
    attended, previous = row["events_attended_90d"], row["events_attended_prev_90d"]
    attendances = {0, 1, 2, 3, 4, 5, limits.moderate_min, limits.highly_engaged_min}
    days = {0, 8, 31, 61, 91, 181}
    since_attended = plain_days(row, "last_attended_at")
    since_update = plain_days(row, "profile_updated_at")
    talk = row["interaction_count_90d"]
    cells = [
        plain_bound(attended, attendances),
        plain_bound(previous, attendances),
        plain_bound(row["rsvp_count_90d"], {0, 1, 3, 6}),
        plain_bound(row["no_show_count_90d"], {0, 1, 2}),
        "x" if since_attended is None else plain_bound(since_attended, days),
        plain_bound(row["days_since_active"], days | {limits.inactive_days}),
        plain_bound(row["days_since_joined"], {0, 30, 60, 180, 365, limits.new_member_days}),
        plain_reads(row["notifications_sent_90d"], row["notifications_read_90d"]),
        "?" if talk is None else plain_bound(talk, {0, 1, 5, 20}),
        "x" if since_update is None else plain_bound(since_update, {0, 91}),
        "+" if attended > previous else "=" if attended == previous else "-",
    ]
    return " ".join(cells)


# --- Members and thresholds, drawn around the edges ---------------------------------------------

EDGES = (0, 1, 2, 3, 4, 5, 6, 8, 20, 30, 31, 60, 61, 90, 91, 180, 181, 365)


@st.composite
def some_thresholds(draw: st.DrawFn) -> Thresholds:
    highly = draw(st.sampled_from((1, 2, 3, 4, 5, 6, 8, 1_000)) | st.integers(1, 1_000))
    return Thresholds(
        highly_engaged_min=highly,
        moderate_min=draw(st.just(highly) | st.integers(1, min(highly, 8))),
        new_member_days=draw(st.sampled_from((0, 1, 29, 59, 60, 61, 90, 3_650))),
        inactive_days=draw(st.sampled_from((1, 7, 8, 90, 91, 180, 181, 182, 400, 3_650))),
    )


def around(*more: int) -> st.SearchStrategy[int]:
    steps = st.sampled_from((-1, 0, 1))
    near = st.tuples(st.sampled_from((*EDGES, *more)), steps).map(sum)
    return near.filter(lambda value: value >= 0) | st.integers(0, 4_000)


def moments() -> st.SearchStrategy[datetime]:
    hours = st.integers(-30, 24 * 400)
    edges = st.tuples(st.sampled_from(EDGES), st.integers(-1, 1)).map(
        lambda edge: timedelta(days=edge[0], microseconds=edge[1])
    )
    return (edges | hours.map(lambda h: timedelta(hours=h))).map(lambda ago: AS_OF - ago)


@st.composite
def some_rows(draw: st.DrawFn, limits: Thresholds) -> list[Row]:
    counts = around(limits.moderate_min, limits.highly_engaged_min)
    days = around(limits.new_member_days, limits.inactive_days)
    maybe = st.none() | st.integers(0, 30)
    row = st.fixed_dictionaries(
        {
            "org_id": st.just("o"),
            "user_id": st.just("u"),
            "as_of": st.just(AS_OF),
            "events_attended_90d": counts,
            "events_attended_prev_90d": counts,
            "events_attended_total": counts,
            "last_attended_at": st.none() | moments(),
            "no_show_count_90d": st.integers(0, 4),
            "rsvp_count_90d": st.integers(0, 9),
            "event_view_count_90d": maybe,
            "notifications_sent_90d": maybe,
            "notifications_read_90d": maybe,
            "interaction_count_90d": maybe,
            "profile_updated_at": st.none() | moments(),
            "joined_at": moments(),
            "days_since_joined": days,
            "last_active_at": st.none() | moments(),
            "days_since_active": days,
        }
    )
    return draw(st.lists(row, max_size=12))


some_orgs = some_thresholds().flatmap(lambda t: st.tuples(st.just(t), some_rows(t)))

# --- Buckets ---------------------------------------------------------------------------------


@given(some_orgs)
def test_members_share_a_profile_exactly_when_every_signal_falls_in_the_same_bucket(
    org: tuple[Thresholds, list[Row]],
) -> None:
    limits, rows = org
    assert profile_texts(rows, limits) == [plain_profile(row, limits) for row in rows]


@given(some_orgs)
def test_no_profile_straddles_two_baselines_whatever_the_thresholds(
    org: tuple[Thresholds, list[Row]],
) -> None:
    limits, rows = org
    levelled = with_profiles(with_baseline(pl.DataFrame(rows, schema=SCHEMA), limits), limits)
    for text, level, joined in levelled.select(
        "profile", "baseline_level", "days_since_joined"
    ).iter_rows():
        profile = Profile(text)
        assert profile.baseline_level(limits) == level
        assert profile.is_new(limits) == (joined < limits.new_member_days)


@given(some_orgs)
def test_whatever_a_profile_may_cite_is_known_of_each_of_its_members(
    org: tuple[Thresholds, list[Row]],
) -> None:
    limits, rows = org
    profiled = with_profiles(pl.DataFrame(rows, schema=SCHEMA), limits)
    for (text,), group in profiled.group_by("profile"):
        for name in Profile(str(text)).citable:
            assert group.select(PLACEHOLDERS[name].value.alias("v"))["v"].null_count() == 0


@given(some_orgs)
def test_profiles_keep_rows_and_columns_as_they_came(org: tuple[Thresholds, list[Row]]) -> None:
    limits, rows = org
    members = pl.DataFrame(rows, schema=SCHEMA)
    assert with_profiles(members, limits).drop("profile").equals(members)


def test_a_profile_is_written_as_it_is_sent() -> None:
    profiled = with_profiles(members_of({}), Thresholds())
    assert profiled["profile"].to_list() == [PROFILE]
    assert profiled.schema["profile"] == pl.String
    assert with_profiles(members_of({}).clear(), Thresholds()).schema["profile"] == pl.String


@pytest.mark.parametrize(
    ("name", "signal", "bounds"),
    [
        ("attended", "events_attended_90d", {0: "0", 4: "4", 5: "5", 900: "5"}),
        ("previous", "events_attended_prev_90d", {0: "0", 1: "1", 6: "5"}),
        ("rsvps", "rsvp_count_90d", {0: "0", 1: "1", 2: "1", 3: "3", 5: "3", 6: "6", 99: "6"}),
        ("no_shows", "no_show_count_90d", {0: "0", 1: "1", 2: "2", 3: "2"}),
        ("last_active", "days_since_active",
         {0: "0", 7: "0", 8: "8", 30: "8", 31: "31", 60: "31", 61: "61", 90: "61", 91: "91",
          179: "91", 180: "180", 181: "181", -1: "0"}),
        ("joined", "days_since_joined",
         {0: "0", 29: "0", 30: "30", 59: "30", 60: "60", 179: "60", 180: "180", 364: "180",
          365: "365", -1: "0"}),
        ("interactions", "interaction_count_90d",
         {None: "?", 0: "0", 1: "1", 4: "1", 5: "5", 19: "5", 20: "20"}),
    ],
)  # fmt: skip
def test_a_bucket_begins_where_it_is_documented_to(
    name: str, signal: str, bounds: dict[int | None, str]
) -> None:
    assert {value: cell(name, **Row({signal: value})) for value in bounds} == bounds


@pytest.mark.parametrize(
    ("ago", "last_attended", "profile_update"),
    [
        (None, "x", "x"),
        (timedelta(hours=-30), "0", "0"),
        (timedelta(days=8, microseconds=-1), "0", "0"),
        (timedelta(days=8), "8", "0"),
        (timedelta(days=31), "31", "0"),
        (timedelta(days=61), "61", "0"),
        (timedelta(days=91, microseconds=-1), "61", "0"),
        (timedelta(days=91), "91", "91"),
        (timedelta(days=181), "181", "91"),
    ],
)
def test_a_moment_counts_by_whole_days(
    ago: timedelta | None, last_attended: str, profile_update: str
) -> None:
    moment = None if ago is None else AS_OF - ago
    assert cell("last_attended", last_attended_at=moment) == last_attended
    assert cell("profile_update", profile_updated_at=moment) == profile_update


@pytest.mark.parametrize(
    ("read", "sent", "share"),
    [
        (None, None, "?"), (None, 4, "?"), (4, None, "?"), (0, 0, "?"), (2, 0, "?"),
        (0, 9, "0"), (1, 100, "1"), (24, 100, "1"), (25, 100, "25"), (74, 100, "25"),
        (75, 100, "75"), (100, 100, "75"), (5, 4, "75"),
    ],
)  # fmt: skip
def test_a_read_share_is_unknown_without_anything_sent_and_whole_when_more_is_read(
    read: int | None, sent: int | None, share: str
) -> None:
    assert cell("reads", notifications_read_90d=read, notifications_sent_90d=sent) == share


def test_buckets_split_at_the_organisations_own_thresholds() -> None:
    limits = Thresholds(
        highly_engaged_min=8, moderate_min=6, new_member_days=100, inactive_days=200
    )
    assert [cell("attended", limits, events_attended_90d=n) for n in (5, 6, 7, 8, 50)] == [
        "5", "6", "6", "8", "8",
    ]  # fmt: skip
    assert cell("previous", limits, events_attended_prev_90d=7) == "6"
    assert [cell("joined", limits, days_since_joined=n) for n in (99, 100)] == ["60", "100"]
    assert [cell("last_active", limits, days_since_active=n) for n in (199, 200)] == ["181", "200"]


def test_the_trend_compares_counts_and_not_their_buckets() -> None:
    pairs = {(7, 6): "+", (6, 6): "=", (5, 6): "-"}
    for (now, before), trend in pairs.items():
        change: Row = {"events_attended_90d": now, "events_attended_prev_90d": before}
        assert cell("trend", **change) == trend


# --- A profile by itself ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "", PROFILE.replace(" ", "  ", 1), f"{PROFILE} ", f" {PROFILE}", f"1 {PROFILE}",
        PROFILE[:-2], PROFILE.replace(" ", "\t"),
        "03 2 1 0 8 0 180 ? 0 x +", "3 -2 1 0 8 0 180 ? 0 x +", "3 2 1 0 8 0 18000 ? 0 x +",
        "3 2 1 0 8 0 \u0661 ? 0 x +", "3 2 1 0 8 0 1\u0661 ? 0 x +",
        "3 x 1 0 8 0 180 ? 0 x +", "3 2 2 0 8 0 180 ? 0 x +",
        "3 2 1 3 8 0 180 ? 0 x +", "3 2 1 0 9 0 180 ? 0 x +", "3 2 1 0 ? 0 180 ? 0 x +",
        "3 2 1 0 8 x 180 ? 0 x +", "3 2 1 0 8 0 180 50 0 x +", "3 2 1 0 8 0 180 x 0 x +",
        "3 2 1 0 8 0 180 ? 2 x +", "3 2 1 0 8 0 180 ? 0 1 +", "3 2 1 0 8 0 180 ? 0 x >",
    ],
)  # fmt: skip
def test_a_text_that_is_no_profile_is_refused(text: str) -> None:
    with pytest.raises(MalformedProfileError):
        Profile(text)


def test_the_refusal_names_the_cell_and_what_it_may_hold() -> None:
    with pytest.raises(MalformedProfileError, match=r"'9' in the cell 'no_shows'.*0, 1, 2$"):
        Profile("3 2 1 9 8 0 180 ? 0 x +")


def test_cells_are_known_by_name() -> None:
    cells = Profile("8 6 1 0 x 200 100 75 20 91 =").cells
    assert tuple(cells) == CELLS
    assert (cells["attended"], cells["last_attended"], cells["trend"]) == ("8", "x", "=")


def test_what_is_unknown_or_never_was_may_not_be_cited() -> None:
    everything = Profile("3 2 1 0 8 0 180 0 0 0 +").citable
    assert Profile("3 2 1 0 x 0 180 ? ? x +").citable == everything - {
        "last_attended_at",
        "days_since_attended",
        "notifications_sent_90d",
        "notifications_read_90d",
        "interaction_count_90d",
        "profile_updated_at",
    }
    # Nobody's profile holds them: views may be unknown, and a member may never have been active.
    assert everything == PLACEHOLDERS.keys() - {"event_view_count_90d", "last_active_at"}


def test_what_a_profile_may_cite_can_be_rendered() -> None:
    profiled = with_profiles(members_of({}), Thresholds())
    text = " ".join(f"{{{name}}}" for name in sorted(Profile(profiled["profile"][0]).citable))
    templated = profiled.with_columns(admin_template=pl.lit(text), user_template=pl.lit(""))
    assert "{" not in render(templated)["admin_explanation"][0]
    with pytest.raises(UnknownPlaceholderError):
        render(templated.with_columns(admin_template=pl.lit("{reads}")))


# --- The organisation as it is sent ----------------------------------------------------------

ORG = OrgContext("o", "St Alban Choir", "We sing on Tuesdays.", Thresholds())


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("  We sing.  ", "We sing."),
        ("one\ntwo\r\n\tthree\x00four\x85five", "one two three four five"),
        ("one\u2028two\u2029three\u00a0\u3000four", "one two three four"),
        ("a\u202eb\u2066c\u200bd\ufeffe\u00adf\U000e0041g", "abcdefg"),
        ("a\ud800b", "ab"),
        ("Chœur Ω \U0001f3b6 e\u0301", "Chœur Ω \U0001f3b6 e\u0301"),
        ('"}\\ 1 2 3', '"}\\ 1 2 3'),
        ("\n\u200b ", None),
        ("", None),
        (None, None),
        ("x" * 999, "x" * DESCRIPTION_MAX_CHARACTERS),
        ("x" * (DESCRIPTION_MAX_CHARACTERS - 1) + " y", "x" * (DESCRIPTION_MAX_CHARACTERS - 1)),
    ],
)
def test_an_organisation_is_sent_as_one_line_of_visible_text(
    text: str | None, sent: str | None
) -> None:
    assert org_as_sent(replace(ORG, description=text))["description"] == sent
    name = org_as_sent(replace(ORG, name=text or ""))["name"]
    assert name == ("(unnamed)" if sent is None else sent[:NAME_MAX_CHARACTERS])


@given(st.text(max_size=400) | st.text(st.characters(codec=None), max_size=20))
def test_what_is_sent_stays_as_it_is_when_it_is_sent_again(text: str) -> None:
    sent = org_as_sent(replace(ORG, name=text, description=text))
    assert sent["name"]
    assert org_as_sent(replace(ORG, name=sent["name"], description=sent["description"])) == sent
    line = json.dumps(sent, ensure_ascii=False)
    assert line.encode().decode().splitlines() == [line]
    assert not {unicodedata.category(character) for character in line} & {"Cc", "Cf", "Cs"}


# --- Fingerprints ----------------------------------------------------------------------------

FACTS: Row = {
    "prompt_version": "prompt-1",
    "tool_schema": {"type": "object", "properties": {"a": {"type": "string"}, "b": {}}},
    "model": "m",
    "output_mode": "tool",
    "validator_version": "v1",
}


OTHER_PROFILE = "3 2 1 0 8 0 180 ? 0 x ="


def corrected(*corrections: tuple[str, str]) -> OrgContext:
    told = tuple(Correction(profile, "at_risk", level) for profile, level in corrections)
    return replace(ORG, corrections=told)


def fingerprint(org: OrgContext = ORG, profile: str = PROFILE, **change: Any) -> str:
    return profile_fingerprint(org, Profile(profile), **{**FACTS, **change})


def limits_with(**change: int) -> OrgContext:
    return replace(ORG, thresholds=replace(ORG.thresholds, **change))


OTHERS: dict[str, Callable[[], str]] = {
    "org_id": lambda: fingerprint(replace(ORG, org_id="o2")),
    "name": lambda: fingerprint(replace(ORG, name="St Alban Band")),
    "description": lambda: fingerprint(replace(ORG, description="We sing on Mondays.")),
    "no description": lambda: fingerprint(replace(ORG, description=None)),
    "highly_engaged_min": lambda: fingerprint(limits_with(highly_engaged_min=4)),
    "moderate_min": lambda: fingerprint(limits_with(moderate_min=2)),
    "new_member_days": lambda: fingerprint(limits_with(new_member_days=61)),
    "inactive_days": lambda: fingerprint(limits_with(inactive_days=181)),
    "profile": lambda: fingerprint(profile="3 2 1 0 8 0 180 ? 0 x ="),
    "prompt_version": lambda: fingerprint(prompt_version="prompt-2"),
    "tool_schema": lambda: fingerprint(tool_schema={"type": "object"}),
    "model": lambda: fingerprint(model="m2"),
    "output_mode": lambda: fingerprint(output_mode="json"),
    "validator_version": lambda: fingerprint(validator_version="v2"),
    "corrections": lambda: fingerprint(corrected((PROFILE, "moderate"))),
    "another profile corrected": lambda: fingerprint(corrected((OTHER_PROFILE, "moderate"))),
    "corrected otherwise": lambda: fingerprint(corrected((PROFILE, "inactive"))),
    "more corrected": lambda: fingerprint(
        corrected((PROFILE, "moderate"), (OTHER_PROFILE, "moderate"))
    ),
}


def test_every_single_ingredient_gives_a_fingerprint_of_its_own() -> None:
    found = [fingerprint(), *(other() for other in OTHERS.values())]
    assert len(set(found)) == len(OTHERS) + 1
    assert all(len(one) == 64 and set(one) <= set("0123456789abcdef") for one in found)


def test_another_meaning_of_the_cells_gives_another_fingerprint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = fingerprint()
    monkeypatch.setattr(
        "engagement_pipeline.scoring.profiles.PROFILES_VERSION", f"{PROFILES_VERSION}x"
    )
    assert fingerprint() != before


@pytest.mark.parametrize(
    "same",
    [
        replace(ORG, description="We sing\u202e\non  Tuesdays.\u200b"),
        replace(ORG, name="St Alban\tChoir "),
    ],
)
def test_what_is_not_sent_of_an_organisation_leaves_the_fingerprint(same: OrgContext) -> None:
    assert fingerprint(same) == fingerprint()


def test_what_is_cut_off_leaves_the_fingerprint() -> None:
    long = "x" * DESCRIPTION_MAX_CHARACTERS
    cut = fingerprint(replace(ORG, description=long + "one"))
    assert cut == fingerprint(replace(ORG, description=long + "another"))


def test_what_a_correction_does_not_send_leaves_the_fingerprint() -> None:
    other = replace(ORG, corrections=(Correction(PROFILE, "inactive", "moderate"),))
    assert fingerprint(other) == fingerprint(corrected((PROFILE, "moderate")))


def test_the_order_of_keys_in_the_schema_leaves_the_fingerprint() -> None:
    other = {"properties": {"b": {}, "a": {"type": "string"}}, "type": "object"}
    assert list(other) != list(FACTS["tool_schema"])
    assert fingerprint(tool_schema=other) == fingerprint()


@given(days=st.integers(-400, 400))
@example(days=0)
def test_another_as_of_leaves_profile_and_fingerprint(days: int) -> None:
    shift = timedelta(days=days)
    later = {
        name: value + shift if isinstance(value, datetime) else value
        for name, value in MEMBER.items()
    }
    (text,) = profile_texts([later])
    assert fingerprint(profile=text) == fingerprint()


def test_a_fingerprint_is_the_same_on_every_machine() -> None:
    assert fingerprint() == "8881113353847dbd5552ab56a4d0a78855687559833968ee62d7afb7504019b8"


def test_every_level_can_be_a_profiles_baseline() -> None:
    texts = [
        PROFILE,
        "2 2 1 0 8 0 30 ? 0 x =",
        "2 2 1 0 8 0 60 ? 0 x =",
        "0 2 0 0 91 91 180 ? 0 x -",
        "0 0 0 0 181 180 365 ? 0 x =",
    ]
    levels = [Profile(text).baseline_level(Thresholds()) for text in texts]
    assert levels == ["highly_engaged", "new", "moderate", "at_risk", "inactive"]
    assert set(levels) == set(vocabulary.LEVELS)
