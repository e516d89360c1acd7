"""From a run folder written by hand to events, numbers and checkpoints: each told once, whatever happened in between."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import messages, new_job

from pinetune.errors import LeaseLost
from pinetune.runs.folder import RunFolder
from pinetune.store import Lease, Store
from pinetune.worker.estimate import seconds_left
from pinetune.worker.mirror import Mirror, Shape

pytestmark = pytest.mark.slow  # seconds in all, of waiting or of work

SHAPE = Shape(total_steps=4, eval_interval=2, num_valid=2)


class Scene:
    """A running job and its folder; `mirror()` is what a fresh worker would use."""

    def __init__(self, store: Store, tmp_path: Path) -> None:
        store.models.register("tiny", str(tmp_path))
        self.store, self.job = store, new_job(store)
        lease = self.claim()
        store.jobs.validated(lease)
        self.lease = self.claim()
        self.run = RunFolder(tmp_path / "run")
        self._first = len(messages(store, self.job))

    def claim(self) -> Lease:
        found = self.store.leases.claim("w", 60)
        assert found is not None
        return found[1]

    def mirror(self) -> Mirror:
        return Mirror(self.store, self.lease, self.job, self.run, SHAPE)

    def step(self, step: int, reward: float) -> None:
        self.run.put_metrics(step, {"train_mean_reward": reward, "train_reward_mean": reward, "full_iteration_seconds": 2.0})

    def judge(self, step: int, reward: float) -> None:
        values = {"valid_reward_mean": reward, "full_valid_mean_reward": reward, "full_valid_mean_parse_error": 0.0, "eval_seconds": 1.0}
        self.run.put_metrics(step, values)

    def checkpoint(self, step: int) -> Path:
        folder = self.run.checkpoint(step)
        (folder / "model").mkdir(parents=True)
        (folder / "model" / "config.json").write_text("{}")
        (folder / "manifest.json").write_text("{}")
        self.run.append_event("info", f"Checkpoint created at step {step}", {"step": step})
        return folder

    def told(self) -> list[str]:
        return messages(self.store, self.job)[self._first :]


@pytest.fixture
def scene(store: Store, tmp_path: Path) -> Scene:
    return Scene(store, tmp_path)


ONE = "Step 1/4 , train mean reward=0.10"
TWO = "Step 2/4 , train mean reward=0.20, full validation mean reward=0.50, full validation mean parse error=0.00"


def test_a_step_waits_for_its_evaluation_and_holds_up_what_follows(scene: Scene) -> None:
    mirror = scene.mirror()
    scene.step(1, 0.1)
    scene.step(2, 0.2)
    scene.checkpoint(2)
    mirror.catch_up()
    assert scene.told() == [ONE]
    assert scene.store.jobs.get(scene.job.id).step == 2  # its numbers are there at once
    scene.judge(2, 0.5)
    scene.run.append_event("warn", "Look out")
    mirror.catch_up()
    assert scene.told() == [ONE, TWO, "Checkpoint created at step 2", "Look out"]


def test_told_again_by_others_nothing_is_doubled(scene: Scene) -> None:
    scene.step(1, 0.1)
    scene.step(2, 0.2)
    scene.judge(2, 0.5)
    scene.checkpoint(2)
    scene.run.append_event("warn", "Look out")
    first = scene.mirror()
    assert first.catch_up()
    assert not first.catch_up()
    told = scene.told()
    scene.mirror().catch_up()
    scene.run.truncate_after(0)  # killed, and done again
    scene.step(1, 0.1)
    scene.mirror().catch_up()
    assert scene.told() == told
    assert [metric.step for metric in scene.store.events.metrics(scene.job.id)] == [1, 2]


def test_stopped_before_its_evaluation_a_step_is_told_and_judged_later(scene: Scene) -> None:
    scene.step(1, 0.1)
    scene.step(2, 0.2)
    scene.checkpoint(2)
    scene.mirror().catch_up(ended=True, list_last=True)
    assert scene.told() == [ONE, "Step 2/4 , train mean reward=0.20", "Checkpoint created at step 2"]
    scene.judge(2, 0.5)
    scene.mirror().catch_up()
    scene.mirror().catch_up()
    assert scene.told()[3:] == ["Step 2/4 , full validation mean reward=0.50, full validation mean parse error=0.00"]


def test_checkpoints_come_and_go_with_their_folders(scene: Scene) -> None:
    mirror = scene.mirror()
    for step in (1, 2):
        scene.step(step, 0.1)
    scene.judge(2, 0.5)
    scene.checkpoint(1)  # not judged: only to resume from
    folder = scene.checkpoint(2)
    mirror.catch_up()
    [listed] = scene.store.checkpoints.list(scene.job.id).items
    assert (listed.step, listed.metrics["valid_reward_mean"]) == (2, 0.5)
    assert (scene.store.folders.path(listed.folder) / "config.json").read_text() == "{}"
    shutil.rmtree(folder)
    scene.step(3, 0.3)
    scene.checkpoint(3)  # the newest always stays
    mirror.catch_up()
    assert scene.store.checkpoints.list(scene.job.id).items == ()
    assert scene.told().count("Checkpoint created at step 2") == 1


@pytest.mark.parametrize("told", [True, False])  # by the child, which says so after the second time
def test_a_checkpoint_that_is_being_replaced_is_waited_for(scene: Scene, told: bool) -> None:
    mirror = scene.mirror()
    scene.step(1, 0.1)
    scene.step(2, 0.2)
    folder = scene.checkpoint(2)
    if not told:
        scene.run.events_file.unlink()
    scene.judge(2, 0.5)
    scene.run.append_event("warn", "Look out")
    folder.rename(folder.with_name("step-00002.old.partial"))  # for a moment, when the evaluated one takes its place
    mirror.catch_up()
    assert scene.told() == [ONE, TWO]
    folder.with_name("step-00002.old.partial").rename(folder)
    mirror.catch_up()
    assert scene.told() == [ONE, TWO, "Checkpoint created at step 2", "Look out"]
    assert [c.step for c in scene.store.checkpoints.list(scene.job.id).items] == [2]


def test_a_listed_checkpoint_that_is_being_replaced_stays_listed(scene: Scene) -> None:
    mirror = scene.mirror()
    scene.step(1, 0.1)
    scene.checkpoint(1)
    scene.step(2, 0.2)
    folder = scene.checkpoint(2)
    scene.judge(2, 0.5)
    mirror.catch_up()  # the evaluation stands there before its checkpoint is written again
    folder.rename(folder.with_name("step-00002.old.partial"))
    scene.run.append_event("warn", "Look out")
    mirror.catch_up()
    assert [c.step for c in scene.store.checkpoints.list(scene.job.id).items] == [2]
    folder.with_name("step-00002.old.partial").rename(folder)
    mirror.catch_up()
    (model,) = scene.store.checkpoints.list(scene.job.id).items
    assert (model.step, scene.store.folders.path(model.folder).is_dir()) == (2, True)


def test_a_checkpoint_that_was_surpassed_at_once_is_told_and_not_offered(scene: Scene) -> None:
    scene.step(1, 0.1)
    scene.step(2, 0.1)
    scene.judge(2, 0.5)
    shutil.rmtree(scene.checkpoint(2))
    scene.step(3, 0.1)
    scene.checkpoint(3)
    scene.mirror().catch_up()
    assert scene.told()[2] == "Checkpoint created at step 2"
    assert scene.store.checkpoints.list(scene.job.id).items == ()


def test_a_checkpoint_of_a_worker_that_came_further_is_kept_until_its_step_is_done_again(scene: Scene) -> None:
    for step in (1, 2):
        scene.step(step, 0.1)
    scene.judge(2, 0.5)
    scene.checkpoint(2)
    scene.mirror().catch_up()
    shutil.rmtree(scene.run.path)  # as another home finds it that got step 1 only
    mirror = scene.mirror()
    scene.step(1, 0.1)
    scene.checkpoint(1)
    mirror.catch_up()
    assert [c.step for c in scene.store.checkpoints.list(scene.job.id).items] == [2]
    scene.step(2, 0.1)
    scene.judge(2, 0.5)
    scene.checkpoint(2)
    mirror.catch_up()
    assert [c.step for c in scene.store.checkpoints.list(scene.job.id).items] == [2]
    assert scene.told().count("Checkpoint created at step 2") == 1


def test_a_late_worker_is_refused(scene: Scene) -> None:
    scene.step(1, 0.1)
    mirror = scene.mirror()
    scene.store.jobs.cancel(scene.job.id)
    with pytest.raises(LeaseLost):
        mirror.catch_up()
    assert scene.told() == ["Fine-tuning job cancelled"]


def test_the_time_left_counts_steps_and_evaluations() -> None:
    rows = [{"step": 0, "eval_seconds": 10.0}, {"step": 1, "full_iteration_seconds": 2.0}, {"step": 2, "full_iteration_seconds": 4.0}]
    assert seconds_left(rows[:1], SHAPE) is None
    assert seconds_left(rows, SHAPE) == 2 * 3.0 + (1 + 2) * 10.0  # steps 3 and 4; the evaluation of 4 and two at the end
    assert seconds_left(rows, Shape(4, 2, 0)) == 6.0
