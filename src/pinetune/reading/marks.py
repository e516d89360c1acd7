"""What an expert thinks of an answer, kept beside the grade: marks.jsonl in the run folder, appended to, never rewritten.

A mark is a label from 0 (the answer is wrong) to 1 (it is right), as the grader bench reads them: every mark is a case that the grader
must get right from now on (`pinetune grader test --labels`).
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from pinetune.data.rows import load_rows
from pinetune.errors import DataError, UserError
from pinetune.reading.rollout_ids import RolloutId, parse_id
from pinetune.reading.search import Answer, find
from pinetune.records import Row
from pinetune.runs import files
from pinetune.runs.folder import RunFolder
from pinetune.runs.provenance import describe_file

WORDS = {"right": 1.0, "correct": 1.0, "wrong": 0.0, "incorrect": 0.0}


@dataclass(frozen=True, slots=True)
class Mark:
    """`reward` is the grade the answer had (None = could not be graded). `item` is the row, None where it was not at hand."""

    id: str  # the same for the same words of the same person on the same answer
    rollout: str
    label: float
    note: str
    by: str
    created_at: float  # Unix seconds
    reward: float | None
    answer: str
    messages: tuple[dict[str, Any], ...]
    item: dict[str, Any] | None = None

    @property
    def disagrees(self) -> bool:
        """The grade and the label are on different sides of one half, or there is no grade."""
        return self.reward is None or (self.reward >= 0.5) != (self.label >= 0.5)


def mark(folder: str | Path, rollout: RolloutId | str, verdict: float | str, *, note: str = "", by: str = "") -> Mark:
    """Keep a verdict on an answer: "right", "wrong", or a number from 0 to 1. Said again, it is kept once.

    Raises UserError for an unknown answer or verdict.
    """
    run = RunFolder(folder)
    label = label_of(verdict)
    answer = find(folder, parse_id(rollout) if isinstance(rollout, str) else rollout)
    name = hashlib.sha256("\x1f".join([str(answer.id), repr(label), note, by]).encode()).hexdigest()[:16]
    made = Mark(
        f"mark_{name}", str(answer.id), label, note, by, time.time(), answer.reward, answer.answer, answer.messages, _item(run, answer)
    )
    known = next((one for one in marks(folder) if one.rollout == made.rollout and one.by == by), None)
    if known is not None and known.id == made.id:
        return known
    files.append_line(run.marks_file, asdict(made))
    return made


def label_of(verdict: float | str) -> float:
    """Raises UserError."""
    text = str(verdict).strip().lower()
    try:
        label = WORDS[text] if text in WORDS else float(text)
    except ValueError:
        label = math.nan
    if not 0 <= label <= 1:
        raise UserError(f"verdict {verdict!r}: write right, wrong, or a number from 0 (wrong) to 1 (right)")
    return label


def marks(folder: str | Path) -> list[Mark]:
    """What stands, oldest first: of several marks of one person on one answer the newest. Raises DataError for a changed file."""
    names = {one.name for one in fields(Mark)}
    path = RunFolder(folder).marks_file
    standing: dict[tuple[str, str], Mark] = {}
    for line, body in enumerate(files.read_lines(path), 1):
        try:
            made = Mark(**{key: value for key, value in body.items() if key in names})
        except TypeError as error:
            raise DataError(f"{path}:{line}: is no mark ({error}); it was changed after Pinetune wrote it") from None
        standing.pop((made.rollout, made.by), None)  # a newer word moves to the end
        standing[made.rollout, made.by] = replace(made, messages=tuple(made.messages))
    return list(standing.values())


def export(folder: str | Path, path: str | Path, rows: Sequence[Row] = ()) -> int:
    """Write the marks as labelled answers, the form `pinetune grader test --labels` reads; the number written.

    `rows`: the run's training rows, for marks made where they were not at hand. Several experts' marks of one answer are a line each.
    Raises UserError where there is no mark, or a row is not known.
    """
    standing = marks(folder)
    if not standing:
        raise UserError(f"{folder}: no marks yet; make one: pinetune read {folder} --mark ID --verdict wrong --note WHY")
    by_messages = {_said(row.messages): dict(row.item) for row in rows}
    lines = []
    for one in standing:
        item = one.item or by_messages.get(_said(one.messages))
        if item is None:
            raise UserError(f"{one.rollout}: its row is not known here; give the file the run was trained on: --data TRAIN.jsonl")
        about = {"rollout": one.rollout, "by": one.by, "note": one.note, "reward": one.reward}
        lines.append({"item": item, "answer": one.answer, "label": one.label, "mark": about})
    files.write_lines(Path(path), lines)
    return len(lines)


def _item(run: RunFolder, answer: Answer) -> dict[str, Any] | None:
    if answer.item is not None:
        return answer.item
    said = _said(answer.messages)
    return next((dict(row.item) for row in training_rows(run) if _said(row.messages) == said), None)


def training_rows(run: RunFolder) -> list[Row]:
    """The rows the run was trained on, where its file lies in the run folder or beside it and is still the same; else []."""
    if not run.provenance_file.exists():
        return []
    told = run.read_provenance().get("data_files", {}).get("training_file")
    for folder in (run.path, run.path.parent, Path()):
        path = folder / str((told or {}).get("name"))
        if told and path.is_file() and describe_file(path)["sha256"] == told["sha256"]:
            return load_rows(path, max_rows=None)
    return []


def _said(messages: Sequence[Any]) -> str:
    return json.dumps([dict(message) for message in messages], sort_keys=True)
