"""From graded groups to micro-batches: which tokens are trained, and which samples are computed together.

Everything about masks is settled here, once, in plain Python: only graded rollouts, truncated completions out (their end was
the limit's choice, not the model's), forced tokens out, the stop token in. The learner then only multiplies and sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from pinetune.records import Group, TrainSample

MicroBatch = tuple[tuple[TrainSample, ...], ...]  # samples by group; the samples of a group share one prompt


def to_samples(group: Group, advantages: Sequence[float]) -> list[TrainSample]:
    """One `TrainSample` for each graded rollout of `group`; `advantages` is aligned with `group.graded()`.

    Raises ValueError when the lengths differ: an advantage would land on another rollout.
    """
    samples = []
    for rollout, advantage in zip(group.graded(), advantages, strict=True):
        completion = rollout.completion
        finished = completion.finish == "stop"
        samples.append(
            TrainSample(
                group=group.row.index,
                prompt_ids=group.prompt.token_ids,
                completion_ids=completion.token_ids,
                sampler_logprobs=completion.logprobs,
                advantages=(advantage,) * len(completion.token_ids),
                mask=tuple(finished and not forced for forced in completion.forced),
            )
        )
    return samples


def batch_to_samples(groups: Sequence[Group], advantage: Callable[[list[tuple[float, ...]]], list[list[float]]]) -> list[TrainSample]:
    """The samples of a whole batch, with one of the ADVANTAGES computed over all of its groups."""
    advantages_PG = advantage([group.rewards() for group in groups])
    return [sample for group, advantages_G in zip(groups, advantages_PG, strict=True) for sample in to_samples(group, advantages_G)]


def is_trained(mask: bool, sampler_logprob: float) -> bool:
    """A token counts when its mask says so and the sampler's log-prob is a number: without it there is no ratio."""
    return mask and math.isfinite(sampler_logprob)


def num_trained_tokens(samples: Iterable[TrainSample]) -> int:
    """The one denominator of a step."""
    return sum(is_trained(m, lp) for s in samples for m, lp in zip(s.mask, s.sampler_logprobs, strict=True))


def num_packed_tokens(samples: Sequence[TrainSample]) -> int:
    """Tokens a group costs in the packed forward: its prompt once, each completion without its last token.

    The last token is only ever predicted, nothing is predicted from it.
    """
    return len(samples[0].prompt_ids) + sum(len(s.completion_ids) - 1 for s in samples)


def by_group(samples: Iterable[TrainSample]) -> list[tuple[TrainSample, ...]]:
    """Samples with something to train, collected by prompt, in order of first appearance."""
    groups: dict[tuple[int, tuple[int, ...]], list[TrainSample]] = {}
    for sample in samples:
        if any(is_trained(m, lp) for m, lp in zip(sample.mask, sample.sampler_logprobs, strict=True)):
            groups.setdefault((sample.group, sample.prompt_ids), []).append(sample)
    return [tuple(group) for group in groups.values()]


def split_group(group: tuple[TrainSample, ...], token_budget: int) -> list[tuple[TrainSample, ...]]:
    """Cut a group that exceeds the budget; each part encodes the prompt again, so parts are as few as can be."""
    parts: list[list[TrainSample]] = [[]]
    for sample in group:
        if parts[-1] and num_packed_tokens([*parts[-1], sample]) > token_budget:
            parts.append([])
        parts[-1].append(sample)
    return [tuple(part) for part in parts]


def pack(samples: Iterable[TrainSample], token_budget: int) -> list[MicroBatch]:
    """Cut samples into micro-batches of at most `token_budget` packed tokens, whole groups where they fit.

    First-fit on groups sorted by size, largest first. A single sample above the budget gets a micro-batch of its own.
    """
    parts = [part for group in by_group(samples) for part in split_group(group, token_budget)]
    parts.sort(key=num_packed_tokens, reverse=True)
    bins: list[list[tuple[TrainSample, ...]]] = []
    free: list[int] = []
    for part in parts:
        size = num_packed_tokens(part)
        place = next((i for i, room in enumerate(free) if room >= size), None)
        if place is None:
            bins.append([part])
            free.append(token_budget - size)
        else:
            bins[place].append(part)
            free[place] -= size
    return [tuple(b) for b in bins]
