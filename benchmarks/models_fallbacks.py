"""What serves where no model may: each fault brought about in a small home, by the real jobs."""

import csv
import json
import random
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.models_homes import A_MODEL_SERVES, MODELS_WIN, Home, environment, home_at
from benchmarks.models_page import table

AS_OF = datetime(2026, 6, 29, 4, tzinfo=UTC)
NEXT_DAY = AS_OF + timedelta(days=1)
SEED = 20_260_629
HORIZON_DAYS, CUTOFFS = 30, 12
LONG_AGO = AS_OF - timedelta(days=HORIZON_DAYS * CUTOFFS + 60)
_SHA256 = re.compile(r"\b[0-9a-f]{12}(?:[0-9a-f]{52})?\b")
"""Of a model's file, whole and in its name: no two trainings write the same bytes."""

Came = list[tuple[datetime, list[datetime]]]
"""A member each: when they joined, and when they came."""


def study(_data: Path, command: str) -> str:
    """Bring each fault about, and give the section."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="models-") as folder, environment({}):
        trained = _made(Path(folder), "many", _quitters(300))
        rows.append(_row("no model yet", trained, is_trained=False))
        trained.train(AS_OF)
        rows.append(_row("trained", trained))
        for name, spoil in _SPOILT.items():
            home = _copied(trained, name.replace(" ", "-"))
            spoil(home.settings.models_folder)
            home.run(NEXT_DAY)
            rows.append(_row(name, home))
        for name, members in {
            "499 samples": _few(499),
            "500 samples": _few(500),
            "one class: everybody comes weekly": [(LONG_AGO, _every(7)) for _ in range(60)],
        }.items():
            home = _made(Path(folder), name.partition(":")[0].replace(" ", "-"), members)
            home.train(AS_OF)
            home.run(NEXT_DAY)
            rows.append(_row(name, home))
    head = ["case", "training", "serves churn", "confidence", "`a_model_serves`"]
    head.append("`models_beat_their_baselines`")
    return "\n".join(
        [
            "### What serves where no model may",
            "",
            f"`{command}`",
            "",
            "An invented club in a home of its own, through the real jobs: `engagement run`, "
            "`engagement train-models`, a fault, and `engagement run` on the next day. Confidence "
            "is that of the least and the most certain prediction. No run failed, and no level "
            "waited. The club has no messages, so mood and timing never have a model, which is "
            "why the second check warns in the row that went well too; of it the part about "
            "churn is shown.",
            "",
            *table(head, rows, words=len(head)),
        ]
    )


def _row(name: str, home: Home, *, is_trained: bool = True) -> list[str]:
    found = home.rows(
        "SELECT any_value(churn_model) AS model, count(DISTINCT churn_model) AS models, "
        "min(confidence) AS low, max(confidence) AS high FROM behavior.predictions"
    ).row(0, named=True)
    assert found["models"] == 1, f"{name}: expected one model of all members, found {found}"
    said, ended = "", "none"
    if is_trained:
        training, _ = home.trained("churn")
        ended = f"{training['outcome']}, {training['samples']:,} samples"
        said = _verdict(home, MODELS_WIN, of="churn")
    return [
        name,
        ended,
        f"`{found['model']}`",
        f"{found['low']:.2f} to {found['high']:.2f}" if found["high"] else "0",
        _verdict(home, A_MODEL_SERVES),
        said,
    ]


def _verdict(home: Home, which: tuple[tuple[str, str], str], of: str = "") -> str:
    is_passed, why = home.check(which)
    if of:
        parts = [part for part in why.split("; ") if part.startswith(f"{of}: ")]
        is_passed, why = not parts, "".join(parts)
    why = _SHA256.sub("…", why.replace(f"{home.settings.home}/", ""))
    return "passes" if is_passed else f"warns: {why}"


def _flipped(models: Path) -> None:
    (path,) = models.glob("churn-*.skops")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _of_other_versions(models: Path) -> None:
    path = models / "churn.json"
    report: dict[str, Any] = json.loads(path.read_text())
    report["versions"]["scikit-learn"] = "1.5.0"
    path.write_text(json.dumps(report))


def _gone(models: Path) -> None:
    (path,) = models.glob("churn-*.skops")
    path.unlink()


_SPOILT: dict[str, Callable[[Path], None]] = {
    "one bit of the file flipped": _flipped,
    "file of other versions": _of_other_versions,
    "file gone": _gone,
}


def _made(folder: Path, name: str, members: Came) -> Home:
    """A home of these members in which the pipeline has run once."""
    source = folder / name / "source"
    _write(source, members)
    home = home_at(folder / name, source)
    home.run(AS_OF)
    return home


def _copied(home: Home, name: str) -> Home:
    folder = home.settings.home.parent / name
    shutil.copytree(home.settings.home, folder)
    return home_at(folder, folder / "source")


def _every(days: float, until: datetime = AS_OF) -> list[datetime]:
    since = LONG_AGO + timedelta(days=days)
    return [since + n * timedelta(days=days) for n in range(int((until - since).days // days) + 1)]


def _quitters(members: int) -> Came:
    """Who comes weekly and who comes every 25 days, each until some day.

    After ten days away the one has left and the other has not: recency cannot tell them apart.
    """
    dice = random.Random(SEED)
    span = (AS_OF - LONG_AGO).days
    return [
        (LONG_AGO, _every(days, LONG_AGO + timedelta(days=dice.uniform(40, span * 1.5))))
        for days in (7.0 if n % 2 else 25.0 for n in range(members))
    ]


def _few(samples: int) -> Came:
    """As many members as make so many samples: one at each of the past moments they were in."""
    whole, rest = divmod(samples, CUTOFFS)
    late = AS_OF - timedelta(days=HORIZON_DAYS * rest + 1)
    return [*_quitters(whole), (late, [late + timedelta(days=1)])]


def _write(folder: Path, members: Came) -> None:
    users = [f"user-{n:04}" for n in range(len(members))]
    at = [
        (user, joined, sorted({min(one, AS_OF) for one in came if one >= joined}))
        for user, (joined, came) in zip(users, members, strict=True)
    ]
    _csv(folder / "organizations.csv", ["org_id", "name"], [["club", "Club"]])
    _csv(
        folder / "memberships.csv",
        ["org_id", "user_id", "joined_at"],
        (["club", user, joined.isoformat()] for user, joined, _ in at),
    )
    _csv(
        folder / "attendance.csv",
        ["org_id", "event_id", "user_id", "status", "created_at", "responded_at"],
        (
            ["club", f"event-{one:%Y%m%d}", user, "attended", one.isoformat(), one.isoformat()]
            for user, _, came in at
            for one in came
            if one < AS_OF
        ),
    )


def _csv(path: Path, head: Sequence[str], rows: Iterator[Sequence[str]] | list[list[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)
