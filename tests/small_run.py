"""A run folder of ten answers, written by the run folder's own code: for tests of reading.

path = write_run(tmp_path / "run")
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pinetune.evals.evaluate import build_report
from pinetune.records import Completion, Grade, Group, Prompt, Rollout, Row
from pinetune.runs.folder import RunFolder
from pinetune.runs.rollout_table import write_rollouts


def row(index: int, reference: str = "TSC2") -> Row:
    messages = ({"role": "user", "content": f'case "{index}"'},)
    return Row(index, messages, {"messages": list(messages), "reference_answer": reference}, line=index + 1)


def rollout(of: Row, sample: int, answer: str, reward: float | None, **more: Any) -> Rollout:
    parts = {"format": more.get("form", 1.0), 'odd "na.me"': -0.25}
    grade = Grade("error", explanation="boom", error_kind="other_error") if reward is None else Grade("ok", reward, parts=parts)
    count = more.get("tokens", 3)
    completion = Completion(
        (1,) * count, (-0.1,) * count, (False,) * count, more.get("finish", "stop"), answer, more.get("reasoning", "hm"), 1
    )  # fmt: skip
    return Rollout(of.index, sample, 0, completion, grade)


def write_run(path: Path) -> Path:
    """Two steps of two rows with two samples each, and two reports."""
    folder = RunFolder(path)
    folder.rollouts.mkdir(parents=True)
    steps = {
        1: [
            (rollout(row(0), 0, "TSC1", 0.0, form=0.0), rollout(row(0), 1, "TSC2 (ataxia)", 1.0, tokens=9)),
            (rollout(row(1), 0, "no", None), rollout(row(1), 1, "", 0.5, finish="length", reasoning="Ataxia?\nfits TSC2")),
        ],
        2: [
            (rollout(row(0), 0, "TSC2", 1.0), rollout(row(0), 1, "a.b", 0.25)),
            (rollout(row(2), 0, "x", 0.5), rollout(row(2), 1, "y", 0.5)),
        ],
    }
    for step, pairs in steps.items():
        groups = [Group(row(pair[0].row_index), Prompt((1, 2)), pair) for pair in pairs]
        write_rollouts(folder.rollouts / f"step-{step:05d}.parquet", step, groups)
    report = build_report(2, "step 2", [Group(row(5), Prompt((1,)), (rollout(row(5), 0, "held-out ataxia", 0.75),))], None, 1.0)
    folder.write_eval(report)
    folder.write_eval(
        build_report(2, "tuned", [Group(row(5), Prompt((1,)), (rollout(row(5), 0, "final", 0.0),))], None, 1.0), "final-tuned"
    )
    return folder.path
