"""The loop with small real fakes: a learner whose whole state is a hash of all it was taught."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pinetune.errors import BudgetSpent, JobFailed
from pinetune.loop.config import JobFacts, TrainConfig, parse_job, resolve
from pinetune.loop.run import Parts, has_spread, run
from pinetune.loop.state import LoopState
from pinetune.records import (
    Completion,
    EvalReport,
    Grade,
    Group,
    Interval,
    Prompt,
    Row,
    SamplingParams,
    StepReport,
    TrainSample,
    UpdateReport,
)
from pinetune.rollout.run import derive_seed, run_groups

ROWS = [Row(index=i, messages=({"role": "user", "content": str(i)},), item={}) for i in range(6)]


class HashLearner:
    def __init__(self) -> None:
        self.weights = "base"

    def step(self, samples: Sequence[TrainSample]) -> UpdateReport:
        told = repr([(s.group, s.completion_ids, s.advantages) for s in samples])
        self.weights = hashlib.sha256((self.weights + told).encode()).hexdigest()
        return UpdateReport(trained_tokens=len(samples), loss=0.0, grad_norm=0.0, learning_rate=0.0)

    def save(self, folder: str) -> None:
        Path(folder).write_text(self.weights)

    def load(self, folder: str) -> None:
        self.weights = Path(folder).read_text()


class SeedSampler:
    """Completions depend on the seed and on the learner's weights, as a real sampler's do."""

    def __init__(self, learner: HashLearner) -> None:
        self.learner = learner
        self.weights = learner.weights

    def render(self, row: Row) -> Prompt:
        return Prompt(token_ids=(row.index,))

    def refresh(self) -> None:
        self.weights = self.learner.weights

    def sample(
        self, prompts: Sequence[Prompt], num_samples: int, params: SamplingParams, seeds: Sequence[Sequence[int]]
    ) -> Iterator[tuple[int, int, Completion]]:
        for s in reversed(range(num_samples)):  # finishing order is not asking order
            for p in range(len(prompts)):
                token = derive_seed(seeds[p][s], self.weights) % 10
                yield p, s, Completion((token,), (-1.0,), (False,), "stop", answer=str(token))


class DigitGrader:
    name = "digit"

    def grade(self, completion: Completion, row: Row) -> Grade:
        return Grade(status="ok", value=int(completion.answer) / 10)

    def close(self) -> None: ...


class BrokenGrader(DigitGrader):
    def grade(self, completion: Completion, row: Row) -> Grade:
        raise RuntimeError("the grader's disk is full")


class PaidGrader(DigitGrader):
    """Has a purse; like a judge behind its cache, what was graded once is free, also in another session."""

    def __init__(self, known: set[tuple[int, str]], purse: int) -> None:
        self.known, self.purse, self.lock = known, purse, threading.Lock()

    def grade(self, completion: Completion, row: Row) -> Grade:
        key = (row.index, completion.answer)
        with self.lock:
            if key not in self.known and self.purse == 0:
                raise BudgetSpent("the budget is spent")
            self.purse -= key not in self.known
            self.known.add(key)
        return super().grade(completion, row)


class ListRecorder:
    def __init__(self, die_after: int | None = None) -> None:
        self.steps: list[tuple[StepReport, list[Group]]] = []
        self.events: list[str] = []
        self.evals: list[EvalReport] = []
        self.die_after = die_after

    def event(self, level: str, message: str, data: Mapping[str, Any] | None = None) -> None:
        self.events.append(message)

    def step(self, report: StepReport, groups: Sequence[Group]) -> None:
        if report.step == self.die_after:
            raise KeyboardInterrupt
        self.steps.append((report, list(groups)))

    def evaluation(self, report: EvalReport) -> None:
        self.evals.append(report)

    def stop_requested(self) -> bool:
        return False


class FolderCheckpoints:
    def __init__(self, folder: Path, learner: HashLearner) -> None:
        self.folder, self.learner = folder, learner

    def save(self, state: LoopState) -> None:
        self.learner.save(str(self.folder / f"{state.step}.weights"))
        (self.folder / f"{state.step:04}.json").write_text(json.dumps(state.to_json()))

    def load_latest(self) -> LoopState | None:
        found = sorted(self.folder.glob("*.json"))
        if not found:
            return None
        state = LoopState(**json.loads(found[-1].read_text()))
        self.load_step(state.step)
        return state

    def load_step(self, step: int) -> None:
        self.learner.load(str(self.folder / f"{step}.weights"))


def config(**changes: Any) -> TrainConfig:
    body = parse_job(
        {
            "model": "m",
            "training_file": "t",
            "method": {
                "type": "reinforcement",
                "reinforcement": {"grader": {}, "hyperparameters": {"batch_size": 2, "eval_interval": 3}},
            },
            "pinetune": {"steps": 10, "group_size": 4, "early_stopping": False, **changes},
        }
    )
    return resolve(body, JobFacts(6, 2, 1000, 512, 10, False), seed=5)


def samples_of(groups: Sequence[Group]) -> list[TrainSample]:
    return [
        TrainSample(g.row.index, g.prompt.token_ids, r.completion.token_ids, r.completion.logprobs, (r.grade.value,), (True,))
        for g in groups
        for r in g.rollouts
    ]


def eval_report(step: int, reward: float) -> EvalReport:
    return EvalReport(step, f"step {step}", Interval(reward, 0, 1, 2), {}, 0, 1.0, 0.0, 0.0, 0.1)


def parts(folder: Path, recorder: ListRecorder, rewards: dict[int, float] | None = None, grader: Any = None) -> tuple[Parts, HashLearner]:
    learner = HashLearner()
    evaluate = None if rewards is None else lambda step: eval_report(step, rewards[step])
    made = Parts(SeedSampler(learner), learner, grader or DigitGrader(), recorder, FolderCheckpoints(folder, learner), samples_of, evaluate)  # type: ignore[arg-type]
    return made, learner


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    weights = []
    for n in range(2):
        (tmp_path / str(n)).mkdir()
        made, learner = parts(tmp_path / str(n), ListRecorder())
        assert run(config(), ROWS, made).stop_reason == "finished"
        weights.append(learner.weights)
    assert weights[0] == weights[1] != "base"


@pytest.mark.parametrize("death", [1, 2, 5, 9])
def test_a_killed_job_resumes_to_the_same_weights_and_rollouts(tmp_path: Path, death: int) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole = ListRecorder()
    made, undisturbed = parts(tmp_path / "whole", whole)
    run(config(), ROWS, made)
    made, _ = parts(tmp_path / "killed", ListRecorder(die_after=death))
    with pytest.raises(KeyboardInterrupt):
        run(config(), ROWS, made)
    rest = ListRecorder()
    made, resumed = parts(tmp_path / "killed", rest)
    run(config(), ROWS, made)
    assert resumed.weights == undisturbed.weights
    first = rest.steps[0][0].step
    assert first <= death
    assert [groups for _, groups in rest.steps] == [groups for _, groups in whole.steps[first - 1 :]]


@pytest.mark.parametrize("purse", [0, 1, 7, 8, 20])
def test_a_spent_budget_pauses_the_job_which_then_ends_as_if_undisturbed(tmp_path: Path, purse: int) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "paused").mkdir()
    whole = ListRecorder()
    made, undisturbed = parts(tmp_path / "whole", whole)
    run(config(), ROWS, made)
    known: set[tuple[int, str]] = set()
    seen: list[StepReport] = []
    for session in range(60):  # there are 60 pairs of a row and a digit to pay for
        recorder = ListRecorder()
        made, resumed = parts(tmp_path / "paused", recorder, grader=PaidGrader(known, purse if session == 0 else 5))
        state = run(config(), ROWS, made)
        seen += [report for report, _ in recorder.steps]
        assert all(report.num_ungraded == 0 for report, _ in recorder.steps)
        if state.stop_reason == "finished":
            break
        assert state.stop_reason == "stopped"
        assert recorder.events[-1] == f"Paused: the budget is spent. The same command goes on from step {state.step}"
    assert session > 0
    assert resumed.weights == undisturbed.weights
    assert [report.step for report in seen] == list(range(1, 11))
    assert [report.reward_mean for report in seen] == [report.reward_mean for report, _ in whole.steps]


@pytest.mark.parametrize("spent_at", [0, 3, 10])
def test_a_budget_spent_in_an_evaluation_repeats_only_that(tmp_path: Path, spent_at: int) -> None:
    recorder = ListRecorder()
    made, _ = parts(tmp_path, recorder, dict.fromkeys(range(11), 0.5))
    evaluate = made.evaluate
    assert evaluate is not None

    def poor(step: int) -> EvalReport:
        if step == spent_at:
            raise BudgetSpent("the budget is spent")
        return evaluate(step)

    paused = run(config(), ROWS, replace(made, evaluate=poor))
    assert (paused.step, paused.stop_reason) == (spent_at, "stopped")
    state = run(config(), ROWS, made)
    assert (state.step, state.stop_reason) == (10, "finished")
    assert [report.step for report, _ in recorder.steps] == list(range(1, 11))
    assert [report.step for report in recorder.evals] == [0, 3, 6, 9, 10]


def test_the_best_step_is_kept_not_the_last(tmp_path: Path) -> None:
    recorder = ListRecorder()
    made, learner = parts(tmp_path, recorder, {0: 0.1, 3: 0.6, 6: 0.4, 9: 0.5, 10: 0.2})
    state = run(config(), ROWS, made)
    assert (state.step, state.best_step, state.best_reward) == (10, 3, 0.6)
    assert learner.weights == (tmp_path / "3.weights").read_text()
    assert made.sampler.weights == learner.weights  # type: ignore[attr-defined]
    assert [r.step for r in recorder.evals] == [0, 3, 6, 9, 10]


def test_stops_early_after_patience_evals_without_gain(tmp_path: Path) -> None:
    made, _ = parts(tmp_path, ListRecorder(), {0: 0.1, 3: 0.6, 6: 0.4, 9: 0.5, 10: 0.2})
    state = run(config(early_stopping=True, patience=2), ROWS, made)
    assert (state.step, state.stop_reason, state.best_step) == (9, "early stopping", 3)


def test_a_grader_that_always_fails_stops_the_job_and_shows_why(tmp_path: Path) -> None:
    made, learner = parts(tmp_path, ListRecorder(), grader=BrokenGrader())
    with pytest.raises(JobFailed, match="the grader's disk is full"):
        run(config(), ROWS, made)
    assert learner.weights == "base"


def test_groups_come_back_in_order_with_seeds_of_their_row_and_sample() -> None:
    sampler = SeedSampler(HashLearner())
    heard: list[int] = []
    groups = run_groups(
        ROWS[2:4],
        sampler,
        DigitGrader(),
        num_samples=3,
        params=SamplingParams(),
        seed=9,
        on_group=lambda g: heard.append(g.row.index),
    )
    assert [[(r.row_index, r.sample_index, r.seed) for r in g.rollouts] for g in groups] == [
        [(i, s, derive_seed(9, i, s)) for s in range(3)] for i in (2, 3)
    ]
    assert sorted(heard) == [2, 3]
    alone = run_groups(ROWS[3:4], sampler, DigitGrader(), num_samples=3, params=SamplingParams(), seed=9)
    assert alone[0].rewards() == groups[1].rewards()


def test_spread_needs_two_different_rewards() -> None:
    groups = run_groups(ROWS[:1], SeedSampler(HashLearner()), BrokenGrader(), num_samples=2, params=SamplingParams(), seed=1)
    assert not has_spread(groups[0])
    assert groups[0].graded() == ()
    assert "disk is full" in groups[0].rollouts[0].grade.explanation


def test_a_spent_budget_still_judges_the_last_weights_and_stays_spent(tmp_path: Path) -> None:
    recorder = ListRecorder()
    made, learner = parts(tmp_path, recorder, {0: 0.1, 1: 0.5})
    state = run(config(budget_minutes=1e-9), ROWS, made)
    assert (state.step, state.stop_reason, state.best_step) == (1, "time budget", 1)
    again = ListRecorder()
    made, resumed = parts(tmp_path, again, {1: 0.5})
    assert run(config(budget_minutes=1e-9), ROWS, made).step == 1
    assert again.steps == [] and again.evals == []
    assert resumed.weights == learner.weights


def test_a_larger_budget_goes_on_to_the_same_end(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "short").mkdir()
    made, whole = parts(tmp_path / "whole", ListRecorder(), dict.fromkeys(range(11), 0.5))
    run(config(), ROWS, made)
    made, _ = parts(tmp_path / "short", ListRecorder(), dict.fromkeys(range(11), 0.5))
    run(config(budget_minutes=1e-9), ROWS, made)
    made, longer = parts(tmp_path / "short", ListRecorder(), dict.fromkeys(range(11), 0.5))
    assert run(config(), ROWS, made).stop_reason == "finished"
    assert (tmp_path / "short" / "10.weights").read_text() == (tmp_path / "whole" / "10.weights").read_text()
    assert longer.weights == whole.weights


def test_a_kill_during_an_evaluation_costs_no_step_and_the_evaluation_is_made_good(tmp_path: Path) -> None:
    recorder = ListRecorder()
    made, _ = parts(tmp_path, recorder, {0: 0.1, 3: 0.2})  # the evaluation at step 6 raises KeyError
    with pytest.raises(KeyError):
        run(config(), ROWS, made)
    again = ListRecorder()
    made, _ = parts(tmp_path, again, {6: 0.7, 9: 0.3, 10: 0.3})
    state = run(config(), ROWS, made)
    assert [report.step for report in again.evals] == [6, 9, 10]
    assert [report.step for report, _ in again.steps] == [7, 8, 9, 10]
    assert state.best_step == 6
    # Saved before the evaluation and after it, told once.
    told = [message for message in recorder.events + again.events if message.startswith("Checkpoint")]
    assert told == [f"Checkpoint created at step {step}" for step in (0, 3, 6, 9, 10)]


def test_sampler_and_learner_that_disagree_stop_the_job(tmp_path: Path) -> None:
    class Disagreeing(HashLearner):
        def step(self, samples: Sequence[TrainSample]) -> UpdateReport:
            return UpdateReport(1, 0.0, 0.0, 0.0, metrics={"logprob_gap_max": 8.8})

    made, _ = parts(tmp_path, ListRecorder())
    with pytest.raises(JobFailed, match=r"differ by 8\.8 nats"):
        run(config(), ROWS, replace(made, learner=Disagreeing()))
