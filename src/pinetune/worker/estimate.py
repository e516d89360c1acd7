"""When a running job will be done, from what its steps and evaluations took so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pinetune.worker.mirror import Shape

RECENT = 20  # steps; early ones are slower (caches) and lengths drift


def seconds_left(rows: Sequence[Mapping[str, Any]], shape: Shape) -> float | None:
    """None before the first step. The comparison at the end counts as two evaluations.

    >>> seconds_left([{"step": 1, "full_iteration_seconds": 2.0}, {"step": 2, "full_iteration_seconds": 4.0}], Shape(10, 5, 0))
    24.0
    """
    steps = [row["full_iteration_seconds"] for row in rows if row.get("full_iteration_seconds") is not None][-RECENT:]
    if not steps:
        return None
    done = int(rows[-1]["step"])
    evals = [row["eval_seconds"] for row in rows if row.get("eval_seconds") is not None]
    to_come = sum(shape.is_due(step) for step in range(done + 1, shape.total_steps + 1)) + (2 if shape.num_valid else 0)
    evaluating: float = to_come * sum(evals) / len(evals) if evals else 0.0
    training: float = (shape.total_steps - done) * sum(steps) / len(steps)
    return training + evaluating
