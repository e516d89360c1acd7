"""A run as one JSONL file: what was measured first, then every item as it was graded, the sum last. Made without a server.

A killed run goes on where it stopped: the items that stand in the file are not asked for again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pinetune.errors import UserError
from pinetune.evals.items import Item, tally
from pinetune.evals.measures import label
from pinetune.runs import files

KIND = "pinetune_eval_run"  # the first line's mark, with the version of this format
VERSION = 1


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run wherever it stands: a file, or the store of a server. `items` are output items with their `status`."""

    name: str
    eval_name: str
    model: str
    created_at: float
    status: str
    items: Sequence[Mapping[str, Any]]
    result: Mapping[str, Any]
    criteria: Sequence[str] = ()
    params: Mapping[str, Any] | None = None
    data: str = ""  # what the rows' file was called
    graders: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # criterion id -> its definition, where it is known

    def regraded(self, other: StoredRun) -> list[str]:
        return graded_differently(self.graders, other.graders)


class RunFile:
    """A run that is being made."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, header: Mapping[str, Any]) -> frozenset[int]:
        """Start the file, or go on with one that was begun with the same `header`; the positions that it has.

        `header`: eval, model, criteria (ids), data, settings. Raises UserError where the file holds something else.
        """
        lines = files.read_lines(self.path)
        if not lines:
            files.append_line(self.path, {KIND: VERSION, "created_at": time.time(), **header})
            return frozenset()
        _check(lines, self.path)
        wrong = sorted(key for key in header if files.finite(header[key]) != lines[0].get(key))
        if wrong:
            raise UserError(f"{self.path}: holds a run with other {', '.join(wrong)}; choose another --out, or remove it")
        return frozenset(line["position"] for line in lines[1:] if "position" in line)

    def keep(self, items: Sequence[Item]) -> None:
        for item in items:
            files.append_line(self.path, {"position": item.position, "status": item.status, **item.body})

    def end(self) -> StoredRun:
        """Write the sum, once."""
        run = read_run(self.path)
        if run.status != "completed":
            files.append_line(self.path, {"result": dict(run.result), "finished_at": time.time()})
        return read_run(self.path)


def read_run(path: Path) -> StoredRun:
    """Raises UserError for a file that is no run."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; `pinetune eval list` shows the runs there are")
    lines = files.read_lines(path)
    _check(lines, path)
    head, ended = lines[0], any("result" in line for line in lines[1:])
    items = sorted((line for line in lines[1:] if "position" in line), key=lambda line: int(line["position"]))
    return StoredRun(
        name=path.stem,
        eval_name=head["eval"],
        model=head["model"],
        created_at=head["created_at"],
        status="completed" if ended else "in_progress",
        items=items,
        result=tally(((item["status"], item) for item in items), head["criteria"]),
        criteria=head["criteria"],
        params=(head.get("settings") or {}).get("params"),
        data=(head.get("data") or {}).get("name", ""),
        graders={str(grader["id"]): grader for grader in head.get("graders") or []},
    )


def is_run(path: Path) -> bool:
    """Whether the file begins as a run does; nothing more of it is read."""
    with path.open("rb") as file:
        return f'"{KIND}"'.encode() in file.read(64)


def graded_differently(ours: Mapping[str, Mapping[str, Any]], theirs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names of criteria (id -> definition) that both have, by other definitions: their numbers do not measure the same."""
    mine, other = ({label(id): _grading(body) for id, body in graders.items()} for graders in (ours, theirs))
    return sorted(name for name in mine.keys() & other.keys() if mine[name] != other[name])


def _grading(definition: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in files.finite(dict(definition)).items() if key not in ("id", "name")}


def _check(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    if not lines or lines[0].get(KIND) != VERSION:
        raise UserError(f"{path}: is no run of `pinetune eval run`; name another file")
