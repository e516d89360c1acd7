"""The path as code: sample, grade, compare, update, report, checkpoint, judge; again.

    rows -> groups of graded rollouts -> advantages -> samples -> update -> report -> checkpoint -> held-out eval

Read it top to bottom. No algorithm is named here: advantages and losses are chosen by name in the config, models and
graders come in through the protocols of `records`. A job that is killed at any moment goes on from its last
checkpoint and ends with the same weights, because everything random is derived from (seed, step).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pinetune.errors import BudgetSpent
from pinetune.loop.config import TrainConfig
from pinetune.loop.curriculum import Curriculum
from pinetune.loop.health import check_agreement, check_grading
from pinetune.loop.measure import Timing, step_report
from pinetune.loop.state import Checkpoints, LoopState
from pinetune.records import EvalReport, Grader, Group, Learner, Recorder, Row, Sampler, TrainSample, UpdateReport
from pinetune.rollout.run import derive_seed, run_groups

Evaluate = Callable[[int], EvalReport]  # step -> the held-out report of the weights as they are now
ToSamples = Callable[[Sequence[Group]], Sequence[TrainSample]]


@dataclass(frozen=True, slots=True)
class Parts:
    """What the loop works with. The caller built them; the loop only uses their protocols."""

    sampler: Sampler
    learner: Learner
    grader: Grader
    recorder: Recorder
    checkpoints: Checkpoints
    to_samples: ToSamples  # groups -> samples, with the job's advantage
    evaluate: Evaluate | None  # None = no held-out rows


def run(config: TrainConfig, train_rows: Sequence[Row], parts: Parts) -> LoopState:
    """Run the job to its end, or until it is asked to stop. The best weights are then in the learner.

    `LoopState.stop_reason` says why it ended: "finished", "early stopping", "all prompts solved", "time budget",
    or "stopped" (resumable; the last weights are kept): also when the judges' budget is spent, since to go on with answers
    that nobody graded would train on luck. Raises JobFailed when grading breaks down.
    """
    curriculum = Curriculum(train_rows, config.seed, config.retire_at)
    latest = parts.checkpoints.load_latest()
    state = latest or LoopState()
    try:
        _resume(state, config, curriculum, parts) if latest else _begin(state, curriculum, parts)
        _train(state, config, curriculum, parts)
    except BudgetSpent as spent:
        parts.recorder.event("warn", f"Paused: {spent}. The same command goes on from step {state.step}", {"step": state.step})
        state.stop_reason = "stopped"
    _finish(state, parts)
    return state


def _train(state: LoopState, config: TrainConfig, curriculum: Curriculum, parts: Parts) -> None:
    while not state.stop_reason:
        began = time.monotonic()
        groups, num_refills, timing = _collect(config, curriculum, state, parts)
        update = _update(groups, parts, timing)
        state.step += 1
        state.trained_tokens += update.trained_tokens
        state.ungraded_shares = check_grading(state.ungraded_shares, groups)
        curriculum.learn(groups)
        timing.full_iteration = time.monotonic() - began
        parts.recorder.step(step_report(state.step, config, groups, num_refills, update, timing), groups)
        state.seconds += time.monotonic() - began
        state.stop_reason = _reason_to_stop(state, config, curriculum, parts.recorder)
        if parts.evaluate is not None and _eval_due(state, config):
            _checkpoint(state, curriculum, parts, tell=False)  # before the longest phase: a kill during it must not cost the steps
            began = time.monotonic()
            _judge(state, config, parts.evaluate(state.step), parts.recorder)
            state.seconds += time.monotonic() - began
            _checkpoint(state, curriculum, parts)
        elif state.stop_reason or state.seconds - state.saved_at >= SAVE_EVERY_SECONDS:
            _checkpoint(state, curriculum, parts)


SAVE_EVERY_SECONDS = 120.0  # between evaluations


def _eval_due(state: LoopState, config: TrainConfig) -> bool:
    """Every `eval_interval` steps, and at the end: the last weights may be the best. A stop on request must be quick."""
    return state.stop_reason != "stopped" and (bool(state.stop_reason) or state.step % config.eval_interval == 0)


def _resume(state: LoopState, config: TrainConfig, curriculum: Curriculum, parts: Parts) -> None:
    curriculum.restore(state.curriculum)
    if state.stop_reason == "stopped" or (state.stop_reason == "time budget" and not _budget_spent(state, config)):
        state.stop_reason = ""
    parts.sampler.refresh()
    parts.recorder.event("info", f"Resumed at step {state.step}")
    if parts.evaluate is not None and state.judged_step < state.step and _eval_due(state, config):
        _judge(state, config, parts.evaluate(state.step), parts.recorder)  # stopped or killed between the step and its evaluation
        _checkpoint(state, curriculum, parts)


def _begin(state: LoopState, curriculum: Curriculum, parts: Parts) -> None:
    if parts.evaluate is not None:
        began = time.monotonic()
        report = parts.evaluate(0)
        parts.recorder.evaluation(report)
        state.best_reward, state.seconds = report.reward.value, time.monotonic() - began
    _checkpoint(state, curriculum, parts)


def _collect(config: TrainConfig, curriculum: Curriculum, state: LoopState, parts: Parts) -> tuple[list[Group], int, Timing]:
    """Sample and grade this step's groups; where groups have no spread of rewards, draw other prompts in their place."""
    began = time.monotonic()
    groups: list[Group] = []
    missing, num_refills = config.batch_size, 0
    before = curriculum.state()
    for round_ in range(config.max_refills + 1):
        rows = curriculum.draw(missing)
        seed = derive_seed(config.seed, "train", state.step, round_)
        try:
            groups += run_groups(
                rows, parts.sampler, parts.grader, num_samples=config.group_size, params=config.sampling(), seed=seed
            )  # fmt: skip
        except BudgetSpent:
            curriculum.restore(before)  # the step will be done anew, with these very rows
            _checkpoint(state, curriculum, parts)
            raise
        missing = config.batch_size - sum(has_spread(group) for group in groups)
        if missing <= 0 or round_ == config.max_refills:
            break
        num_refills += 1
    return groups, num_refills, Timing(sampling=time.monotonic() - began)


def has_spread(group: Group) -> bool:
    """Whether some rollouts did better than others: without that there is nothing to learn from a group."""
    rewards = group.rewards()
    return len(rewards) > 1 and max(rewards) - min(rewards) > 1e-9


def _update(groups: Sequence[Group], parts: Parts, timing: Timing) -> UpdateReport:
    began = time.monotonic()
    samples = parts.to_samples([group for group in groups if has_spread(group)])
    update = parts.learner.step(samples) if samples else _nothing_to_learn()
    check_agreement(update)
    if update.skipped:
        parts.recorder.event("info", f"No update in this step: {update.skipped}")
    parts.sampler.refresh()
    timing.training = time.monotonic() - began
    return update


def _nothing_to_learn() -> UpdateReport:
    return UpdateReport(trained_tokens=0, loss=0.0, grad_norm=0.0, learning_rate=0.0, skipped="no group had a spread of rewards")


def _judge(state: LoopState, config: TrainConfig, report: EvalReport, recorder: Recorder) -> None:
    """Best, not last: remember the step with the highest held-out reward, and stop when it no longer rises."""
    recorder.evaluation(report)
    state.judged_step = state.step
    if state.best_reward is None or report.reward.value > state.best_reward:
        state.best_step, state.best_reward, state.evals_without_gain = state.step, report.reward.value, 0
        return
    state.evals_without_gain += 1
    if config.early_stopping and state.evals_without_gain >= config.patience and not state.stop_reason:
        state.stop_reason = "early stopping"


def _reason_to_stop(state: LoopState, config: TrainConfig, curriculum: Curriculum, recorder: Recorder) -> str:
    if state.step >= config.steps:
        return "finished"
    if curriculum.all_retired():
        return "all prompts solved"
    if _budget_spent(state, config):
        return "time budget"
    return "stopped" if recorder.stop_requested() else ""


def _budget_spent(state: LoopState, config: TrainConfig) -> bool:
    return state.seconds >= config.budget_minutes * 60


def _checkpoint(state: LoopState, curriculum: Curriculum, parts: Parts, *, tell: bool = True) -> None:
    state.curriculum = curriculum.state()
    state.saved_at = state.seconds
    parts.checkpoints.save(state)
    if tell:
        parts.recorder.event("info", f"Checkpoint created at step {state.step}", {"step": state.step})


def _finish(state: LoopState, parts: Parts) -> None:
    if state.stop_reason == "stopped":
        return
    if parts.evaluate is not None and state.best_step != state.step:
        parts.checkpoints.load_step(state.best_step)
        parts.sampler.refresh()
        parts.recorder.event("info", f"The weights of step {state.best_step} are the best on held-out rows and are kept")
