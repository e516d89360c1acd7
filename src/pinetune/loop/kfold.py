"""`pinetune folds JOB.json`: k-fold for few rows. The recipe is judged on all rows, each by a model that did not see it.

    out/fold-1 ... out/fold-k    ordinary run folders; out/recipe.json (what was dealt), out/folds.json

Fold i is the test set of run i, fold i + 1 chooses its step, the others train: no choice is made on what judges. Answers stay together,
or, where the job allows answers to recur (`allow_answer_overlap`: labels of a closed set), prompts do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pinetune.data.rows import load_rows, write_rows
from pinetune.errors import JobError
from pinetune.evals.evaluate import Comparison, align, compare
from pinetune.evals.folds import make_folds, pool
from pinetune.loop.config import parse_job
from pinetune.loop.finish import finish
from pinetune.loop.job import evidence_options, job_identity, open_run, prepare, run_prepared
from pinetune.records import EvalReport, Recorder, Row
from pinetune.runs.files import read_json, write_json
from pinetune.runs.folder import RunFolder
from pinetune.runs.provenance import json_sha256
from pinetune.wire.fine_tuning import JobBody

OpenRecorder = Callable[[RunFolder], AbstractContextManager[Recorder]]
FEWEST = 3  # one to judge, one to choose the step, one to train on
SEED = 1  # where the job names none


class Stopped(Exception):
    """A person asked to stop; the same command goes on."""


@dataclass(frozen=True, slots=True)
class FoldsReport:
    """Base and tuned over all rows; `tuned` comes from `k` models of one recipe."""

    k: int
    base: EvalReport
    tuned: EvalReport
    gain: Comparison

    def as_json(self) -> dict[str, Any]:
        shown = {name: {"reward": asdict(r.reward), **{m: asdict(i) for m, i in r.metrics.items()}} for name, r in self._reports()}
        return {"k": self.k, **shown, "gain": asdict(self.gain.reward), "rows": self.gain.num_rows}

    def _reports(self) -> list[tuple[str, EvalReport]]:
        return [("base", self.base), ("tuned", self.tuned)]


def run_folds(raw: Mapping[str, Any], beside: Path, out: Path, k: int, open_recorder: OpenRecorder) -> FoldsReport:
    """All rows of the job's files in `k` folds, one run each; what is finished is not done again.

    Raises JobError or DataError where the rows do not allow it or `out` holds other folds, Stopped where a person asked to.
    """
    body = parse_job(raw)
    if k < FEWEST:
        raise JobError(f"{k} folds leave nothing to train on: one judges, one chooses the step; ask for {FEWEST} or more")
    rows, own = _all_rows(body, beside), body.pinetune
    made = make_folds(rows, k, own.answer_field, file=body.training_file, by_answer=not own.allow_answer_overlap)
    folds = [list(fold.held_out) for fold in made]
    _begin(raw, rows, out, k)
    for number in range(k):
        folder = out / f"fold-{number + 1}"
        if not (RunFolder(folder).evals / "final-tuned.json").exists():
            _run_fold(raw, body, beside, folder, folds, number, open_recorder)
    reports = [[RunFolder(out / f"fold-{n + 1}").read_eval(f"final-{which}") for n in range(k)] for which in ("base", "tuned")]
    options = evidence_options(body, rows)
    base, tuned = (pool(of, name, **options) for of, name in zip(reports, ("base", "tuned"), strict=True))
    base, tuned = align([base, tuned], **options)
    report = FoldsReport(k, base, tuned, compare(base, tuned, **options))
    write_json(out / "folds.json", report.as_json())
    return report


def _begin(raw: Mapping[str, Any], rows: list[Row], out: Path, k: int) -> None:
    """Write down what is dealt, or go on with the very same: finished folds of another deal would be pooled with the new ones."""
    file, ours = out / "recipe.json", job_identity(raw, {"rows": json_sha256([dict(row.item) for row in rows]), "k": k})
    if file.exists() and read_json(file)["sha256"] != ours:
        raise JobError(f"{out} holds folds of another job, other rows or another -k; choose another --out, or remove it to start anew")
    write_json(file, {"k": k, "rows": len(rows), "sha256": ours})


def _all_rows(body: JobBody, beside: Path) -> list[Row]:
    """Of all the job's files, numbered anew."""
    names = [name for name in (body.training_file, body.validation_file, body.pinetune.test_file) if name is not None]
    found = [row for name in names for row in load_rows(beside / Path(name).expanduser())]
    return [Row(index, row.messages, row.item, row.tools, index + 1) for index, row in enumerate(found)]


def _run_fold(
    raw: Mapping[str, Any], body: JobBody, beside: Path, folder: Path, folds: list[list[Row]], number: int, open_recorder: OpenRecorder
) -> None:
    judged, chosen = number, (number + 1) % len(folds)
    data = folder.with_name(f"{folder.name}-data")
    train = [row for n, fold in enumerate(folds) for row in fold if n not in (judged, chosen)]
    parts = {"train": train, "valid": folds[chosen], "test": folds[judged]}
    for name, rows in parts.items():
        write_rows(data / f"{name}.jsonl", [row.item for row in rows])
    paths = {name: str((data / f"{name}.jsonl").resolve()) for name in parts}
    own = {**raw.get("pinetune", {}), "test_file": paths["test"]}
    seed = body.seed if body.seed is not None else SEED
    prepared = prepare({**raw, "training_file": paths["train"], "validation_file": paths["valid"], "seed": seed, "pinetune": own}, beside)
    try:
        run = open_run(prepared, folder)
        with open_recorder(run) as recorder:
            state = run_prepared(prepared, run, recorder)
            if state.stop_reason == "stopped":
                raise Stopped
            finish(prepared, run, recorder, state)
    finally:
        prepared.close()
