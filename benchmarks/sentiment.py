"""How fast texts are scored, beside the library that scores them, in one process.

    python -m benchmarks.sentiment --rows 1000000 --out results.json

Ours is what a run does about sentiment: VADER on all cores. The peer is `vaderSentiment` as it is,
called in a loop, on the same texts. Whole is all that a run does about new interactions: finds and
reads them, scores them in full, puts them into sessions and stores them; then once more, for a
hundredth of them that come late.
"""

import argparse
import json
import random
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

WORK = Path(__file__).parent / "work"
AS_OF = datetime(2026, 6, 29, 5, 30, tzinfo=UTC)
SEED = 20_260_629
ORGS, MEMBERS, DAYS = 100, 10_000, 90
LATE_SHARE = 0.01

_PLAIN_TEXT = (
    "the a to and of in is it we you they for on at with this that have will from there about our "
    "meeting choir song rehearsal garden street kitchen evening tomorrow yesterday morning people "
    "someone bring take make know think going came over under again still also maybe just then"
)
_RULE_WORDS = ("not", "never", "very", "really", "so", "but", "isn't", "don't", "kind of")
_ENDS = ("", "", ".", "!", "?", " :)", " 😀")


def texts(rows: int) -> Iterator[str]:
    """Different texts of 14 words on average: one in eight has a score, one in sixteen a rule."""
    from engagement_pipeline.behavior.sentiment import _analyzer

    chance = random.Random(SEED)
    plain = _PLAIN_TEXT.split()
    known = sorted(word for word in _analyzer().lexicon if word.isalpha())
    for row in range(rows):
        words = [
            chance.choice(known)
            if (drawn := chance.random()) < 1 / 8
            else chance.choice(_RULE_WORDS if drawn < 3 / 16 else plain)
            for _ in range(chance.randint(3, 25))
        ]
        yield f"{' '.join(words)} {row}{chance.choice(_ENDS)}"


def measure(rows: int, repeats: int) -> dict[str, Any]:
    """Seconds (median) of all three, peak memory, and the ratio."""
    found: dict[str, list[dict[str, float]]] = {"ours": [], "peer": [], "whole": []}
    for _ in range(repeats):
        for who, runs in found.items():
            runs.append(_child(who, rows))
    seconds = {who: statistics.median(r["seconds"] for r in runs) for who, runs in found.items()}
    whole = found["whole"]
    return {
        "texts": rows,
        "mean_characters": found["peer"][0]["mean_characters"],
        **{f"{who}_seconds": s for who, s in seconds.items()},
        "ratio": seconds["ours"] / seconds["peer"],
        "late_rows": whole[0]["late_rows"],
        "late_seconds": statistics.median(r["late_seconds"] for r in whole),
        "peak_gib": max(r["peak_gib"] for r in whole),
    }


def _child(step: str, rows: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.sentiment", "--step", step, "--rows", str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{step} failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _step(step: str, rows: int) -> dict[str, float]:
    if step == "whole":
        return _whole(rows)
    given = list(texts(rows))
    if step == "ours":
        from engagement_pipeline.defs.interaction_scoring import compound_on_all_cores

        started = time.perf_counter()
        compound_on_all_cores(given)
    else:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

        started = time.perf_counter()
        library = SentimentIntensityAnalyzer()
        for text in given:
            library.polarity_scores(text)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "mean_characters": sum(map(len, given)) / rows}


def _whole(rows: int) -> dict[str, float]:
    from engagement_pipeline.defs.interaction_scoring import score_new_interactions
    from engagement_pipeline.settings import load_settings
    from engagement_pipeline.warehouse.connection import Warehouse
    from engagement_pipeline.warehouse.schema import upgrade

    home = WORK / "sentiment"
    shutil.rmtree(home, ignore_errors=True)
    settings = load_settings(home=home, profile="test")
    late = int(rows * LATE_SHARE)
    with Warehouse.of(settings).open() as connection:
        upgrade(connection, now=AS_OF)
        _fill(connection, rows + late)
        connection.execute(
            f"CREATE TEMP TABLE late AS SELECT * FROM raw.interactions USING SAMPLE {late} ROWS"
        )
        connection.execute(
            "DELETE FROM raw.interactions WHERE interaction_id IN (SELECT interaction_id FROM late)"
        )
        started = time.perf_counter()
        score_new_interactions(connection, settings, as_of=AS_OF)
        seconds = time.perf_counter() - started
        connection.execute("INSERT INTO raw.interactions BY NAME SELECT * FROM late")
        started = time.perf_counter()
        score_new_interactions(connection, settings, as_of=AS_OF)
        late_seconds = time.perf_counter() - started
    shutil.rmtree(home)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "seconds": seconds,
        "late_rows": late,
        "late_seconds": late_seconds,
        "peak_gib": peak,
    }


def _fill(connection: Any, rows: int) -> None:
    """Put so many messages of the last 90 days into `raw.interactions`, a part at a time."""
    import polars as pl

    from engagement_pipeline.contracts import contract
    from engagement_pipeline.warehouse.frames import append

    chance = random.Random(SEED)
    given, made = texts(rows), 0
    while part := list(islice(given, 50_000)):
        members = [chance.randrange(MEMBERS) for _ in part]
        frame = pl.DataFrame(
            {
                "interaction_id": [f"i{made + n}" for n in range(len(part))],
                "org_id": [f"org-{member % ORGS}" for member in members],
                "user_id": [f"user-{member}" for member in members],
                "type": ["message"] * len(part),
                "text": part,
                "sent_at": [
                    AS_OF - timedelta(seconds=chance.randrange(DAYS * 86_400)) for _ in part
                ],
                "response_time_seconds": [chance.choice([None, 20.0, 300.0]) for _ in part],
            },
            schema=contract("raw.interactions").polars_schema,
        )
        append(connection, "raw.interactions", frame)
        made += len(part)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, action="append", default=None)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--step")
    given = parser.parse_args()
    if given.step:
        print(json.dumps(_step(given.step, given.rows[0])))
        return
    results = [measure(rows, given.repeats) for rows in given.rows or [1_000_000]]
    text = json.dumps(results, indent=2)
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
