"""Sampler and learner see the same policy, and the stop token is an action for each chat template."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pinetune.models.load import LoadedModel, loaded_from
from pinetune.records import Grade, Group, Rollout, Row, SamplingParams
from pinetune.sampling.local import LocalSampler
from pinetune.training.forward import PolicyForward, completion_logprobs
from pinetune.training.learner import GrpoLearner
from pinetune.training.pack import pack, to_samples
from pinetune.training.settings import LearnerSettings
from tests.tiny_models import make_model, make_tokenizer


def sampled_groups(loaded: LoadedModel, num_samples: int = 4, max_tokens: int = 24) -> list[Group]:
    sampler = LocalSampler(loaded)
    rows = [Row(i, ({"role": "user", "content": text},), {}) for i, text in enumerate(("Which gene?", "What is two plus two? Explain."))]
    prompts = [sampler.render(row) for row in rows]
    seeds = [[100 * p + s for s in range(num_samples)] for p in range(len(rows))]
    rollouts: list[list[Rollout]] = [[] for _ in rows]
    for p, s, completion in sampler.sample(prompts, num_samples, SamplingParams(max_tokens=max_tokens), seeds):
        rollouts[p].append(Rollout(p, s, seeds[p][s], completion, Grade("ok", float(s % 2))))
    return [Group(row, prompt, tuple(group)) for row, prompt, group in zip(rows, prompts, rollouts, strict=True)]


@pytest.mark.parametrize("kind", ["qwen3", "qwen2", "llama", "mistral"])
@pytest.mark.parametrize("fused", [True, False])
def test_sampler_and_learner_logprobs_agree(kind: str, fused: bool) -> None:
    loaded = loaded_from(make_model(kind), make_tokenizer())
    groups = sampled_groups(loaded)
    samples = [
        replace(sample, mask=(True,) * len(sample.mask)) for group in groups for sample in to_samples(group, [0.0] * len(group.rollouts))
    ]
    batch = pack(samples, 10_000)[0]
    with torch.no_grad():
        logprobs, _ = completion_logprobs(PolicyForward(loaded.model, fused=fused), batch)
    stored = torch.tensor([lp for group in batch for sample in group for lp in sample.sampler_logprobs])
    assert len(stored) > 50
    assert float((logprobs - stored).abs().max()) < 1e-4


@pytest.mark.parametrize("template", ["chatml", "llama3", "gemma"])
def test_the_stop_token_is_sampled_kept_and_trained(template: str) -> None:
    tokenizer = make_tokenizer(template)
    model = make_model(vocab_size=len(tokenizer), head_dim=8)
    loaded = loaded_from(model, tokenizer)
    with torch.no_grad():  # a model that likes to end its turn
        model.get_output_embeddings().weight[list(loaded.chat.stop_ids)] *= 4
    ended = [r for group in sampled_groups(loaded, 8, 60) for r in group.rollouts if r.completion.finish == "stop"]
    assert ended
    group = Group(Row(0, (), {}), sampled_groups(loaded, 1, 2)[0].prompt, tuple(ended))
    samples = to_samples(group, [1.0] * len(ended))
    assert all(s.completion_ids[-1] in loaded.chat.stop_ids and s.mask[-1] for s in samples)

    learner = GrpoLearner(loaded, LearnerSettings(learning_rate=1e-3, warmup_steps=1))
    only_stop = [replace(s, mask=(*([False] * (len(s.mask) - 1)), True)) for s in samples]

    def stop_logprobs() -> float:
        with torch.no_grad():
            batch = pack(only_stop, 10_000)[0]
            logprobs, _ = completion_logprobs(PolicyForward(loaded.model), batch)
        ends = torch.tensor([len(s.completion_ids) for group in batch for s in group]).cumsum(0) - 1
        return float(logprobs[ends].sum())

    before = stop_logprobs()
    report = learner.step(only_stop)
    assert report.trained_tokens == len(ended)
    assert stop_logprobs() > before
