"""The settings as people are shown them: each knob, its value, and where that came from.

What the knobs are belongs to `settings`.
"""

import os
import tomllib
from dataclasses import dataclass
from typing import Any

from engagement_pipeline.settings import ENV_PREFIX, SETTINGS_FILE, Settings


@dataclass(frozen=True)
class Knob:
    """One setting as it is shown to people; a secret's value is masked."""

    name: str
    value: str
    came_from: str
    description: str


def knobs(settings: Settings) -> list[Knob]:
    """Every setting with its value, where that came from, and what it does."""
    toml_path = settings.home / SETTINGS_FILE
    in_file: dict[str, Any] = (
        tomllib.loads(toml_path.read_text("utf-8")) if toml_path.is_file() else {}
    )
    in_environment = {variable.upper() for variable in os.environ}  # their case does not matter
    rows = []
    for name, field in type(settings).model_fields.items():
        variable = str(field.validation_alias or f"{ENV_PREFIX}{name.upper()}")
        if name in settings.given:
            came_from = "given"
        elif variable.upper() in in_environment:
            came_from = f"environment {variable}"
        elif name in in_file and name != "home":  # the file is looked for in the home folder
            came_from = str(toml_path)
        else:
            came_from = "default"
        value = str(getattr(settings, name))
        rows.append(Knob(name, value, came_from, field.description or ""))
    return rows
