"""Deciding and planning read no clock and open nothing: every moment is an argument."""

import ast
from pathlib import Path

import pytest

import engagement_pipeline.outreach as package

FOLDER = Path(package.__file__).parent
MODULES = sorted(path for path in FOLDER.glob("*.py"))
"""Of the package itself; `delivery`, which sends, is a package of its own below it."""

CLOCKS = {"now", "utcnow", "today", "time", "time_ns", "monotonic", "perf_counter", "sleep"}
CLOCK_KEEPERS = {"datetime", "date", "time", "dt"}
DOORS = {"open", "print", "input"}
DRAWERS = {"random", "secrets", "uuid"}


def impurities(source: str) -> list[str]:
    """What a module calls or imports that asks the world."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            keeper = node.func.value
            name = keeper.attr if isinstance(keeper, ast.Attribute) else getattr(keeper, "id", "")
            if node.func.attr in CLOCKS and name in CLOCK_KEEPERS:
                found.append(f"{name}.{node.func.attr}")
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in DOORS:
            found.append(node.func.id)
        elif isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] in {*DRAWERS, "time"}]
        elif isinstance(node, ast.ImportFrom) and (node.module or "") in {*DRAWERS, "time"}:
            found.append(node.module)
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_no_module_asks_the_world(path):
    assert impurities(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "from datetime import datetime\nx = datetime.now()",
        "import datetime\nx = datetime.datetime.now(tz=None)",
        "import datetime as dt\nx = dt.date.today()",
        "import time",
        "from time import time",
        "import random",
        "open('x')",
    ],
)
def test_whatever_asks_the_world_is_seen(source):
    assert impurities(source)
