"""How long a search over many rollouts takes: a run of 100,000 of them is written once, then asked.

    python benchmarks/read_rollouts.py [--rollouts 100000] [--steps 100]

Prints one table: answers that fit, wall and processor seconds of the best of five.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from pinetune.reading.search import Query, search
from pinetune.records import Completion, Grade, Group, Prompt, Rollout, Row
from pinetune.runs.folder import RunFolder
from pinetune.runs.rollout_table import write_rollouts

WORDS = [
    "seizure",
    "ataxia",
    "nystagmus",
    "cortical",
    "tubers",
    "angiofibroma",
    "renal",
    "cyst",
    "long",
    "QT",
    "interval",
    "of",
    "the",
    "because",
]
QUERIES: dict[str, dict[str, Any]] = {
    "newest 20": {},
    "text, rare": {"text": "pheochromocytoma"},
    "text, common": {"text": "ataxia"},
    "regular expression": {"regex": r'"genes": \["TSC[12]"'},
    "reward 0, cut off": {"reward_max": 0.0, "finish": "length"},
    "a grader part": {"part": ("format", 0.0, 0.5)},
    "one step": {"step": 50},
    "highest rewards": {"sort": "-reward"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rollouts", type=int, default=100_000)
    parser.add_argument("--steps", type=int, default=100)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder) / "run")
        write(run, asked.rollouts, asked.steps)
        size = sum(path.stat().st_size for path in run.rollouts.iterdir())
        print(f"{asked.rollouts:,} rollouts in {asked.steps} files, {size / 1e6:.0f} MB")
        print(f"{'search':20} {'fit':>8} {'wall s':>8} {'cpu s':>8}")
        for name, filters in QUERIES.items():
            total, wall, cpu = best_of_five(run.path, Query(**filters))
            print(f"{name:20} {total:8,} {wall:8.2f} {cpu:8.2f}")


def best_of_five(run: Path, query: Query) -> tuple[int, float, float]:
    times = []
    for _ in range(5):
        wall, cpu = time.perf_counter(), time.process_time()
        total = search([run], query).total
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    return total, min(wall for wall, _ in times), min(cpu for _, cpu in times)


def write(run: RunFolder, rollouts: int, steps: int) -> None:
    """Thinking of about 100 words and a ranked list, as the miniature's answers are; one in 5,000 names a rare word."""
    draw = random.Random(0)
    run.rollouts.mkdir(parents=True)
    for step in range(1, steps + 1):
        groups = []
        for index in range(rollouts // steps // 8):
            row = Row(index, ({"role": "user", "content": " ".join(draw.choices(WORDS, k=40))},), {})
            groups.append(Group(row, Prompt((1,) * 60), tuple(rollout(draw, index, s) for s in range(8))))
        write_rollouts(run.rollouts / f"step-{step:05d}.parquet", step, groups)


def rollout(draw: random.Random, row: int, sample: int) -> Rollout:
    thought = " ".join(draw.choices(WORDS, k=100)) + (" Pheochromocytoma" if draw.random() < 1 / 5000 else "")
    answer = f'{{"genes": ["{draw.choice(["TSC1", "TSC2", "FBN1", "PKD1", "VHL"])}"], "explanation": "fits {draw.randint(0, 6)} of 6"}}'
    completion = Completion((1,) * 8, (-0.1,) * 8, (False,) * 8, draw.choice(("stop", "stop", "stop", "length")), answer, thought, 6)
    return Rollout(row, sample, 0, completion, Grade("ok", draw.choice((0.0, 0.49, 0.7, 1.0)), parts={"format": draw.random()}))


if __name__ == "__main__":
    main()
