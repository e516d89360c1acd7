"""`POST /v1/pinetune/preflight`: what is known of a job before it runs. The request is the body that would create the job."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

Verdict = Literal["ok", "look", "stop"]  # go on; read this first; the job would fail or teach nothing


class AlikeRows(BaseModel):
    """Two rows, by file and line (from 1)."""

    file: str
    line: int
    other_file: str
    other_line: int
    alike: float  # 1 = the same text
    what: str


class PreflightFinding(BaseModel):
    """`kind` is a word for programs, `text` is for people; files are called `training_file`, `validation_file`, ..."""

    verdict: Verdict
    kind: str
    text: str
    pairs: list[AlikeRows]
    lines: list[tuple[str, int]]


class PreflightPart(BaseModel):
    """`data` or `grader`."""

    name: str
    verdict: Verdict
    findings: list[PreflightFinding]
    figures: dict[str, Any]


class PreflightObject(BaseModel):
    object: Literal["preflight"] = "preflight"
    verdict: Verdict
    parts: list[PreflightPart]
