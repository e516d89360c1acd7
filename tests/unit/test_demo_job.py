"""The demo's job is a job like any other, and the classical ranker reads the prompt the model reads."""

from __future__ import annotations

import json
from pathlib import Path

from pinetune.data.rows import load_rows
from pinetune.demo.cases import CASES, case_text, demo_cases
from pinetune.demo.facts import load_facts
from pinetune.demo.job import findings_in, make_demo
from pinetune.loop.config import parse_job


def test_the_body_is_a_valid_job_and_its_files_are_there(tmp_path: Path) -> None:
    job = make_demo(tmp_path, quick=False)
    body = parse_job(json.loads(job.job_file.read_text()))
    assert body.validation_file is not None and body.pinetune.test_file is not None
    files = {"train": body.training_file, "valid": body.validation_file, "test": body.pinetune.test_file}
    assert {name: len(load_rows(tmp_path / file)) for name, file in files.items()} == CASES


def test_quick_differs_in_steps_alone(tmp_path: Path) -> None:
    whole, quick = (make_demo(tmp_path / name, quick=name == "quick").body for name in ("whole", "quick"))
    assert quick["pinetune"].pop("steps") < whole["pinetune"].pop("steps")
    for body in (whole, quick):
        body["method"]["reinforcement"]["hyperparameters"].pop("eval_interval")
    assert quick == whole


def test_findings_are_read_back_from_every_prompt() -> None:
    for cases in demo_cases(load_facts(), 1).values():
        for case in cases:
            assert findings_in(case_text(case)) == (list(case.present), list(case.excluded))


def test_the_ranker_answers_in_the_form_the_grader_wants(tmp_path: Path) -> None:
    job = make_demo(tmp_path, quick=True)
    rows = load_rows(tmp_path / "test.jsonl")[:20]
    answers = [json.loads(job.tool(row))["genes"] for row in rows]
    assert all(0 < len(genes) <= 10 and len(set(genes)) == len(genes) for genes in answers)
    assert sum(row.item["reference_answer"] in genes[:3] for row, genes in zip(rows, answers, strict=True)) >= 18
