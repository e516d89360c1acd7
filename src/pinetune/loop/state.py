"""What the loop must remember to go on exactly where it was, as JSON beside the weights of a checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Protocol


@dataclass(slots=True)
class LoopState:
    """Everything but weights, optimizer and random state. `step` counts finished steps."""

    step: int = 0
    best_step: int = 0
    best_reward: float | None = None  # held-out reward at best_step
    evals_without_gain: int = 0
    judged_step: int = 0  # the last step that was evaluated
    trained_tokens: int = 0
    seconds: float = 0.0  # worked so far, over all sessions
    saved_at: float = 0.0  # `seconds` at the last checkpoint
    curriculum: dict[str, Any] = field(default_factory=dict)
    ungraded_shares: list[float] = field(default_factory=list)
    stop_reason: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Checkpoints(Protocol):
    """Where the loop keeps its states; the caller decides on folders and formats."""

    def save(self, state: LoopState) -> None:
        """Weights, optimizer, random state and `state`, complete or not at all."""
        ...

    def load_latest(self) -> LoopState | None:
        """Put the newest complete checkpoint into the learner and return its state; None when there is none."""
        ...

    def load_step(self, step: int) -> None:
        """Put the weights of an earlier step into the learner (to go back to the best)."""
        ...
