"""The methods a job can name (reinforcement, supervised, dpo) behind one face, for a program that runs whatever comes.

    prepare, check = method_of(raw)
    check(raw, folder, source)            the warnings; no weights are needed
    job = prepare(raw, folder, source)    checked, and the model loaded
    run = job.open_run(path)
    state = job.run(run, recorder)        to the end, or until asked to stop
    job.finish(run, recorder, state)      the weights in run.model

A method is a line in METHODS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from pinetune.data.leakage import Overlap
from pinetune.loop.finish import finish
from pinetune.loop.job import Prepared, check, longest_prompt, open_run, prepare, run_prepared
from pinetune.loop.preference import Preferences
from pinetune.loop.state import LoopState
from pinetune.loop.supervised import Supervised
from pinetune.loop.text_job import TextJob, check_texts
from pinetune.models.load import open_reader
from pinetune.records import Recorder
from pinetune.runs.folder import RunFolder

KEEP_BEST = 3  # as the hosted product: the checkpoints with the three highest held-out rewards


class MethodJob(Protocol):
    """A checked job of some method."""

    is_lora: bool

    def hyperparameters(self) -> dict[str, Any]:
        """Every "auto" of the API's own hyperparameters as the value it became."""
        ...

    def settings(self) -> dict[str, Any]:
        """total_steps, eval_interval and num_valid, for whoever follows the run."""
        ...

    def warnings(self) -> list[str]: ...

    def open_run(self, path: Path) -> RunFolder: ...

    def run(self, folder: RunFolder, recorder: Recorder) -> LoopState: ...

    def finish(self, folder: RunFolder, recorder: Recorder, state: LoopState) -> None: ...

    def close(self) -> None: ...


class ReinforcementJob:
    """See MethodJob."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self.is_lora = prepared.loaded.is_lora

    @classmethod
    def prepare(cls, raw: Mapping[str, Any], beside: Path, source: str) -> ReinforcementJob:
        return cls(prepare(raw, beside, source=source))

    def hyperparameters(self) -> dict[str, Any]:
        config = self._prepared.config
        return {
            "batch_size": config.batch_size,
            "learning_rate_multiplier": config.learning_rate_multiplier,
            "n_epochs": config.n_epochs,
            "reasoning_effort": self._prepared.body.method.reinforcement.hyperparameters.reasoning_effort,
            "compute_multiplier": config.compute_multiplier,
            "eval_interval": config.eval_interval,
            "eval_samples": config.eval_samples,
        }

    def settings(self) -> dict[str, Any]:
        config = self._prepared.config
        return {"total_steps": config.steps, "eval_interval": config.eval_interval, "num_valid": len(self._prepared.valid)}

    def warnings(self) -> list[str]:
        return _warnings(self._prepared.overlap, len(self._prepared.valid))

    def open_run(self, path: Path) -> RunFolder:
        return open_run(self._prepared, path)

    def run(self, folder: RunFolder, recorder: Recorder) -> LoopState:
        return run_prepared(self._prepared, folder, recorder, keep_best=KEEP_BEST)

    def finish(self, folder: RunFolder, recorder: Recorder, state: LoopState) -> None:
        finish(self._prepared, folder, recorder, state)

    def close(self) -> None:
        self._prepared.close()


def check_reinforcement(raw: Mapping[str, Any], beside: Path, source: str) -> list[str]:
    """All of `prepare` that needs no weights: in a moment, and beside a running job. The warnings."""
    checked = check(raw, beside, source=source)
    try:
        longest_prompt(open_reader(checked.source), checked.body.pinetune, checked.files, checked.rows)
        return _warnings(checked.overlap, len(checked.rows.get("validation_file", [])))
    finally:
        checked.close()


def _warnings(overlap: Overlap | None, num_valid: int) -> list[str]:
    if overlap is None or not overlap.num_valid_rows:
        return []
    share = f"{overlap.num_valid_rows} of {num_valid} validation rows have answers that training rows have too"
    return [f"{share}: a model that learns answers by heart looks skilled on them"]


Prepare = Callable[[Mapping[str, Any], Path, str], MethodJob]
Check = Callable[[Mapping[str, Any], Path, str], list[str]]
METHODS: dict[str, tuple[Prepare, Check]] = {
    "reinforcement": (ReinforcementJob.prepare, check_reinforcement),
    "supervised": (partial(TextJob.prepare, objective=Supervised), partial(check_texts, objective=Supervised)),
    "dpo": (partial(TextJob.prepare, objective=Preferences), partial(check_texts, objective=Preferences)),
}


def method_of(raw: Mapping[str, Any]) -> tuple[Prepare, Check]:
    """How to prepare, and how to check, a job of this body's method. Both take (raw, beside, source) as `loop.job.prepare` does."""
    method = raw.get("method")
    kind = method.get("type") if isinstance(method, Mapping) else "supervised"
    return METHODS.get(str(kind), METHODS["reinforcement"])  # which complains of the type in its words
