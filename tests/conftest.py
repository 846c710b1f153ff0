"""What holds for all tests: none of them asks the real model, whatever the environment."""

import os
import sys
from pathlib import Path

import hypothesis
import pytest

from tests.varied_source import AS_OF, write_varied_source

for _variable in [name for name in os.environ if name.startswith("ANTHROPIC_")]:
    del os.environ[_variable]
# Workers share few processors: a thread of OpenBLAS that waits for another by spinning takes its
# time from theirs, and a training then takes twice as long. NumPy reads it when it is loaded.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
# A proxy of the machine's must not be asked for the loopback servers of the tests.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"


# How long an example takes is the machine's affair; no test is a timed one.
# `make test-long` tries four times as many.
hypothesis.settings.register_profile(
    "untimed", deadline=None, max_examples=int(os.environ.get("EXAMPLES", "50"))
)
hypothesis.settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: begun last, one keeps a worker while the others idle."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_runtest_setup() -> None:
    """Where there are pictures, they are drawn once; where there are none, nothing is loaded."""
    if "engagement_pipeline.defs.pictures" in sys.modules:
        from tests.pictures import draw_once

        draw_once()


@pytest.fixture(scope="session")
def varied_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose warehouse has the signals of three organisations of thirty members; to copy."""
    from tests.home import refresh, settings_of

    folder = tmp_path_factory.mktemp("varied")
    source = write_varied_source(folder / "source", orgs=3, members=30)
    refresh(settings_of(folder / "home", source), AS_OF)
    return folder / "home"


@pytest.fixture(autouse=True)
def no_instance_of_another_test() -> None:
    """Dagster looks definitions up in the instance entered last, which may be gone with its files:
    a context that outlives its test puts it back when it is collected."""
    entered = sys.modules.get("dagster._core.storage.defs_state.base")
    if entered is not None:
        entered._current_storage.set(None)
