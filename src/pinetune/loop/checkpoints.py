"""The loop's checkpoints in the run folder: what `training.checkpoint` writes, and what the recorder must forget on resume."""

from __future__ import annotations

from pinetune.loop.state import LoopState
from pinetune.models.load import LoadedModel
from pinetune.records import Learner
from pinetune.runs.folder import RunFolder
from pinetune.training.checkpoint import CheckpointStore


class LearnerCheckpoints:
    """Keeps the best checkpoints and the newest `keep_last`; `loop.state.Checkpoints` for one job."""

    def __init__(self, run: RunFolder, learner: Learner, loaded: LoadedModel, keep_best: int = 1, keep_last: int = 2) -> None:
        self._run = run
        self._keep_best, self._keep_last = keep_best, keep_last
        self._store = CheckpointStore(run.checkpoints)
        self._learner = learner
        self._loaded = loaded

    def save(self, state: LoopState) -> None:
        self._store.save(state.step, self._learner, self._loaded, state.to_json())
        self._store.keep({state.best_step, *self._best_steps()}, self._keep_last)

    def _best_steps(self) -> list[int]:
        """By held-out reward, the earlier of two equals first."""
        judged = [row for row in self._run.read_metrics() if row["step"] and row.get("valid_reward_mean") is not None]
        judged.sort(key=lambda row: (-row["valid_reward_mean"], row["step"]))
        return [row["step"] for row in judged[: self._keep_best]]

    def load_latest(self) -> LoopState | None:
        """Also cuts the run's records back to that step, so that doing the steps after it again doubles nothing."""
        checkpoint = self._store.latest()
        if checkpoint is None:
            return None
        state = LoopState(**self._store.load(checkpoint, self._learner))
        self._run.truncate_after(state.step)
        return state

    def load_step(self, step: int) -> None:
        self._store.load(self._store.get(step), self._learner)
