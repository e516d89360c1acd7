"""Pretraining of the benchmark's small bases: the trainer's own packed forward on supervised texts, the miniature's optimizers.

A text is a TrainSample: `prompt_ids` are given, `completion_ids` are trained where `mask` says so. Samples with the same group
share their prompt, which is read once for all of them.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from pinetune.demo.build_base import make_optimizers, rate_at
from pinetune.demo.tokenizer import END, PAD
from pinetune.models.linear import use_fast_linear
from pinetune.records import TrainSample
from pinetune.training.forward import PolicyForward, completion_targets
from pinetune.training.losses import LossInputs, Metrics
from pinetune.training.pack import pack
from pinetune.training.policy_gradient import backward_by_chunk

BFLOAT16 = True  # products only; weights and updates stay float32
Stage = tuple[float, dict[int, int]]  # from this share of the steps on: source -> groups a step


@dataclass(frozen=True, slots=True)
class Recipe:
    """What decides a base besides its texts; written beside the weights. The fields `demo.build_base` reads, and our own."""

    seed: int = 1
    hidden_size: int = 128
    num_layers: int = 4
    num_heads: int = 4
    head_dim: int = 64
    intermediate_size: int = 384
    steps: int = 3000
    learning_rate: float = 3e-3
    muon_rate: float = 0.02
    micro_batch_tokens: int = 8192


def new_model(recipe: Recipe, tokenizer: Any) -> Any:
    """A Llama-type model with biases, fp32, random but for its attention, which starts near to copying.

    In the manner of mimetic initialization (Trockman & Kolter, ICML 2023): the tied embeddings at norm 1; every head's output
    projection the transpose of its value projection, so that what a head attends to is what it writes; from the second layer on
    equal query and key projections, so that a token attends to its like; in the first layer two heads that look one and two
    tokens back, through the biases of queries and keys. What followed a token before is then two layers away.
    With the usual initialization a base this small had not begun to copy a gene after 300 updates; with this one, half of the genes
    to be copied were right after 100.
    """
    torch.manual_seed(recipe.seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.hidden_size,
            intermediate_size=recipe.intermediate_size,
            num_hidden_layers=recipe.num_layers,
            num_attention_heads=recipe.num_heads,
            num_key_value_heads=recipe.num_heads,
            head_dim=recipe.head_dim,
            attention_bias=True,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.convert_tokens_to_ids(END),
            pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
        )
    )
    with torch.no_grad():
        model.model.embed_tokens.weight.normal_(std=recipe.hidden_size**-0.5)
        for number, layer in enumerate(model.model.layers):
            for head in range(recipe.num_heads):
                part = slice(head * recipe.head_dim, (head + 1) * recipe.head_dim)
                basis = torch.linalg.qr(torch.randn(recipe.hidden_size, recipe.head_dim))[0]
                layer.self_attn.v_proj.weight[part] = basis.T
                layer.self_attn.o_proj.weight[:, part] = basis
                if number:
                    layer.self_attn.q_proj.weight[part] = layer.self_attn.k_proj.weight[part] = ALIKE * basis.T
        for head, back in enumerate((1, 2)):
            look_back(model.model.layers[0].self_attn, head, back, recipe.head_dim, model.model.rotary_emb.inv_freq)
    return model


ALIKE = 0.7  # of a head's queries and keys, for tokens with their like
QUICK = 0.05  # radians a token: the rotary frequencies from here on tell neighbours apart


def look_back(attention: Any, head: int, back: int, head_dim: int, frequencies: torch.Tensor) -> None:
    """Make `head` attend `back` tokens back, whatever they are.

    Rotary embeddings turn the score of constant query q and key k into q . R(j - i) k; with q = R(-back) k it is the sum of
    |k_f|^2 cos((i - j - back) f) over the frequencies f, highest at i - j = back.
    """
    part = slice(head * head_dim, (head + 1) * head_dim)
    weight = torch.where(frequencies > QUICK, 6.0, 0.0)
    attention.k_proj.bias[part] = torch.cat([weight, torch.zeros_like(weight)])
    angle = back * frequencies
    attention.q_proj.bias[part] = torch.cat([weight * torch.cos(angle), -weight * torch.sin(angle)])
    attention.q_proj.weight[part] *= 0.1
    attention.k_proj.weight[part] *= 0.1


def text_sample(group: int, prompt_ids: Sequence[int], completion_ids: Sequence[int], mask: Sequence[bool] | None = None) -> TrainSample:
    num = len(completion_ids)
    return TrainSample(
        group, tuple(prompt_ids), tuple(completion_ids), (0.0,) * num, (1.0,) * num, tuple(mask) if mask is not None else (True,) * num
    )


def group_of(tokenizer: Any, group: int, prompt: str, replies: Sequence[str]) -> list[TrainSample]:
    """One user turn with several assistant's replies, each with its end mark."""
    opening = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True)
    given = tokenizer(opening, add_special_tokens=False)["input_ids"]
    return [text_sample(group, given, tokenizer(reply + END, add_special_tokens=False)["input_ids"]) for reply in replies]


def pretrain(
    model: Any,
    sources: Sequence[Iterator[list[TrainSample]]],
    stages: Sequence[Stage],
    recipe: Recipe,
    check: Callable[[], str] = lambda: "",
) -> dict[str, Any]:
    """Train `model` in place on groups drawn from `sources` by the stage's counts; rates rise, then fall to zero."""
    use_fast_linear(model)
    optimizers = make_optimizers(model, recipe)  # type: ignore[arg-type]  # it reads the rates only
    began, tokens, recent = time.monotonic(), 0, 0.0
    for step in range(recipe.steps):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate_at(step, recipe)  # type: ignore[arg-type]
        counts = [counts for start, counts in stages if start <= step / recipe.steps][-1]
        samples = [sample for i, count in counts.items() for _ in range(count) for sample in next(sources[i])]
        loss = backward(model, samples, recipe.micro_batch_tokens)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        recent = loss if not step else 0.95 * recent + 0.05 * loss
        tokens += sum(sum(sample.mask) for sample in samples)
        if (step + 1) % 50 == 0:
            print(f"step {step + 1}/{recipe.steps}  loss {recent:.3f}  {time.monotonic() - began:.0f} s  {check()}", flush=True)
    return {"trained_tokens": tokens, "loss": round(recent, 4), "seconds": round(time.monotonic() - began)}


def backward(model: Any, samples: Sequence[TrainSample], micro_batch_tokens: int) -> float:
    """Gradients of the mean loss over all trained tokens of `samples`, prompts encoded once a group; returns that mean."""
    num_trained = sum(sum(sample.mask) for sample in samples)
    forward = PolicyForward(model, bfloat16=BFLOAT16)
    total = 0.0

    def negative_log_likelihood(logprobs: torch.Tensor, inputs: LossInputs) -> tuple[torch.Tensor, Metrics]:
        return -logprobs.sum() / num_trained, {}

    for batch in pack(samples, micro_batch_tokens):
        kept = torch.tensor([wanted for group in batch for sample in group for wanted in sample.mask])
        hidden = forward.completions(batch)[kept]
        ones = torch.ones(len(hidden))
        inputs = LossInputs(torch.zeros_like(ones), ones, ones, torch.zeros(len(hidden), dtype=torch.long))
        targets = completion_targets(batch, hidden.device)[kept]
        total += float(backward_by_chunk(hidden, forward.head, targets, inputs, negative_log_likelihood)[0])
    forward.finish()
    return total


def save(model: Any, tokenizer: Any, out: Path, recipe: Recipe, facts: dict[str, Any]) -> None:
    """A Hugging Face folder, with what made it beside the weights."""
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "recipe.json").write_text(json.dumps({**asdict(recipe), **facts}, indent=2) + "\n", encoding="utf-8")


def shuffled(items: Sequence[Any], rng: random.Random) -> Iterator[Any]:
    """Endless passes over `items`, each in its own order."""
    while True:
        yield from rng.sample(items, len(items))
