"""Jobs on given answers (supervised, dpo): check, resolve every "auto", train in epochs, judge at each epoch's end, export.

What differs between the two methods is an Objective; files, settings, order, checkpoints and resume are here. As in `run.py`,
everything random is derived from (seed, epoch), so a killed job ends with the same weights. The last weights are the result, as
on the hosted product: whoever asks for three epochs gets three.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from pydantic import ValidationError

from pinetune.errors import JobError
from pinetune.loop.checkpoints import LearnerCheckpoints
from pinetune.loop.config import JobFacts, base_learning_rate, lora_of
from pinetune.loop.finish import export
from pinetune.loop.state import LoopState
from pinetune.models.load import LoadedModel, LoraSettings, Reader, load_model, open_reader
from pinetune.records import Recorder
from pinetune.rollout.run import derive_seed
from pinetune.runs.folder import RunFolder
from pinetune.runs.provenance import describe_file, json_sha256, provenance
from pinetune.training.budget import default_token_budget
from pinetune.training.learner import GrpoLearner
from pinetune.training.settings import LearnerSettings
from pinetune.wire.base import complaints
from pinetune.wire.jobs import CreateJob

EPOCHS = 3  # of "auto"; the hosted product's usual choice for files of this size
KEEP_EPOCHS = 3  # checkpoints of the last epochs stay, as there
FINAL_RATE = 0.1  # of the peak, reached by a cosine
WARMUP_SHARE = 0.05  # of all steps
SAVE_EVERY_SECONDS = 120.0


class Objective(Protocol):
    """What is learned from the rows of one method."""

    num_train: int
    num_valid: int
    rate_factor: float  # of the rate with which reinforcement moves the same model
    longest: int  # tokens

    def begin(self, loaded: LoadedModel, learner: GrpoLearner, config: TextConfig) -> None:
        """Before any weight has moved, at each start of the process."""
        ...

    def update(self, rows: Sequence[int], rate: float) -> dict[str, Any]:
        """One optimizer step on these training rows; its metrics, `trained_tokens` among them."""
        ...

    def measure(self) -> dict[str, Any]:
        """Metrics of the validation rows."""
        ...


OpenObjective = Callable[[LoadedModel | Reader, Mapping[str, Path]], Objective]


@dataclass(frozen=True, slots=True)
class TextConfig:
    """What training reads; no "auto" left."""

    seed: int
    steps: int
    steps_per_epoch: int
    n_epochs: int
    batch_size: int
    learning_rate: float
    learning_rate_multiplier: float
    beta: float  # of dpo; 0 = not used
    lora_rank: int
    lora_alpha: float
    budget: int  # tokens computed at once
    bfloat16: bool

    def rate(self, step: int) -> float:
        """Of step `step`, from 0: linear warm-up, then a cosine down to a tenth."""
        warmup = max(1, math.ceil(WARMUP_SHARE * self.steps))
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        progress = (step - warmup) / max(1, self.steps - warmup)
        return self.learning_rate * (FINAL_RATE + (1 - FINAL_RATE) * (1 + math.cos(math.pi * progress)) / 2)

    def rows_of(self, step: int, num_train: int) -> list[int]:
        """Of step `step`, from 0; each epoch has an order of its own, and its last batch may be smaller."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        order = list(range(num_train))
        random.Random(derive_seed(self.seed, "epoch", epoch)).shuffle(order)
        return order[batch * self.batch_size : (batch + 1) * self.batch_size]


class TextJob:
    """See methods.MethodJob."""

    def __init__(
        self, raw: Mapping[str, Any], files: Mapping[str, Path], loaded: LoadedModel, objective: Objective, config: TextConfig
    ) -> None:
        self._raw, self._files, self._loaded, self._objective, self._config = raw, files, loaded, objective, config
        self.is_lora = loaded.is_lora

    @classmethod
    def prepare(cls, raw: Mapping[str, Any], beside: Path, source: str, objective: OpenObjective) -> TextJob:
        """`objective` reads the files, with the model's chat format. Raises JobError, DataError or ModelError."""
        body = _body(raw)
        files = _files(body, beside)
        own = body.pinetune
        if own.threads != "auto":
            torch.set_num_threads(int(own.threads))
        loaded = load_model(source, device=own.device, dtype="float32")
        opened = objective(loaded, files)
        config = _resolve(body, loaded, opened)
        if config.lora_rank and not loaded.is_lora:
            dtype = "float32" if loaded.device.type == "cpu" else own.dtype
            lora = LoraSettings(config.lora_rank, config.lora_alpha)
            del loaded  # before the second copy: only one fits into memory
            loaded = load_model(source, device=own.device, dtype=dtype, lora=lora, seed=config.seed)
        return cls(raw, files, loaded, opened, config)

    def hyperparameters(self) -> dict[str, Any]:
        config = self._config
        found = {"batch_size": config.batch_size, "learning_rate_multiplier": config.learning_rate_multiplier, "n_epochs": config.n_epochs}
        return {**found, "beta": config.beta} if config.beta else found

    def settings(self) -> dict[str, Any]:
        config = self._config
        return {"total_steps": config.steps, "eval_interval": config.steps_per_epoch, "num_valid": self._objective.num_valid}

    def warnings(self) -> list[str]:
        return []

    def open_run(self, path: Path) -> RunFolder:
        """Raises JobError when `path` holds another job."""
        folder = RunFolder(path)
        data = {role: describe_file(file)["sha256"] for role, file in self._files.items()}
        identity = json_sha256({"config": asdict(self._config), "data": data, "model": self._raw["model"]})
        if folder.exists():
            if folder.read_job().get("sha256") != identity:
                raise JobError(f"{path} holds another job (other data or settings)")
            return folder
        folder.write_job({"body": dict(self._raw), "resolved": asdict(self._config), "sha256": identity})
        named = {role: str(file) for role, file in self._files.items()}
        folder.write_provenance(provenance(model=self._loaded.source, data_files=named, grader={}, seed=self._config.seed))
        return folder

    def run(self, folder: RunFolder, recorder: Recorder) -> LoopState:
        """To the last step, or until asked to stop: then `stop_reason` is "stopped"."""
        config, objective = self._config, self._objective
        learner = GrpoLearner(self._loaded, LearnerSettings(learning_rate=config.learning_rate))
        checkpoints = LearnerCheckpoints(folder, learner, self._loaded, keep_best=0, keep_last=KEEP_EPOCHS)
        objective.begin(self._loaded, learner, config)
        state = checkpoints.load_latest()
        if state is None:
            state = LoopState()
            self._judge(state, folder)
            checkpoints.save(state)
        elif state.stop_reason == "stopped":
            state.stop_reason = ""
        if self._is_due(state.step) and state.judged_step < state.step:
            self._judge(state, folder)  # killed between the step and its evaluation
            self._save(state, checkpoints, recorder)
        while not state.stop_reason and state.step < config.steps:
            began = time.monotonic()
            numbers = objective.update(config.rows_of(state.step, objective.num_train), config.rate(state.step))
            state.step += 1
            state.best_step = state.step
            state.trained_tokens += numbers["trained_tokens"]
            seconds = time.monotonic() - began
            state.seconds += seconds
            folder.put_metrics(state.step, {"total_steps": config.steps, **numbers, "full_iteration_seconds": seconds})
            if state.step >= config.steps:
                state.stop_reason = "finished"
            elif recorder.stop_requested():
                state.stop_reason = "stopped"
            if self._is_due(state.step):
                checkpoints.save(state)
                self._judge(state, folder)
            if self._is_due(state.step) or state.stop_reason or state.seconds - state.saved_at >= SAVE_EVERY_SECONDS:
                self._save(state, checkpoints, recorder)
        return state

    def finish(self, folder: RunFolder, recorder: Recorder, state: LoopState) -> None:
        export(self._loaded, folder)
        recorder.event("info", f"New fine-tuned model created: {folder.model}")

    def close(self) -> None:
        return

    def _is_due(self, step: int) -> bool:
        return step > 0 and (step % self._config.steps_per_epoch == 0 or step >= self._config.steps)

    def _judge(self, state: LoopState, folder: RunFolder) -> None:
        state.judged_step = state.step
        if self._objective.num_valid:
            began = time.monotonic()
            numbers = self._objective.measure()
            folder.put_metrics(state.step, {**numbers, "eval_seconds": time.monotonic() - began})

    def _save(self, state: LoopState, checkpoints: LearnerCheckpoints, recorder: Recorder) -> None:
        state.saved_at = state.seconds
        checkpoints.save(state)
        recorder.event("info", f"Checkpoint created at step {state.step}", {"step": state.step})


def check_texts(raw: Mapping[str, Any], beside: Path, source: str, objective: OpenObjective) -> list[str]:
    """All of `prepare` that needs no weights. The warnings."""
    objective(open_reader(source), _files(_body(raw), beside))
    return []


def _files(body: CreateJob, beside: Path) -> dict[str, Path]:
    return {role: beside / name for role in ("training_file", "validation_file") if (name := getattr(body, role)) is not None}


def _body(raw: Mapping[str, Any]) -> CreateJob:
    try:
        return CreateJob.model_validate(raw)
    except ValidationError as error:
        path, text = complaints(error, CreateJob)[0]
        raise JobError(text, path) from None


def _resolve(body: CreateJob, loaded: LoadedModel, objective: Objective) -> TextConfig:
    asked: Any = {}
    if body.method is not None:
        chosen = getattr(body.method, body.method.type)
        asked = chosen.hyperparameters.model_dump() if chosen is not None else {}
    elif body.hyperparameters is not None:
        asked = body.hyperparameters.model_dump()
    given = {name: value for name, value in asked.items() if value != "auto"}
    count = sum(p.numel() for p in loaded.model.parameters())
    rank = next(iter(loaded.model.peft_config.values())).r if loaded.is_lora else 0
    facts = JobFacts(
        objective.num_train, objective.num_valid, count, loaded.context_length, objective.longest, loaded.device.type == "cuda", rank
    )
    lora = lora_of(body.pinetune, facts)
    batch = min(int(given.get("batch_size", _batch_size(objective.num_train))), objective.num_train)
    per_epoch = math.ceil(objective.num_train / batch)
    steps = int(given.get("n_epochs", EPOCHS)) * per_epoch if body.pinetune.steps == "auto" else int(body.pinetune.steps)
    own_rate = body.pinetune.learning_rate
    rate = objective.rate_factor * base_learning_rate(count, lora is not None) if own_rate == "auto" else float(own_rate)
    multiplier = float(given.get("learning_rate_multiplier", 1.0))
    budget = body.pinetune.micro_batch_tokens
    is_dpo = body.method is not None and body.method.type == "dpo"
    return TextConfig(
        seed=body.seed or 0,
        steps=steps,
        steps_per_epoch=per_epoch,
        n_epochs=max(1, math.ceil(steps / per_epoch)),
        batch_size=batch,
        learning_rate=rate * multiplier,
        learning_rate_multiplier=multiplier,
        beta=float(given.get("beta", 0.1)) if is_dpo else 0.0,
        lora_rank=lora.rank if lora else 0,
        lora_alpha=lora.alpha if lora else 0.0,
        budget=default_token_budget(loaded) if budget == "auto" else int(budget),
        bfloat16=body.pinetune.dtype == "bfloat16" or (body.pinetune.dtype == "auto" and facts.on_gpu),
    )


def _batch_size(num_train: int) -> int:
    """About thirty updates an epoch while rows are few; sixteen rows an update from 500 on."""
    return max(1, min(16, num_train // 32))
