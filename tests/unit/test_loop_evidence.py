"""Whether held-out rows with one answer count as one fact or as several."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from grading import CHECK

from pinetune.loop.config import parse_job
from pinetune.loop.job import check, evidence_options
from pinetune.models.names import MINIATURE
from pinetune.records import Row

METHOD = {"type": "reinforcement", "reinforcement": {"grader": {**CHECK, "name": "same"}}}
GENES = [f"GENE{n}" for n in range(49)]


def together(answers: list[Any], **own: Any) -> bool:
    body = parse_job({"model": "m", "training_file": "t", "method": METHOD, "pinetune": own})
    rows = [Row(n, ({"role": "user", "content": str(n)},), {"answer": answer}) for n, answer in enumerate(answers)]
    options = evidence_options(body, rows)
    assert set(options) == {"answer_field", "cluster_by_answer"}
    return bool(options["cluster_by_answer"])


@pytest.mark.parametrize("overlap", [True, False])
def test_many_answers_vary_together_also_on_a_server_which_allows_overlap_to_all(overlap: bool) -> None:
    assert together(GENES * 5, allow_answer_overlap=overlap)


def test_labels_stand_alone_where_they_may_recur() -> None:
    assert not together(["yes", "No", "YES", "no"] * 50, allow_answer_overlap=True)
    assert together(["yes", "no"] * 50)  # a job that forbids overlap says that its answers are no labels
    assert together(["yes", "no"] * 4, allow_answer_overlap=True)  # 4 rows an answer: not enough to call the set closed


def test_few_answers_that_do_not_recur_in_training_are_no_labels(tmp_path: Path) -> None:
    def checked(answers: str, **own: Any) -> bool:
        for name, letters in (("train", "ABCD"), ("valid", answers)):
            lines = ({"messages": [{"role": "user", "content": f"{name} {n}"}], "answer": letters[n % len(letters)]} for n in range(40))
            (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        files = {"training_file": "train.jsonl", "validation_file": "valid.jsonl"}
        raw = {"model": MINIATURE, **files, "method": METHOD, "pinetune": {"allow_answer_overlap": True, **own}}
        job = check(raw, tmp_path)
        job.close()
        return bool(evidence_options(job.body, job.rows["validation_file"])["cluster_by_answer"])

    assert checked("WXYZ")
    assert not checked("DXYZ")
    assert not checked("WXYZ", cluster_by_answer=False)


def test_the_job_has_the_last_word() -> None:
    assert together(["yes", "no"] * 50, allow_answer_overlap=True, cluster_by_answer=True)
    assert not together(GENES * 5, cluster_by_answer=False)


def test_rows_without_an_answer_field_leave_the_question_to_the_rows() -> None:
    assert together([None] * 20, allow_answer_overlap=True)
