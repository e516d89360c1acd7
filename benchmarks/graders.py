"""Python grades per second: the warm sandbox, a fresh confined interpreter per call, and the bare function, in turn in one run.

Run: python benchmarks/graders.py [--rounds 15]. Prints one markdown table; each figure is a median over the rounds, and within a
round the three sides take turns, so that a busy machine slows all of them. "fresh" is the same confinement without the warm
pool: start, load the source, grade once, end. "bare" calls the function in this process, unconfined, with the same arguments.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pinetune.demo import gene_grader
from pinetune.sandbox.levels import CONFINED, LEVELS
from pinetune.sandbox.limits import Limits
from pinetune.sandbox.pool import WarmPool

WARM_CALLS, BARE_CALLS = 50, 500
NUMPY = """
import numpy as np
def grade(sample, item):
    said, wanted = np.array(json.loads(sample["output_text"])), np.array(item["vector"])
    return float(said @ wanted / (np.linalg.norm(said) * np.linalg.norm(wanted)))
import json
"""
SAMPLE = {"output_text": json.dumps({"genes": ["TSC2", "TSC1", "NF1"], "explanation": "Cortical tubers and facial angiofibroma."})}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "trivial": ('def grade(sample, item):\n    return float(sample["output_text"] == item["answer"])\n', SAMPLE, {"answer": "x"}),
    "gene ranking (JSON)": (Path(gene_grader.__file__).read_text(), SAMPLE, {"reference_answer": "TSC1"}),
    "numpy at module level": (NUMPY, {"output_text": json.dumps([0.1] * 64)}, {"vector": [0.2] * 64}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--level", choices=list(CONFINED), default=next((name for name, problem in CONFINED.items() if problem() is None), None)
    )
    arguments = parser.parse_args()
    if arguments.level is None:
        sys.exit("this host cannot confine; `pinetune doctor` says why")
    print(f"Level {arguments.level}, one grading thread, medians of {arguments.rounds} rounds.\n")
    print("| source | fresh ms | warm ms | grades/s | fresh / warm | bare us | warm / bare |")
    print("|---|---|---|---|---|---|---|")
    for name, case in CASES.items():
        print(row(name, *measure(*case, arguments.level, arguments.rounds)), flush=True)


def measure(
    source: str, sample: dict[str, Any], item: dict[str, Any], level: str, rounds: int
) -> tuple[list[float], list[float], list[float]]:
    """Seconds a call, one value a round: fresh, warm, bare."""
    scope: dict[str, Any] = {"__name__": "grader"}
    exec(compile(source, "grader.py", "exec"), scope)
    wanted = float(scope["grade"](sample, item))
    pool = WarmPool(source, LEVELS[level], Limits(), size=1)

    def warm() -> float | None:
        return pool.call(sample, item).value

    def fresh() -> float | None:
        once = WarmPool(source, LEVELS[level], Limits(), size=1)
        value = once.call(sample, item).value
        once.close()
        return value

    sides: list[tuple[Callable[[], float | None], int]] = [
        (fresh, 1),
        (warm, WARM_CALLS),
        (lambda: scope["grade"](sample, item), BARE_CALLS),
    ]
    for call, _ in sides:
        assert call() == wanted
    times: tuple[list[float], list[float], list[float]] = ([], [], [])
    for _ in range(rounds):
        for (call, count), seconds in zip(sides, times, strict=True):
            start = time.perf_counter()
            for _ in range(count):
                call()
            seconds.append((time.perf_counter() - start) / count)
    pool.close()
    return times


def row(name: str, fresh: list[float], warm: list[float], bare: list[float]) -> str:
    """Ratios are medians of the rounds' own ratios: both sides of one were measured within the same moments."""
    gain = statistics.median(f / w for f, w in zip(fresh, warm, strict=True))
    cost = statistics.median(w / b for w, b in zip(warm, bare, strict=True))
    a, b, c = (statistics.median(side) for side in (fresh, warm, bare))
    return f"| {name} | {a * 1e3:.1f} | {b * 1e3:.2f} | {1 / b:,.0f} | **{gain:.0f}x** | {c * 1e6:.1f} | {cost:,.0f}x |"


if __name__ == "__main__":
    main()
