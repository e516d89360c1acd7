"""Writes the two job files beside this script: what a user would send, with the gene grader as a python grader.

python benchmarks/rare/jobs.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pinetune.demo.grader import gene_grader_definition

# Job -> its `pinetune` section. Lengths fit the longest reasoning; the rest was fixed before the test rows were read.
OWN: dict[str, dict[str, Any]] = {
    "hybrid": {"max_tokens": 128, "thinking_budget": 80, "group_size": 16, "learning_rate": 3e-4},
    "plain": {"max_tokens": 300, "thinking_budget": 240, "group_size": 16, "learning_rate": 3e-4, "budget_minutes": 7},
}


def job_body(name: str) -> dict[str, Any]:
    data = f"../../runs/rare/{name}"
    return {
        "model": f"../../runs/rare/{name}-base",
        "training_file": f"{data}/train.jsonl",
        "validation_file": f"{data}/valid.jsonl",
        "suffix": f"rare-{name}",
        "seed": 1,
        "method": {
            "type": "reinforcement",
            "reinforcement": {
                "grader": gene_grader_definition(),
                "hyperparameters": {"batch_size": 16, "eval_interval": 10, "eval_samples": 2},
            },
        },
        "pinetune": {"steps": 150, "max_refills": 0, "patience": 6, "budget_minutes": 16, **OWN[name], "test_file": f"{data}/test.jsonl"},
    }


if __name__ == "__main__":
    for name in OWN:
        text = json.dumps(job_body(name), indent=2, ensure_ascii=False) + "\n"
        Path(__file__).with_name(f"{name}.job.json").write_text(text, encoding="utf-8")
