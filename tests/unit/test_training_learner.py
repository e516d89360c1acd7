"""The update: independent of micro-batch size, exact after a resume, safe against broken numbers and full memory."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pinetune.errors import JobError, ModelError
from pinetune.models.load import LoadedModel, LoraSettings, load_model, loaded_from
from pinetune.training.forward import PolicyForward, completion_logprobs
from pinetune.training.learner import GrpoLearner
from pinetune.training.losses import LossSettings
from pinetune.training.pack import pack
from pinetune.training.settings import LearnerSettings
from tests.tiny_models import make_model, make_tokenizer, save_tiny
from tests.training_samples import random_samples


def tiny(seed: int = 0, **config: Any) -> LoadedModel:
    return loaded_from(make_model(seed=seed, **config), make_tokenizer())


def gradient_of(settings: LearnerSettings, loaded: LoadedModel | None = None) -> tuple[torch.Tensor, float, dict[str, float]]:
    learner = GrpoLearner(loaded or tiny(), settings)
    samples = random_samples()
    num_tokens = sum(sum(s.mask) for s in samples)
    loss, metrics = learner._gradients(samples, num_tokens)
    flat = torch.cat([p.grad.flatten() for p in learner.optimizer.parameters.values() if p.grad is not None])
    return flat, float(loss), {name: float(value) for name, value in metrics.items()}


def weights_of(loaded: LoadedModel) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in loaded.model.named_parameters()}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("loss", ["grpo", "gspo"])
@pytest.mark.parametrize("budget", [1, 40, 90])
def test_micro_batch_size_does_not_change_the_step(loss: str, budget: int) -> None:
    whole, whole_loss, whole_metrics = gradient_of(LearnerSettings(loss=loss))
    cut, cut_loss, cut_metrics = gradient_of(LearnerSettings(loss=loss, micro_batch_tokens=budget))
    assert float((whole - cut).norm() / whole.norm()) < 1e-6
    assert cut_loss == pytest.approx(whole_loss, rel=1e-5)
    assert cut_metrics == pytest.approx(whole_metrics, rel=1e-4)


def test_the_gradient_is_that_of_the_loss_written_out_in_plain_torch() -> None:
    loaded, samples = tiny(), random_samples()
    gradient, loss, _ = gradient_of(LearnerSettings(), loaded)
    loaded.model.zero_grad()
    total = torch.zeros(())
    for sample in samples:
        logits = loaded.model(torch.tensor([sample.prompt_ids + sample.completion_ids])).logits[0, len(sample.prompt_ids) - 1 : -1]
        logprobs = logits.log_softmax(-1).gather(1, torch.tensor(sample.completion_ids)[:, None])[:, 0]
        ratio = (logprobs - torch.tensor(sample.sampler_logprobs)).exp()
        advantages = torch.tensor(sample.advantages)
        gain = torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.28) * advantages)
        total = total - (gain * torch.tensor(sample.mask)).sum()
    total = total / sum(sum(s.mask) for s in samples)
    total.backward()
    plain = torch.cat([p.grad.flatten() for p in loaded.model.parameters() if p.grad is not None])
    assert float((gradient - plain).norm() / plain.norm()) < 1e-5
    assert loss == pytest.approx(total.item(), rel=1e-5)


def test_a_step_raises_what_was_good_and_lowers_what_was_bad() -> None:
    loaded, samples = tiny(), random_samples()
    logprobs = completion_logprobs(PolicyForward(loaded.model), pack(samples, 10_000)[0])[0].tolist()
    ordered, start, on_policy = [s for group in pack(samples, 10_000)[0] for s in group], 0, []
    for sample in ordered:
        stop = start + len(sample.completion_ids)
        on_policy.append(replace(sample, sampler_logprobs=tuple(logprobs[start:stop])))
        start = stop
    report = GrpoLearner(loaded, LearnerSettings(learning_rate=1e-3, warmup_steps=1)).step(on_policy)
    assert report.skipped == ""
    assert report.metrics["ratio_max"] == pytest.approx(1, abs=1e-4)
    assert report.metrics["logprob_gap_max"] < 1e-5
    assert report.metrics["clip_fraction"] == 0
    after = completion_logprobs(PolicyForward(loaded.model), pack(on_policy, 10_000)[0])[0].tolist()
    advantages = [a for s in on_policy for a in s.advantages]
    assert sum(a * (new - old) for a, new, old in zip(advantages, after, logprobs, strict=True)) > 0


def test_the_rate_warms_up_and_then_stays() -> None:
    learner = GrpoLearner(tiny(), LearnerSettings(learning_rate=1e-3, warmup_steps=4))
    rates = [learner.step(random_samples()).learning_rate for _ in range(6)]
    assert rates == pytest.approx([2.5e-4, 5e-4, 7.5e-4, 1e-3, 1e-3, 1e-3])


def test_several_updates_per_batch_move_further_and_start_to_clip() -> None:
    reports = [
        GrpoLearner(tiny(), LearnerSettings(learning_rate=1e-2, warmup_steps=1, num_updates=n)).step(random_samples()) for n in (1, 3)
    ]
    assert reports[1].loss < reports[0].loss


def test_a_step_without_trained_tokens_is_skipped() -> None:
    samples = [replace(s, mask=(False,) * len(s.mask)) for s in random_samples()]
    report = GrpoLearner(tiny()).step(samples)
    assert (report.skipped, report.trained_tokens) == ("no trained tokens", 0)


def test_a_non_finite_gradient_leaves_weights_and_optimizer_alone() -> None:
    loaded = tiny()
    learner = GrpoLearner(loaded, LearnerSettings(warmup_steps=1))
    learner.step(random_samples())
    before, moments = weights_of(loaded), {k: v.clone() for k, v in learner.optimizer.moments().items()}
    broken = [replace(s, advantages=(float("inf"),) * len(s.advantages)) for s in random_samples()]
    assert learner.step(broken).skipped == "non-finite loss"
    assert equal(weights_of(loaded), before)
    assert equal(learner.optimizer.moments(), moments)
    assert learner.step(random_samples(seed=1)).skipped == ""


def test_out_of_memory_halves_the_budget_and_starts_the_step_over(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = GrpoLearner(tiny(), LearnerSettings(micro_batch_tokens=512))
    real, sizes = GrpoLearner._backward, []

    def small_memory(self: GrpoLearner, forward: Any, batch: Any, num_tokens: int) -> Any:
        result = real(self, forward, batch, num_tokens)  # gradients are there before it fails, as in a real one
        sizes.append(sum(len(s.prompt_ids) + len(s.completion_ids) for group in batch for s in group))
        if self.token_budget > 128:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        return result

    monkeypatch.setattr(GrpoLearner, "_backward", small_memory)
    samples = random_samples()
    learner._gradients(samples, 10)
    assert learner.token_budget == 128
    gradient = torch.cat([p.grad.flatten() for p in learner.optimizer.parameters.values() if p.grad is not None])
    monkeypatch.setattr(GrpoLearner, "_backward", real)
    expected = GrpoLearner(tiny())
    expected._gradients(samples, 10)
    plain = torch.cat([p.grad.flatten() for p in expected.optimizer.parameters.values() if p.grad is not None])
    assert float((gradient - plain).norm() / plain.norm()) < 1e-6


def test_other_runtime_errors_are_not_taken_for_full_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(GrpoLearner, "_backward", fail)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        GrpoLearner(tiny()).step(random_samples())


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=4, alpha=8)])
def test_a_resumed_learner_takes_the_same_next_step_bit_for_bit(tmp_path: Path, lora: LoraSettings | None) -> None:
    folder = save_tiny(tmp_path / "base")

    def fresh() -> tuple[LoadedModel, GrpoLearner]:
        loaded = load_model(folder, lora=lora, device="cpu")
        return loaded, GrpoLearner(loaded, LearnerSettings(learning_rate=1e-3))

    loaded, learner = fresh()
    for seed in range(3):
        learner.step(random_samples(seed=seed))
    learner.save(str(tmp_path / "state"))
    drawn = random.random(), np.random.rand(), torch.rand(3).tolist()
    report = learner.step(random_samples(seed=9))

    resumed, other = fresh()
    other.load(str(tmp_path / "state"))
    assert (random.random(), np.random.rand(), torch.rand(3).tolist()) == drawn
    assert other.step(random_samples(seed=9)) == report
    assert equal(weights_of(resumed), weights_of(loaded))
    assert equal(other.optimizer.moments(), learner.optimizer.moments())


def test_state_of_another_model_is_refused(tmp_path: Path) -> None:
    GrpoLearner(tiny()).save(str(tmp_path))
    with pytest.raises(ModelError, match="another model"):
        GrpoLearner(tiny(num_hidden_layers=1)).load(str(tmp_path))


def test_lora_trains_adapters_only_and_counts_their_state_only(tmp_path: Path) -> None:
    loaded = load_model(save_tiny(tmp_path / "base"), lora=LoraSettings(rank=4, alpha=8), device="cpu")
    learner = GrpoLearner(loaded, LearnerSettings(learning_rate=1e-2, warmup_steps=1))
    before = weights_of(loaded)
    learner.step(random_samples())
    changed = {name for name, value in weights_of(loaded).items() if not torch.equal(value, before[name])}
    assert changed and all("lora_" in name for name in changed)
    assert all("lora_" in name for name in learner.optimizer.moments())


def test_lora_gradient_equals_the_padded_one(tmp_path: Path) -> None:
    loaded = load_model(save_tiny(tmp_path / "base"), lora=LoraSettings(rank=4, alpha=8), device="cpu")
    with torch.no_grad():
        for name, parameter in loaded.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    gradients = []
    for packed in (True, False):
        loaded.model.zero_grad()
        forward = PolicyForward(loaded.model, packed=packed)
        assert (forward.decoder is not None) == packed
        logprobs, _ = completion_logprobs(forward, pack(random_samples(), 10_000)[0])
        (logprobs * torch.linspace(1, 2, len(logprobs))).sum().backward()
        forward.finish()
        gradients.append(torch.cat([p.grad.flatten() for p in loaded.model.parameters() if p.grad is not None]))
    assert float((gradients[0] - gradients[1]).norm() / gradients[1].norm()) < 1e-5


@pytest.mark.parametrize("lora", [False, True])
def test_the_penalty_measures_distance_from_the_model_at_the_start(tmp_path: Path, lora: bool) -> None:
    loaded = load_model(save_tiny(tmp_path / "base"), lora=LoraSettings(rank=4, alpha=8) if lora else None, device="cpu")
    settings = LearnerSettings(learning_rate=1e-2, warmup_steps=1, loss_settings=LossSettings(kl_coefficient=0.1))
    learner = GrpoLearner(loaded, settings)
    first, second = learner.step(random_samples()), learner.step(random_samples())
    assert first.metrics["kl"] == pytest.approx(0, abs=1e-6)
    assert second.metrics["kl"] > 1e-4


def test_bfloat16_products_stay_near_float32() -> None:
    gradient, _, metrics = gradient_of(LearnerSettings(bfloat16=True))
    exact, _, exact_metrics = gradient_of(LearnerSettings())
    assert float(torch.nn.functional.cosine_similarity(gradient, exact, dim=0)) > 0.99
    assert metrics["entropy"] == pytest.approx(exact_metrics["entropy"], rel=0.02)


def test_bfloat16_weights_move_by_less_than_their_own_precision() -> None:
    loaded = tiny()
    loaded.model.to(torch.bfloat16)
    learner = GrpoLearner(loaded, LearnerSettings(learning_rate=1e-5, warmup_steps=1))
    before = {name: value.clone() for name, value in learner.optimizer.weights().items()}
    learner.step(random_samples())
    moved = [float((value - before[name]).abs().max()) for name, value in learner.optimizer.weights().items()]
    assert min(moved) > 0
    assert max(moved) < 2e-5


@pytest.mark.parametrize("fields", [{"loss": "ppo2"}, {"learning_rate": 0.0}, {"num_updates": 0}])
def test_settings_no_learner_can_work_with(fields: dict[str, Any]) -> None:
    with pytest.raises(JobError, match=next(iter(fields))):
        LearnerSettings(**fields)
