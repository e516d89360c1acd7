"""k-fold runs of a tiny job: every row judged once, by a model that did not see it."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from tiny_models import save_tiny

from pinetune.data.rows import load_rows
from pinetune.errors import DataError, JobError, ModelError
from pinetune.loop.job import job_identity
from pinetune.loop.kfold import run_folds
from pinetune.runs.folder import RunFolder
from pinetune.runs.provenance import json_sha256
from pinetune.runs.recorder import FolderRecorder

WORDS = ["apple", "bread", "chair", "dream", "eagle", "flame"]


def job(folder: Path) -> dict[str, Any]:
    rows = [{"messages": [{"role": "user", "content": f"Say {word}, number {i}."}], "answer": word} for i in range(2) for word in WORDS]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:8]))
    (folder / "valid.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[8:]))
    grader = {"type": "python", "name": "letters", "source": "def grade(s, i):\n    return min(1.0, len(set(s['output_text'])) / 30)\n"}
    return {
        "model": "tiny", "training_file": "train.jsonl", "validation_file": "valid.jsonl",
        "method": {"type": "reinforcement", "reinforcement": {"grader": grader}},
        "pinetune": {"steps": 2, "group_size": 4, "max_tokens": 12, "threads": 1, "unsafe_python_graders": True},
    }  # fmt: skip


@pytest.mark.slow
def test_each_row_is_judged_once_by_a_model_that_did_not_see_its_answer(tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny")
    opened: list[str] = []

    def open_recorder(folder: RunFolder) -> Any:
        opened.append(folder.path.name)
        return nullcontext(FolderRecorder(folder))

    report = run_folds(job(tmp_path), tmp_path, tmp_path / "out", 3, open_recorder)
    assert opened == ["fold-1", "fold-2", "fold-3"]
    assert (report.base.reward.n, report.tuned.reward.n, report.gain.num_rows) == (12, 12, 12)
    judged = [row.item["messages"][0]["content"] for n in (1, 2, 3) for row in load_rows(tmp_path / f"out/fold-{n}-data/test.jsonl")]
    assert sorted(judged) == sorted(f"Say {word}, number {i}." for i in range(2) for word in WORDS)
    for n in (1, 2, 3):
        answers = [
            {r.item["answer"] for r in load_rows(tmp_path / f"out/fold-{n}-data/{part}.jsonl")} for part in ("train", "valid", "test")
        ]
        assert [len(of_part) for of_part in answers] == [2, 2, 2] and len(set.union(*answers)) == 6
    assert json.loads((tmp_path / "out/folds.json").read_text())["rows"] == 12
    opened.clear()
    assert run_folds(job(tmp_path), tmp_path, tmp_path / "out", 3, open_recorder) == report
    assert opened == []


def test_folds_of_another_deal_are_not_pooled_with_new_ones(tmp_path: Path) -> None:
    body = job(tmp_path)
    (tmp_path / "out").mkdir()
    rows = [dict(row.item) for name in ("train", "valid") for row in load_rows(tmp_path / f"{name}.jsonl")]
    begun = job_identity(body, {"rows": json_sha256(rows), "k": 3})
    (tmp_path / "out/recipe.json").write_text(json.dumps({"k": 3, "rows": 12, "sha256": begun}))
    for changed, k in ((body, 4), ({**body, "seed": 7}, 3)):
        with pytest.raises(JobError, match="out holds folds of another job, other rows or another -k; choose another --out"):
            run_folds(changed, tmp_path, tmp_path / "out", k, lambda _: pytest.fail("no fold may run"))
    with pytest.raises(ModelError, match="tiny"):  # the same deal gets as far as the model, which is not there
        run_folds(body, tmp_path, tmp_path / "out", 3, lambda _: pytest.fail("no fold may run"))


def test_labels_that_must_recur_are_dealt_by_prompt(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": f"Is {i // 2} even?"}], "answer": "yes" if i % 4 < 2 else "no"} for i in range(12)]
    body = job(tmp_path)
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "valid.jsonl").write_text("")
    del body["validation_file"]
    with pytest.raises(DataError, match="2 different answers"):
        run_folds(body, tmp_path, tmp_path / "out", 3, lambda _: pytest.fail("no fold may run"))
    body["pinetune"]["allow_answer_overlap"] = True
    with pytest.raises(ModelError, match="tiny"):
        run_folds(body, tmp_path, tmp_path / "out", 3, lambda _: pytest.fail("no fold may run"))
    parts = {name: load_rows(tmp_path / f"out/fold-1-data/{name}.jsonl") for name in ("train", "valid", "test")}
    prompts = [{row.messages[0]["content"] for row in of_part} for of_part in parts.values()]
    assert [len(of_part) for of_part in parts.values()] == [4, 4, 4]
    assert [len(of_part) for of_part in prompts] == [2, 2, 2] and len(set.union(*prompts)) == 6  # a prompt's two rows lie together


def test_too_few_folds_or_answers_are_refused(tmp_path: Path) -> None:
    open_recorder: Any = None
    with pytest.raises(JobError, match="2 folds leave nothing to train on"):
        run_folds(job(tmp_path), tmp_path, tmp_path / "out", 2, open_recorder)
    with pytest.raises(DataError, match="6 different answers"):
        run_folds(job(tmp_path), tmp_path, tmp_path / "out", 7, open_recorder)
