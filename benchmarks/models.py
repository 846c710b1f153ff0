"""What the models of behaviour are worth, and the sections of `docs/models.md` that say so.

    python -m benchmarks.models cdnow --data ../shared/data
    python -m benchmarks.models all

Each study measures, draws its pictures, and writes its own section; the others stay as they are.
`cdnow`, `communities` and `tweets` need public data that is not ours to ship.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    models_cdnow,
    models_communities,
    models_cost,
    models_fallbacks,
    models_tweets,
)
from benchmarks.models_page import PAGE, with_section
from engagement_pipeline.settings import PROJECT_FOLDER

DATA = PROJECT_FOLDER.parent / "shared" / "data"
COMMAND = "python -m benchmarks.models"
WITHOUT_DATA = 2

STUDIES: dict[str, Callable[[Path, str], str]] = {
    "cdnow": models_cdnow.study,
    "communities": models_communities.study,
    "tweets": models_tweets.study,
    "cost": models_cost.study,
    "fallbacks": models_fallbacks.study,
}
NEEDS: dict[str, tuple[str, ...]] = {
    "cdnow": (models_cdnow.FOLDER,),
    "communities": tuple(models_communities.COMMUNITIES),
    "tweets": (str(models_tweets.FILE),),
}
"""Study -> what it needs of the data folder."""


def main() -> None:
    """Run the studies asked for, and write each section when it is measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=[*STUDIES, "all"])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the public data")
    given = parser.parse_args()
    chosen = list(STUDIES) if given.study == "all" else [given.study]
    missing = [
        given.data / name
        for study in chosen
        for name in NEEDS.get(study, ())
        if not (given.data / name).exists()
    ]
    if missing:
        told = ", ".join(map(str, missing))
        print(f"expected public data that is not there: {told}; see --data", file=sys.stderr)
        raise SystemExit(WITHOUT_DATA)
    for study in chosen:
        section = STUDIES[study](given.data, f"{COMMAND} {study}")
        # Read again each time: a study takes minutes, in which somebody may write elsewhere in it.
        page = with_section(PAGE.read_text(encoding="utf-8"), study, section)
        PAGE.write_text(page, encoding="utf-8")
        print(f"{study}: written to {PAGE}")


if __name__ == "__main__":
    main()
