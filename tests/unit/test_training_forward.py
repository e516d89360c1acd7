"""The packed forward with shared prompts equals plain padded rows, in log-probs and in gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pinetune.errors import ModelError
from pinetune.models.load import quiet
from pinetune.training import cross_attention, fused
from pinetune.training.attention import packed_attention
from pinetune.training.dense_attention import dense_attention
from pinetune.training.forward import PolicyForward, can_pack, completion_logprobs
from pinetune.training.fused import can_fuse
from pinetune.training.layout import build_layout
from pinetune.training.pack import pack
from tests.tiny_models import make_model
from tests.training_samples import random_samples


def logprobs_and_gradient(
    model: Any, *, packed: bool = True, fused: bool = True, budget: int = 10_000
) -> tuple[torch.Tensor, torch.Tensor]:
    model.zero_grad()
    parts = []
    forward = PolicyForward(model, packed=packed, fused=fused)
    for batch in pack(random_samples(), budget):
        logprobs, _ = completion_logprobs(forward, batch)
        weights = torch.cat([torch.tensor(s.sampler_logprobs) for group in batch for s in group])
        (logprobs * weights).sum().backward()
        parts.append(logprobs.detach())
    forward.finish()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    return torch.cat(parts), gradient


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(((a - b).norm() / b.norm()).detach())


@pytest.mark.parametrize("kind", ["qwen3", "qwen2", "llama", "mistral"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("by_block", [True, False])
def test_shared_prompts_change_neither_logprobs_nor_gradient(kind: str, tied: bool, by_block: bool) -> None:
    model = make_model(kind, tie_word_embeddings=tied)
    assert can_fuse(model)
    logprobs, gradient = logprobs_and_gradient(model, fused=by_block)
    plain_logprobs, plain_gradient = logprobs_and_gradient(model, packed=False)
    assert float((logprobs - plain_logprobs).abs().max()) < 1e-5
    assert relative(gradient, plain_gradient) < 1e-5


def gemma(**fields: Any) -> Any:
    from transformers import GemmaConfig, GemmaForCausalLM

    torch.manual_seed(0)
    config = GemmaConfig(
        vocab_size=384, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=1,
        head_dim=8, initializer_range=0.12, **fields
    )  # fmt: skip
    return GemmaForCausalLM(config).eval()


def gemma2(sliding_window: int) -> Any:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=384, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, initializer_range=0.12, sliding_window=sliding_window, query_pre_attn_scalar=8
    )  # fmt: skip
    return Gemma2ForCausalLM(config).eval()


def test_gemma_is_packed_too() -> None:
    model = gemma()
    assert can_pack(model, 100)
    logprobs, gradient = logprobs_and_gradient(model, packed=True)
    plain_logprobs, plain_gradient = logprobs_and_gradient(model, packed=False)
    assert float((logprobs - plain_logprobs).abs().max()) < 1e-5
    assert relative(gradient, plain_gradient) < 1e-5


def test_models_our_attention_cannot_serve_go_through_padded_rows() -> None:
    model = gemma2(sliding_window=4096)  # soft-capped scores
    assert not can_pack(model, 100)
    logprobs, _ = logprobs_and_gradient(model, packed=True)
    batch = pack(random_samples(), 10_000)[0]
    sample, num_prompt = batch[0][0], len(batch[0][0].prompt_ids)
    logits = model(torch.tensor([sample.prompt_ids + sample.completion_ids])).logits[0, num_prompt - 1 : -1]
    expected = logits.log_softmax(-1).gather(1, torch.tensor(sample.completion_ids)[:, None])[:, 0]
    assert float((logprobs[: len(expected)] - expected).detach().abs().max()) < 1e-5  # the head's soft cap is applied too


def test_a_window_shorter_than_the_longest_row_is_not_packed() -> None:
    model = make_model("mistral", sliding_window=16)
    assert can_pack(model, 16)
    assert not can_pack(model, 17)


def test_entropy_is_that_of_the_full_softmax() -> None:
    model = make_model()
    batch = pack(random_samples(num_groups=1), 10_000)[0]
    _, entropy = completion_logprobs(PolicyForward(model), batch)
    sample, num_prompt = batch[0][1], len(batch[0][1].prompt_ids)
    logits = model(torch.tensor([sample.prompt_ids + sample.completion_ids])).logits[0, num_prompt - 1 : -1]
    expected = torch.distributions.Categorical(logits=logits).entropy()
    assert float((entropy[1 : 1 + len(expected)] - expected).detach().abs().max()) < 1e-5  # the first completion has one token


@pytest.mark.parametrize("score_bytes", [1, 4 * 2**20])
def test_blockwise_and_dense_attention_agree_forward_and_backward(monkeypatch: pytest.MonkeyPatch, score_bytes: int) -> None:
    monkeypatch.setattr(cross_attention, "SCORE_BYTES", score_bytes)  # 1: queries in chunks of 64
    torch.manual_seed(0)
    layout = build_layout(pack(random_samples(lengths=(2, 40, 4, 3, 17, 60)), 10_000)[0], torch.device("cpu"))
    tensors = [torch.randn(layout.num_tokens, heads, 8, requires_grad=True) for heads in (4, 2, 2)]
    weights = torch.randn(layout.num_tokens, 4, 8)
    results = []
    for attention in (packed_attention, dense_attention):
        out = attention(*tensors, layout, 0.3)
        results.append((out, *torch.autograd.grad((out * weights).sum(), tensors)))
    for flash, dense in zip(*results, strict=True):
        assert relative(flash, dense) < 1e-5


def test_bfloat16_attention_stays_near_float32() -> None:
    torch.manual_seed(0)
    layout = build_layout(pack(random_samples(), 10_000)[0], torch.device("cpu"))
    exact = [torch.randn(layout.num_tokens, heads, 16, requires_grad=True) for heads in (4, 2, 2)]
    coarse = [x.detach().bfloat16().requires_grad_() for x in exact]
    results = []
    for tensors in (coarse, exact):
        out = packed_attention(*tensors, layout, 0.25)
        results.append((out, *torch.autograd.grad(out.float().square().sum(), tensors)))
    assert all(relative(a.float(), b) < 0.03 for a, b in zip(*results, strict=True))


def test_packed_tokens_hold_each_prompt_once_and_no_last_token() -> None:
    samples = random_samples(num_groups=2, lengths=(3, 3))
    layout = build_layout(pack(samples, 10_000)[0], torch.device("cpu"))
    assert layout.num_tokens == (12 + 5) + 2 * 3 + 2 * 2  # prompts 12 and 5; completions of 4 and 3 without their last token
    assert layout.targets.tolist() == [t for s in (*samples[2:], *samples[:2]) for t in s.completion_ids]
    assert layout.predictor.tolist()[:5] == [11, 17, 18, 19, 11]  # the prompt's last token predicts the first token of each completion
    assert layout.positions.tolist()[17:23] == [12, 13, 14, 12, 13, 14]


def test_an_adapted_output_head_is_refused_in_one_line() -> None:
    from peft import LoraConfig, get_peft_model

    with quiet():  # peft calls what transformers is about to drop
        model = get_peft_model(make_model(), LoraConfig(r=2, target_modules=["q_proj", "lm_head"], task_type="CAUSAL_LM"))
    with pytest.raises(ModelError, match="leave lm_head out of adapters"):
        PolicyForward(model)


def test_large_models_and_layers_without_attention_keep_to_their_own_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    monkeypatch.setattr(fused, "LARGEST_BYTES", 1000)
    assert not can_fuse(model)
    model.config.layer_types = ["full_attention", "linear_attention"]
    assert not can_pack(model, 10)
