"""The learner: one batch of samples in, one optimizer update of the policy out.

    samples -> micro-batches -> packed forward -> log-probs by chunk -> loss / trained tokens of the step -> gradients
            -> clip -> AdamW

It knows nothing of rewards or prompts' texts: advantages and masks were settled per token before (pack.py).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pinetune.errors import ModelError
from pinetune.models.load import LoadedModel
from pinetune.records import TrainSample, UpdateReport
from pinetune.training.budget import default_token_budget
from pinetune.training.forward import PolicyForward, completion_logprobs, completion_targets
from pinetune.training.losses import LOSSES, SEQUENCE_LEVEL, LossInputs, Metrics, k3_penalty, loss_inputs
from pinetune.training.optimizer import Optimizer
from pinetune.training.pack import MicroBatch, num_trained_tokens, pack
from pinetune.training.policy_gradient import add_metrics, backward_by_chunk, backward_whole
from pinetune.training.randomness import random_state, restore_random_state
from pinetune.training.settings import LearnerSettings

SMALLEST_BUDGET = 64  # below this, halving again would not save memory: one sample is what does not fit


class GrpoLearner:
    """Trains the trainable parameters of `loaded.model` in place: all weights, or the LoRA adapters only.

    With a KL penalty the reference is the model as it was when the learner was made (before `load`): the frozen base under
    LoRA, else a copy.
    """

    def __init__(self, loaded: LoadedModel, settings: LearnerSettings | None = None) -> None:
        self.loaded = loaded
        self.settings = settings or LearnerSettings()
        self.device = loaded.device
        self.optimizer = Optimizer(
            loaded.model,
            betas=self.settings.betas,
            weight_decay=self.settings.weight_decay,
            max_grad_norm=self.settings.max_grad_norm,
        )
        if not self.optimizer.parameters:
            raise ModelError(f"{loaded.source} has no trainable parameters")
        self.token_budget = self.settings.micro_batch_tokens or default_token_budget(loaded)
        needs_copy = self.settings.loss_settings.kl_coefficient > 0 and not loaded.is_lora
        self._reference = copy.deepcopy(loaded.model).requires_grad_(False) if needs_copy else None

    def learning_rate(self) -> float:
        """The rate of the next update: rising linearly at first, then constant."""
        return self.settings.learning_rate * min(1.0, (self.optimizer.num_updates + 1) / max(1, self.settings.warmup_steps))

    def step(self, samples: Sequence[TrainSample]) -> UpdateReport:
        """One update (or `num_updates`) on `samples`. Skipped, weights untouched, when nothing is trained or a gradient is not finite."""
        num_tokens = num_trained_tokens(samples)
        if num_tokens == 0:
            return UpdateReport(0, 0.0, 0.0, self.learning_rate(), skipped="no trained tokens")
        report = self._update(samples, num_tokens)
        for _ in range(self.settings.num_updates - 1):
            if report.skipped:
                break
            report = self._update(samples, num_tokens)
        return report

    def _update(self, samples: Sequence[TrainSample], num_tokens: int) -> UpdateReport:
        loss, metrics = self._gradients(samples, num_tokens)
        numbers = {name: float(value) for name, value in metrics.items()}
        norm = self.optimizer.clip()
        report = UpdateReport(num_tokens, float(loss), norm, self.learning_rate(), metrics=numbers)
        if not (torch.isfinite(loss) and norm < float("inf")):
            self.optimizer.zero()
            return replace(report, skipped="non-finite gradient" if torch.isfinite(loss) else "non-finite loss")
        self.optimizer.update(report.learning_rate)
        return report

    def _gradients(self, samples: Sequence[TrainSample], num_tokens: int) -> tuple[Tensor, Metrics]:
        """Fill `.grad`. On out-of-memory the step starts over with half the budget: a failed backward leaves partial gradients."""
        while True:
            self.optimizer.zero()
            try:
                return self._try_gradients(samples, num_tokens)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or self.token_budget <= SMALLEST_BUDGET:
                    raise
            self.token_budget //= 2
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _try_gradients(self, samples: Sequence[TrainSample], num_tokens: int) -> tuple[Tensor, Metrics]:
        loss, metrics = torch.zeros((), device=self.device), Metrics()
        forward = PolicyForward(self.loaded.model, bfloat16=self.settings.bfloat16)
        with forward.precision():
            for batch in pack(samples, self.token_budget):
                part, part_metrics = self._backward(forward, batch, num_tokens)
                loss += part
                add_metrics(metrics, part_metrics)
            forward.finish()
        return loss, metrics

    def _backward(self, forward: PolicyForward, batch: MicroBatch, num_tokens: int) -> tuple[Tensor, Metrics]:
        samples = [sample for group in batch for sample in group]
        inputs = loss_inputs(samples, self.device, self._reference_logprobs(batch))
        settings, policy_loss = self.settings.loss_settings, LOSSES[self.settings.loss]

        def loss_of(logprobs: Tensor, inputs: LossInputs) -> tuple[Tensor, Metrics]:
            loss, metrics = policy_loss(logprobs, inputs, num_tokens, settings)
            if settings.kl_coefficient > 0:
                penalty, penalty_metrics = k3_penalty(logprobs, inputs, num_tokens, settings)
                loss, metrics = loss + penalty, metrics | penalty_metrics
            return loss, metrics

        backward = backward_whole if self.settings.loss in SEQUENCE_LEVEL else backward_by_chunk
        loss, metrics = backward(forward.completions(batch), forward.head, completion_targets(batch, self.device), inputs, loss_of)
        metrics["entropy"] = metrics["entropy"] / num_tokens
        return loss, metrics

    def _reference_logprobs(self, batch: MicroBatch) -> Tensor | None:
        if self.settings.loss_settings.kl_coefficient <= 0:
            return None
        with torch.no_grad(), self._reference_model() as model:
            forward = PolicyForward(model, bfloat16=self.settings.bfloat16)
            with forward.precision():
                return completion_logprobs(forward, batch)[0]

    @contextmanager
    def _reference_model(self) -> Iterator[torch.nn.Module]:
        if self._reference is not None:
            yield self._reference
        else:
            with self.loaded.model.disable_adapter():
                yield self.loaded.model

    def save(self, folder: str) -> None:
        """Trainable weights, optimizer and random state, for an exact resume."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        save_file({n: t.contiguous() for n, t in self.optimizer.weights().items()}, target / "weights.safetensors")
        save_file({n: t.contiguous() for n, t in self.optimizer.moments().items()}, target / "optimizer.safetensors")
        state = {"num_updates": self.optimizer.num_updates, "token_budget": self.token_budget, "random": random_state()}
        (target / "learner.json").write_text(json.dumps(state), encoding="utf-8")

    def load(self, folder: str) -> None:
        """Take over what `save` wrote. Raises ModelError when it belongs to another model."""
        source = Path(folder)
        try:
            self.optimizer.load_weights(load_file(source / "weights.safetensors", device=str(self.device)))
        except (KeyError, RuntimeError) as error:
            raise ModelError(
                f"{source} holds the weights of another model than {self.loaded.source} (first difference: {error})"
            ) from error
        self.optimizer.load_moments(load_file(source / "optimizer.safetensors", device=str(self.device)))
        state = json.loads((source / "learner.json").read_text(encoding="utf-8"))
        self.optimizer.num_updates, self.token_budget = state["num_updates"], state["token_budget"]
        restore_random_state(state["random"])


def is_out_of_memory(error: BaseException) -> bool:
    """CUDA says so by type, the CPU allocator by words."""
    words = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in words or "not enough memory" in words
