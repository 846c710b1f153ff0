"""Where a setting's value comes from, and which values there may not be."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engagement_pipeline.settings import Settings, SettingsError, load_settings
from engagement_pipeline.terminal.knobs import knobs

Written = Callable[..., Path]


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in os.environ:
        if variable.upper().startswith("ENGAGEMENT_"):
            monkeypatch.delenv(variable)


@pytest.fixture
def home(tmp_path: Path) -> Written:
    """Writes `engagement.toml` with these lines into a home folder, and gives the folder."""

    def write(*lines: str) -> Path:
        (tmp_path / "engagement.toml").write_text("\n".join(lines), encoding="utf-8")
        return tmp_path

    return write


def _came_from(settings: Settings, name: str) -> str:
    return next(knob.came_from for knob in knobs(settings) if knob.name == name)


def _error(**given: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(**given)
    return str(caught.value)


def test_the_file_wins_over_code_the_environment_over_the_file_and_arguments_over_all(
    home: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = home("inactive_days = 11")
    file, variable = str(folder / "engagement.toml"), "ENGAGEMENT_INACTIVE_DAYS"
    found = load_settings(home=folder)
    assert (found.inactive_days, _came_from(found, "inactive_days")) == (11, file)
    assert (found.new_member_days, _came_from(found, "new_member_days")) == (60, "default")
    monkeypatch.setenv(variable, "12")
    found = load_settings(home=folder)
    assert (found.inactive_days, _came_from(found, "inactive_days")) == (
        12,
        f"environment {variable}",
    )
    found = load_settings(home=folder, inactive_days=13)
    assert (found.inactive_days, _came_from(found, "inactive_days")) == (13, "given")


def test_an_argument_of_none_is_no_argument(home: Written) -> None:
    found = load_settings(home=home("inactive_days = 11"), inactive_days=None)
    assert found.inactive_days == 11
    assert _came_from(found, "inactive_days").endswith("engagement.toml")


def test_a_value_that_happens_to_be_the_default_still_came_from_where_it_came_from(
    home: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGAGEMENT_KEEP_SNAPSHOTS", "7")
    found = load_settings(home=home("inactive_days = 180"), moderate_min=1)
    assert _came_from(found, "keep_snapshots") == "environment ENGAGEMENT_KEEP_SNAPSHOTS"
    assert _came_from(found, "inactive_days").endswith("engagement.toml")
    assert _came_from(found, "moderate_min") == "given"


def test_the_home_folder_comes_from_the_environment_or_the_argument(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _came_from(load_settings(), "home") == "default"
    monkeypatch.setenv("ENGAGEMENT_HOME", str(tmp_path / "x" / ".."))
    found = load_settings()
    assert (found.home, found.source_folder) == (tmp_path, tmp_path / "data" / "raw")
    assert _came_from(found, "home") == "environment ENGAGEMENT_HOME"
    found = load_settings(home=tmp_path / "y")
    assert found.warehouse_path == tmp_path / "y" / "data" / "warehouse.duckdb"
    assert _came_from(found, "home") == "given"


def test_the_case_of_a_variable_does_not_matter(
    home: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("engagement_inactive_days", "12")
    found = load_settings(home=home())
    assert found.inactive_days == 12
    assert _came_from(found, "inactive_days") == "environment ENGAGEMENT_INACTIVE_DAYS"


def test_every_knob_says_what_it_does_and_has_a_default_within_its_bounds(tmp_path: Path) -> None:
    shown = knobs(load_settings(home=tmp_path))
    assert [knob.name for knob in shown] == list(Settings.model_fields)
    assert all(knob.description.endswith(".") and knob.value for knob in shown)


@pytest.mark.parametrize("name", [n for n, f in Settings.model_fields.items() if f.metadata])
def test_a_value_just_out_of_bounds_names_the_setting_what_was_expected_and_what_was_found(
    name: str, tmp_path: Path
) -> None:
    bounds: dict[str, float] = {
        side: getattr(rule, side)
        for rule in Settings.model_fields[name].metadata
        for side in ("ge", "le")
        if hasattr(rule, side)
    }
    agreeing = {"moderate_min": 1, "highly_engaged_min": 1_000, "profile": "test"}
    for side, bound in bounds.items():
        found = load_settings(home=tmp_path, **(agreeing | {name: bound}))
        assert getattr(found, name) == bound
        side_in_words, beyond = ("greater", bound - 1) if side == "ge" else ("less", bound + 1)
        told = re.search(
            rf"{name}: Input should be {side_in_words} than or equal to (\S+) \(found (\S+)\)",
            _error(home=tmp_path, **{name: beyond}),
        )
        assert told is not None
        assert [float(number) for number in told.groups()] == [bound, beyond]


@pytest.mark.parametrize("value", ["", "three", "1.5", "nan", "inf"])
def test_what_is_no_number_is_no_value_for_one(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGAGEMENT_MAX_REJECT_ROWS", value)
    assert (
        f"max_reject_rows: Input should be a valid integer, unable to parse string as an "
        f"integer (found {value!r})" in _error(home=tmp_path)
    )
    monkeypatch.delenv("ENGAGEMENT_MAX_REJECT_ROWS")
    if value != "1.5":
        monkeypatch.setenv("ENGAGEMENT_LOCK_TIMEOUT_SECONDS", value)
        assert "lock_timeout_seconds: Input should be" in _error(home=tmp_path)


def test_all_bad_settings_are_named_at_once(tmp_path: Path) -> None:
    text = _error(home=tmp_path, batch_rows=1, keep_snapshots=0, classifier="oracle")
    for name in ("batch_rows", "keep_snapshots", "classifier"):
        assert f"{name}: Input should be" in text


def test_an_unknown_key_in_the_file_is_an_error_that_names_it(home: Written) -> None:
    assert "inactive_day: " in _error(home=home("inactive_day = 3"))
    assert "pipeline: " in _error(home=home("[pipeline]", "inactive_days = 3"))


def test_an_unknown_argument_is_an_error_that_names_it(tmp_path: Path) -> None:
    assert "inactive_day: " in _error(home=tmp_path, inactive_day=3)


@pytest.mark.parametrize("content", [b"inactive_days =", b"x = '\xff'", b"\xff\xfei\0"])
def test_a_file_that_is_no_toml_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "engagement.toml"
    path.write_bytes(content)
    assert _error(home=tmp_path).startswith(f"{path}: expected TOML, found: ")


def test_a_list_in_the_environment_is_json_and_named_where_it_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGAGEMENT_SIGNIFICANT_SECTIONS", '["skills"]')
    assert load_settings(home=tmp_path).significant_sections == ("skills",)
    monkeypatch.setenv("ENGAGEMENT_SIGNIFICANT_SECTIONS", "skills")
    text = _error(home=tmp_path)
    assert '"significant_sections"' in text
    assert "expected JSON" in text


def test_thresholds_that_contradict_each_other_are_named_with_their_values(tmp_path: Path) -> None:
    text = _error(home=tmp_path, moderate_min=4)
    assert "moderate_min (4) must not be above highly_engaged_min (3)" in text
    assert load_settings(home=tmp_path, moderate_min=3).moderate_min == 3


def test_production_refuses_what_only_a_test_may_have(tmp_path: Path) -> None:
    text = _error(home=tmp_path, max_reject_share=0.51)
    assert "max_reject_share" in text
    assert "found 0.51" in text
    assert "`production`" in text
    assert load_settings(home=tmp_path, max_reject_share=0.5).max_reject_share == 0.5
    assert load_settings(home=tmp_path, profile="test", max_reject_share=1.0).profile == "test"


def test_settings_in_force_cannot_be_changed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings(home=tmp_path).moderate_min = 2


@pytest.mark.parametrize("port", ["99999", "port", "0"])
def test_an_address_with_a_port_that_cannot_be_is_named(port: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"webhook_url: expected an address such as"):
        load_settings(home=tmp_path, webhook_url=f"https://example.org:{port}/in")


def test_messages_never_leave_in_the_clear_in_production(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"webhook_url: expected https, or this machine"):
        load_settings(home=tmp_path, webhook_url="http://example.org/in")
    assert load_settings(home=tmp_path, webhook_url="http://127.0.0.1:9/in").webhook_url


def test_a_webhook_needs_an_address_and_in_production_a_secret(tmp_path: Path) -> None:
    given = {"home": tmp_path, "outreach_channel": "webhook"}
    with pytest.raises(SettingsError, match="webhook_url: expected an address"):
        load_settings(**given)
    given["webhook_url"] = "https://example.org/in"
    with pytest.raises(SettingsError, match="webhook_secret: expected one"):
        load_settings(**given)
    assert load_settings(**given, webhook_secret="hush-hush").outreach_channel == "webhook"
    assert load_settings(**given, profile="test").outreach_channel == "webhook"


def test_production_never_writes_to_who_was_here_a_moment_ago(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="inactivity_threshold_seconds below 3600"):
        load_settings(home=tmp_path, inactivity_threshold_seconds=60)
    given = load_settings(home=tmp_path, inactivity_threshold_seconds=60, profile="test")
    assert given.inactivity_threshold_seconds == 60


def test_the_secret_of_the_webhook_is_never_shown(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path, webhook_secret="hush-hush")
    assert "hush-hush" not in repr(settings)
    assert all("hush-hush" not in knob.value for knob in knobs(settings))
