"""The demo as a job like any other: its files, the body of `POST /v1/fine_tuning/jobs`, and the classical tool to compare with."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pinetune.demo.cases import write_cases
from pinetune.demo.facts import FactTable, load_facts
from pinetune.demo.grader import gene_grader_definition
from pinetune.demo.ranker import PhenotypeRanker
from pinetune.models.names import MINIATURE
from pinetune.records import Row

HELD_OUT = "held-out cases of genes never trained on"
SEED = 1  # of the genes' split, the cases and the training


@dataclass(frozen=True, slots=True)
class DemoJob:
    """Files written, ready to run."""

    job_file: Path
    body: dict[str, Any]
    tool: Callable[[Row], str]


def make_demo(folder: Path, *, quick: bool, seed: int = SEED) -> DemoJob:
    """Write train.jsonl, valid.jsonl, test.jsonl and job.json into `folder`; `quick` trains fewer steps on the same path."""
    table = load_facts()
    paths = write_cases(table, folder, seed)
    body = job_body({name: path.name for name, path in paths.items()}, quick=quick, seed=seed)
    job_file = folder / "job.json"
    job_file.write_text(json.dumps(body, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return DemoJob(job_file, body, classical_tool(table))


def job_body(files: dict[str, str], *, quick: bool, seed: int) -> dict[str, Any]:
    """What a user would send, with the miniature's settings. "auto" stays where the default recipe is right."""
    steps = 20 if quick else 160
    hyperparameters = {"batch_size": 16, "eval_interval": 10 if quick else 20, "eval_samples": 1}
    own = {
        "steps": steps,
        "group_size": 8,
        # Measured: at 1e-4, the default for its size, the same curve takes twice the steps (docs/miniature.md).
        "learning_rate": 3e-4,
        "max_tokens": 192,  # a thorough answer has about 100
        "thinking_budget": 144,
        "max_refills": 0,
        "budget_minutes": 6,  # two quiet cores take three; a slow machine still ends with its evidence within eight
        "test_file": files["test"],
    }
    return {
        "model": MINIATURE,
        "training_file": files["train"],
        "validation_file": files["valid"],
        "suffix": "gene-expert",
        "seed": seed,
        "method": {"type": "reinforcement", "reinforcement": {"grader": gene_grader_definition(), "hyperparameters": hyperparameters}},
        "pinetune": own,
    }


def classical_tool(table: FactTable) -> Callable[[Row], str]:
    """The classical ranker on the same fact table, reading the findings off the same prompt the model reads."""
    ranker = PhenotypeRanker(table.profiles())

    def answer(row: Row) -> str:
        present, excluded = findings_in(str(row.messages[-1]["content"]))
        ranked = ranker.rank(present, excluded)
        return json.dumps({"genes": [gene for gene, score in ranked[:10] if score > 0], "explanation": "information-weighted overlap"})

    return answer


def findings_in(prompt: str) -> tuple[list[str], list[str]]:
    """Present and excluded findings of a case's text.

    >>> findings_in("A man.\\nPresent: Seizure; Cortical tubers.\\nAbsent: Scoliosis.\\nWhich genes?")
    (['Seizure', 'Cortical tubers'], ['Scoliosis'])
    """
    found: dict[str, list[str]] = {"Present: ": [], "Absent: ": []}
    for line in prompt.splitlines():
        for opening, findings in found.items():
            if line.startswith(opening):
                findings += line.removeprefix(opening).rstrip(".").split("; ")
    return found["Present: "], found["Absent: "]
