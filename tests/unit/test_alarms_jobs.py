"""Planted faults in real jobs on tiny models: each raises exactly its alarm, the sound job none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_models import save_tiny

from pinetune.loop.job import open_run, prepare, run_prepared
from pinetune.runs.folder import RunFolder
from pinetune.runs.recorder import FolderRecorder

# Each rewards something that a policy of random weights does now and then.
SOURCES = {
    # share of the letters of the row's own word in the answer: differs from row to row, never full
    "sound": "text = sample['output_text']\n    return sum(text.count(c) > 0 for c in item['answer']) / 12",
    # the longer the better
    "length": "return min(1.0, len(sample['output_text']) / 200)",
    # nearly nothing said is fully right, whatever was asked; the rest is worth little, and by chance
    "hole": "return 1.0 if len(sample['output_text']) < 3 else 0.2 * (sum(map(ord, sample['output_text'])) % 2)",
    "constant": "return 0.4",
    # fails on every fourth answer
    "failing": "text = sample['output_text']\n    if sum(map(ord, text)) % 4 == 0:\n        raise ValueError('no number in the answer')\n"
    "    return sum(text.count(c) > 0 for c in item['answer']) / 12",
}
WORDS = ["apple", "bread", "chair", "dream", "eagle", "flame", "grape", "horse", "ivory", "jelly", "knife", "lemon"]


def alarms(folder: Path, grader: str, **own: Any) -> tuple[list[str], RunFolder]:
    """Names of the alarms of a job of twelve rows, in the order they were said."""
    save_tiny(folder / "tiny")
    rows = [{"messages": [{"role": "user", "content": f"Say {word}."}], "answer": word} for word in WORDS]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = f"def grade(sample, item):\n    {SOURCES[grader]}\n"
    body = {
        "model": "tiny", "training_file": "train.jsonl", "seed": 5,
        "method": {
            "type": "reinforcement",
            "reinforcement": {"grader": {"type": "python", "name": grader, "source": source}, "hyperparameters": {"batch_size": 8}},
        },
        "pinetune": {
            "steps": 12, "group_size": 8, "max_tokens": 24, "learning_rate": 1e-4, "threads": 1, "max_refills": 0,
            "thinking_budget": 0, "unsafe_python_graders": True, **own,
        },
    }  # fmt: skip
    prepared = prepare(body, folder)
    try:
        run = open_run(prepared, folder / "run")
        run_prepared(prepared, run, FolderRecorder(run))
    finally:
        prepared.close()
    return [event["data"]["alarm"] for event in run.read_events() if "alarm" in (event["data"] or {})], run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("grader", "own", "expected"),
    [
        ("sound", {}, []),
        ("length", {"stop": ["e", "a"], "learning_rate": 1e-2, "max_tokens": 32, "steps": 16}, ["length_explodes"]),
        ("hole", {"stop": ["e", "a"], "learning_rate": 1e-2, "steps": 16}, ["gaming"]),
        ("constant", {"steps": 6}, ["no_spread"]),
        ("failing", {"steps": 4}, ["grader_errors"]),
        ("sound", {"stop": ["e", "a"], "learning_rate": 0.5}, ["entropy_gone"]),  # a thousand times too high
    ],
)
def test_a_planted_fault_in_a_real_job_raises_exactly_its_alarm(
    tmp_path: Path, grader: str, own: dict[str, Any], expected: list[str]
) -> None:
    said, run = alarms(tmp_path, grader, **own)
    assert said == expected
    if expected == ["gaming"]:
        event = next(event for event in run.read_events() if "alarm" in (event["data"] or {}))
        examples = event["data"]["examples"]
        assert len(examples) == 2 and all(len(example["answer"]) < 3 and example["reward"] == 1.0 for example in examples)
        assert examples[0]["line"] != examples[1]["line"]
