"""What a preflight is asked to do, and what its parts share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pinetune.judges.service import JudgeService
from pinetune.records import Grader, Row
from pinetune.wire.fine_tuning import JobBody


@dataclass(frozen=True, slots=True)
class PreflightOptions:
    """`samples` of the base on each of `rows` rows are drawn and graded to see whether the task can be learned."""

    rows: int = 16
    samples: int = 8  # a group, as training draws it
    model: bool = True  # False: only what needs no model (data and grader)
    bench_rows: int = 8
    bench_rows_judge: int = 2  # a row costs about 35 grades, each of which is paid for
    seed: int = 0
    source: str | None = None  # where the weights are, for a caller who knows
    trusted_grader: bool = False
    told: Callable[[str], None] = lambda _: None  # progress, a few words


@dataclass(frozen=True, slots=True)
class Subject:
    """The job under check, its files read."""

    body: JobBody
    beside: Path
    names: Mapping[str, str]  # role ("training_file") -> the file's name as findings show it
    rows: Mapping[str, list[Row]]  # by role
    grader: Grader
    judges: JudgeService
    options: PreflightOptions

    @property
    def train(self) -> list[Row]:
        return self.rows["training_file"]

    @property
    def definition(self) -> Mapping[str, object]:
        return self.body.method.reinforcement.grader

    @property
    def schema(self) -> Mapping[str, object] | None:
        response = self.body.method.reinforcement.response_format
        return response.json_schema.schema_ if response else None
