"""The states of a fine-tuning job and the moves between them, as a table. Every move is one guarded UPDATE in `moves.py`.

created -> validating_files -> queued -> running -> succeeded
                                 ^          |----> failed
                                 |          v
                                 +------- paused          cancel: from any state that is not final
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"]
STATES: tuple[Status, ...] = ("validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled")
FINAL: tuple[Status, ...] = ("succeeded", "failed", "cancelled")
OPEN: tuple[Status, ...] = ("validating_files", "queued", "running", "paused")


@dataclass(frozen=True, slots=True)
class Move:
    """From any of `sources` to `target` (None = the state stays). `fenced` moves are the lease holder's alone."""

    name: str
    sources: tuple[Status, ...]
    target: Status | None
    fenced: bool
    ends_lease: bool  # afterwards no worker holds the job, and the one that did is refused
    message: str  # of the event stored with the move
    level: Literal["info", "warn", "error"] = "info"


_TABLE = (
    Move("validated", ("validating_files",), "queued", True, True, "Files validated, moving job to queued state"),
    Move("request_pause", ("running",), None, False, False, "Pause requested: the job stops after a checkpoint"),
    Move("paused", ("running",), "paused", True, True, "Fine-tuning job paused"),
    Move("resume", ("paused",), "queued", False, True, "Fine-tuning job resumed, moving job to queued state"),
    Move("change", ("paused",), None, False, False, "Settings changed"),
    Move("cancel", OPEN, "cancelled", False, True, "Fine-tuning job cancelled"),
    Move("succeed", ("running",), "succeeded", True, True, "The job has successfully completed"),
    Move("fail", ("validating_files", "running"), "failed", True, True, "The job failed", "error"),
    Move("requeue", ("running",), "queued", True, True, "The worker stopped, moving job to queued state", "warn"),
    Move("release", ("validating_files",), None, True, True, "The worker stopped, the files will be validated by another", "warn"),
    Move("lose", ("running",), "queued", False, True, "The worker stopped reporting, moving job to queued state", "warn"),
    Move("lose_validation", ("validating_files",), None, False, True, "The worker stopped reporting while validating files", "warn"),
    Move("give_up", ("validating_files", "running"), "failed", False, True, "The job failed", "error"),
)
MOVES = {move.name: move for move in _TABLE}
# Claiming is the one move that does not know its job beforehand: `leases.claim` writes it as UPDATE ... WHERE id = (SELECT ...).
CLAIM = {"validating_files": "validating_files", "queued": "running"}
