"""Random samples for tests of the training room: groups of completions of one prompt, ragged lengths, a few untrained tokens."""

from __future__ import annotations

import random

from pinetune.records import TrainSample


def random_samples(
    num_groups: int = 3, lengths: tuple[int, ...] = (1, 9, 4, 17), *, seed: int = 0, vocab_size: int = 300, on_policy: float = -5.7
) -> list[TrainSample]:
    """Prompts of 5, 12, 19, ... tokens; sampler log-probs near `on_policy`, so that ratios are finite and some clip."""
    rng = random.Random(seed)
    samples = []
    for group in range(num_groups):
        prompt = tuple(rng.randrange(vocab_size) for _ in range(5 + 7 * group))
        for length in lengths:
            tokens = tuple(rng.randrange(vocab_size) for _ in range(length + group))
            samples.append(
                TrainSample(
                    group=group,
                    prompt_ids=prompt,
                    completion_ids=tokens,
                    sampler_logprobs=tuple(on_policy + rng.uniform(-1, 1) for _ in tokens),
                    advantages=(rng.uniform(-1, 1),) * len(tokens),
                    mask=tuple(t == 0 or rng.random() < 0.9 for t in range(len(tokens))),
                )
            )
    return samples
