"""What a learner is told once, before the first step."""

from __future__ import annotations

from dataclasses import dataclass, field

from pinetune.errors import JobError
from pinetune.training.losses import LOSSES, LossSettings


@dataclass(frozen=True, slots=True)
class LearnerSettings:
    """The default recipe (DESIGN.md). Raises JobError on values no learner can work with."""

    learning_rate: float = 1e-5
    loss: str = "grpo"
    loss_settings: LossSettings = field(default_factory=LossSettings)
    warmup_steps: int = 5  # updates over which the rate rises linearly; constant afterwards
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    micro_batch_tokens: int = 0  # packed tokens computed at once; 0 = by device
    num_updates: int = 1  # optimizer updates per batch; above 1 the clipping comes into play
    bfloat16: bool = False  # matrix products in bfloat16 (autocast); weights and optimizer stay float32

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise JobError(f"loss {self.loss!r} is unknown; use {', '.join(LOSSES)}", "pinetune.loss")
        for name in ("learning_rate", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise JobError(f"{name} must be above 0, not {getattr(self, name)}", f"pinetune.{name}")
        if self.num_updates < 1:
            raise JobError(f"num_updates must be at least 1, not {self.num_updates}", "pinetune.num_updates")
