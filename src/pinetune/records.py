"""What travels the path, from a dataset row to a served model, and who may do what to it.

    Row -> Prompt -> Completion -> Grade -> Rollout -> Group -> TrainSample -> StepReport -> EvalReport

Every record is frozen and knows nothing of torch, OpenAI's words or files. The four protocols at the end
(Sampler, Learner, Grader, Recorder) are the only things `loop` and `evals` may ask of the outside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Message = Mapping[str, Any]
JsonSchema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a dataset: what the model is shown, and what only the grader sees.

    `item` is the whole row (messages included); graders read the reference answer from it.

    >>> Row(index=0, messages=({"role": "user", "content": "2+2?"},), item={"answer": "4"}).index
    0
    """

    index: int  # position among the file's rows, from 0
    messages: tuple[Message, ...]
    item: Mapping[str, Any]
    tools: tuple[Mapping[str, Any], ...] = ()
    line: int = 0  # line number in the file, from 1; 0 = not from a file


@dataclass(frozen=True, slots=True)
class Prompt:
    """A row rendered by the model's chat template."""

    token_ids: tuple[int, ...]
    thinking_open: bool = False  # the template itself already opened the thinking block


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to sample. Training uses temperature 1, top_p 1: then the stored log-probs are the policy's own."""

    max_tokens: int = 512
    temperature: float = 1.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()  # extra stop strings; the model's own stop tokens always apply
    thinking_budget: int | None = None  # thinking tokens after which the closing tag is forced; None = no cap
    json_schema: JsonSchema | None = None  # the answer (not the thinking) must match it


FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Completion:
    """What the sampler returned for one prompt, token by token.

    `logprobs[t]` is log p(token t) under the full softmax at temperature 1, whatever was sampled from.
    `forced[t]` is True where the engine, not the model, chose the token (a closing tag after the thinking
    budget, a grammar that allowed one token only): such tokens are context, never trained.
    The stop token is part of `token_ids`: stopping is an action. With finish "length" there is none.

    Example: tokens `<think> hm </think> 4 <eos>` give reasoning "hm", answer "4", reasoning_tokens 3.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    forced: tuple[bool, ...]
    finish: FinishReason
    answer: str  # what graders see: the text after the thinking
    reasoning: str = ""
    reasoning_tokens: int = 0
    # Calls of the row's tools, as chat completions writes them: {"id", "type": "function", "function": {"name", "arguments": a string}}.
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    # Evals only: what templates read of the sample beyond the answer (model, input), or the whole sample as a row brought it.
    given: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Grade:
    """A grader's verdict. Status "error" means "could not grade": no value, never 0.0, never NaN."""

    status: Literal["ok", "error"]
    value: float = 0.0  # meaningful only when status is "ok"
    explanation: str = ""  # on error: the traceback or reason
    error_kind: str = ""  # one of OpenAI's error flags, e.g. "python_grader_runtime_error"
    parts: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    # Judges only: model -> prompt_tokens, completion_tokens, total_tokens, cached_tokens; and the model that judged.
    usage: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    model: str = ""


@dataclass(frozen=True, slots=True)
class Rollout:
    """One completion with its grade."""

    row_index: int
    sample_index: int
    seed: int
    completion: Completion
    grade: Grade


@dataclass(frozen=True, slots=True)
class Group:
    """All rollouts of one row: what an advantage is computed from."""

    row: Row
    prompt: Prompt
    rollouts: tuple[Rollout, ...]

    def graded(self) -> tuple[Rollout, ...]:
        """The rollouts that have a reward; those that could not be graded leave the group."""
        return tuple(r for r in self.rollouts if r.grade.status == "ok")

    def rewards(self) -> tuple[float, ...]:
        return tuple(r.grade.value for r in self.graded())


@dataclass(frozen=True, slots=True)
class TrainSample:
    """One completion as the learner eats it; everything is settled per token before the update.

    Samples with the same `group` share `prompt_ids`, which the learner encodes once for all of them.

    Example: prompt [5, 6], completion [7, 8, 2] (2 = stop), reward above the group's mean by 0.5:
    TrainSample(group=0, prompt_ids=(5, 6), completion_ids=(7, 8, 2), sampler_logprobs=(-1.2, -0.3, -0.1),
                advantages=(0.5, 0.5, 0.5), mask=(True, True, True))
    """

    group: int
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    sampler_logprobs: tuple[float, ...]
    advantages: tuple[float, ...]
    mask: tuple[bool, ...]  # True = trained


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """What one optimizer update did."""

    trained_tokens: int
    loss: float
    grad_norm: float
    learning_rate: float
    skipped: str = ""  # why no update was made ("non-finite gradient", "no trained tokens"), else ""
    metrics: Mapping[str, float] = field(default_factory=dict)  # entropy, clip_fraction, kl, logprob_gap_max, ...


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step of the loop: sampled, graded, updated."""

    step: int  # from 1
    total_steps: int
    reward_mean: float
    reward_std: float
    num_rollouts: int
    num_ungraded: int
    num_groups: int
    num_flat_groups: int  # no spread of rewards: nothing to learn from
    num_refills: int
    completion_tokens_mean: float
    reasoning_tokens_mean: float
    truncated_fraction: float
    update: UpdateReport
    seconds: Mapping[str, float]  # sampling, training, full_iteration
    tokens_per_second: float
    parts: Mapping[str, float] = field(default_factory=dict)  # mean of each grader part


@dataclass(frozen=True, slots=True)
class Interval:
    """A number that claims something: the value, its 95% interval, and how many rows stand behind it."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class EvalReport:
    """A model on a set of rows. `samples` keeps every rollout so that a person can read them."""

    step: int
    name: str  # "base", "tuned", "step 20"
    reward: Interval
    metrics: Mapping[str, Interval]  # top1, top5, topmax where the answer is a ranked list
    num_ungraded: int
    completion_tokens_mean: float
    reasoning_tokens_mean: float
    truncated_fraction: float
    seconds: float
    groups: tuple[Group, ...] = ()


class Sampler(Protocol):
    """Draws completions. Each is yielded as soon as it finishes, so that grading overlaps sampling."""

    def sample(
        self, prompts: Sequence[Prompt], num_samples: int, params: SamplingParams, seeds: Sequence[Sequence[int]]
    ) -> Iterator[tuple[int, int, Completion]]:
        """Yield (prompt index, sample index, completion), len(prompts) * num_samples of them in finishing order.

        `seeds[p][s]` fixes the randomness of sample s of prompt p.
        """
        ...

    def render(self, row: Row) -> Prompt:
        """The row in the model's chat template."""
        ...

    def refresh(self) -> None:
        """Take over the learner's newest weights."""
        ...


class Learner(Protocol):
    """Holds the weights being trained."""

    def step(self, samples: Sequence[TrainSample]) -> UpdateReport: ...

    def save(self, folder: str) -> None:
        """Write weights, optimizer and random state under `folder` for an exact resume."""
        ...

    def load(self, folder: str) -> None: ...


class Grader(Protocol):
    """Scores an answer. Never raises for a bad answer or a failing grader: that is a Grade with status "error"."""

    name: str

    def grade(self, completion: Completion, row: Row) -> Grade: ...

    def close(self) -> None: ...


class Recorder(Protocol):
    """Where a running job reports; the loop knows nothing of files, databases or screens."""

    def event(self, level: Literal["info", "warn", "error"], message: str, data: Mapping[str, Any] | None = None) -> None: ...

    def step(self, report: StepReport, groups: Sequence[Group]) -> None: ...

    def evaluation(self, report: EvalReport) -> None: ...

    def stop_requested(self) -> bool:
        """True when a person asked the job to stop after this step (Ctrl-C, cancel, pause)."""
        ...
