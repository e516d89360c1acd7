"""Pretraining of the benchmark's small bases: the miniature's model class, tokenizer and schedule, over other documents."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from pinetune.demo.tokenizer import END, PAD

IGNORE = -100
Document = tuple[list[int], list[int]]  # token ids, labels
Row = tuple[list[int], list[int], list[int]]  # ids, labels shifted to the token they predict, positions
Stage = tuple[float, dict[int, float]]  # from this share of the steps on: source -> share of the rows


@dataclass(frozen=True, slots=True)
class Recipe:
    """What decides a base besides its texts; written beside the weights."""

    seed: int = 1
    hidden_size: int = 128
    num_layers: int = 4
    num_heads: int = 4
    intermediate_size: int = 384
    context_length: int = 1024
    head_dim: int = 64
    row_tokens: int = 640
    rows_per_step: int = 1
    learning_rate: float = 2e-3
    embedding_rate: float = 5e-4
    ramp: float = 0.03  # share of the steps in which the rates rise


def new_model(recipe: Recipe, tokenizer: Any) -> Any:
    """A Qwen3-type model with random weights, fp32, that starts near to copying.

    The output projection of each head starts as the transpose of its value projection, as in mimetic initialization
    (Trockman & Kolter, ICML 2023), and the tied embeddings at norm 1: what a head attends to is what it writes. With the
    usual initialization a base this small had not begun to copy after a third of its training.
    """
    torch.manual_seed(recipe.seed)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=recipe.hidden_size,
            intermediate_size=recipe.intermediate_size,
            num_hidden_layers=recipe.num_layers,
            num_attention_heads=recipe.num_heads,
            num_key_value_heads=recipe.num_heads,
            head_dim=recipe.head_dim,
            max_position_embeddings=recipe.context_length,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.convert_tokens_to_ids(END),
            pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
        )
    )
    with torch.no_grad():
        model.model.embed_tokens.weight.normal_(std=recipe.hidden_size**-0.5)
        for layer in model.model.layers:
            for head in range(recipe.num_heads):
                part = slice(head * recipe.head_dim, (head + 1) * recipe.head_dim)
                basis = torch.linalg.qr(torch.randn(recipe.hidden_size, recipe.head_dim))[0]
                layer.self_attn.v_proj.weight[part] = basis.T
                layer.self_attn.o_proj.weight[:, part] = basis
    return model


def chat_document(tokenizer: Any, turns: Sequence[str]) -> Document:
    """A chat, user and assistant in turn; only the assistant's turns are trained, their end marks included."""
    ids: list[int] = []
    labels: list[int] = []
    for i in range(0, len(turns), 2):
        opening = tokenizer.apply_chat_template([{"role": "user", "content": turns[i]}], tokenize=False, add_generation_prompt=True)
        before = tokenizer(opening, add_special_tokens=False)["input_ids"]
        after = tokenizer(turns[i + 1] + END, add_special_tokens=False)["input_ids"]
        gap = tokenizer("\n", add_special_tokens=False)["input_ids"]  # the template ends every turn with a line break
        ids += [*before, *after, *gap]
        labels += [*[IGNORE] * len(before), *after, *[IGNORE] * len(gap)]
    return ids, labels


def packed(documents: Iterator[Document], row_tokens: int) -> Iterator[Row]:
    """Rows of `row_tokens`. Positions restart with each document: transformers keeps attention inside a document by them."""
    ids: list[int] = []
    labels: list[int] = []
    positions: list[int] = []
    for tokens, targets in documents:
        tokens, targets = tokens[:row_tokens], targets[:row_tokens]
        if len(ids) + len(tokens) > row_tokens:
            gap = row_tokens - len(ids)
            yield ids + [0] * gap, labels + [IGNORE] * gap, positions + list(range(gap))
            ids, labels, positions = [], [], []
        ids += tokens
        labels += [*targets[1:], IGNORE]
        positions += range(len(tokens))


def rate_at(done: float, ramp: float) -> float:
    """Share of the peak rate at `done` of the training: linear rise over `ramp`, then a cosine to zero."""
    return done / ramp if done < ramp else 0.5 * (1 + math.cos(math.pi * min(1.0, (done - ramp) / (1 - ramp))))


def make_optimizer(model: Any, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW, slow for the embeddings: at the full rate the thousands of rare tokens all drift the same way, step after step
    (Adam scales up even the faint pull of being a wrong answer), until one gene can no longer be told from another."""
    embeddings = [p for name, p in model.named_parameters() if "embed" in name]
    others = [p for name, p in model.named_parameters() if "embed" not in name]
    groups = [{"params": others, "lr": recipe.learning_rate}, {"params": embeddings, "lr": recipe.embedding_rate}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0, fused=True)


def pretrain(model: Any, sources: Sequence[Iterator[Row]], stages: Sequence[Stage], recipe: Recipe, steps: int) -> dict[str, float]:
    """Train for `steps` updates on rows drawn from `sources` by the stage's shares; the rates come down to zero at the end."""
    choose = random.Random(f"mix {recipe.seed}")
    optimizer = make_optimizer(model, recipe)
    peaks = [group["lr"] for group in optimizer.param_groups]
    model.train()
    began, tokens, recent = time.monotonic(), 0, 0.0
    for step in range(steps):
        done = step / steps
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * rate_at(done, recipe.ramp)
        shares = [shares for start, shares in stages if start <= done][-1]
        rows = [next(sources[i]) for i in choose.choices(list(shares), list(shares.values()), k=recipe.rows_per_step)]
        loss, num = _step(model, optimizer, rows)
        recent = loss if not step else 0.95 * recent + 0.05 * loss
        tokens += num
        if (step + 1) % 100 == 0:
            print(f"step {step + 1}/{steps}  loss {recent:.3f}  {tokens / (time.monotonic() - began):.0f} tokens/s", flush=True)
    model.eval()
    return {"steps": steps, "tokens": tokens, "loss": round(recent, 4), "seconds": round(time.monotonic() - began)}


def _step(model: Any, optimizer: torch.optim.Optimizer, rows: Sequence[Row]) -> tuple[float, int]:
    ids, labels, positions = (torch.tensor(column) for column in zip(*rows, strict=True))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model.model(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state
        kept = labels != IGNORE
        logits = model.lm_head(hidden[kept])
    loss = torch.nn.functional.cross_entropy(logits.float(), labels[kept])
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item(), ids.numel()


def save(model: Any, tokenizer: Any, out: Path, recipe: Recipe, facts: dict[str, Any]) -> None:
    """A Hugging Face folder, with what made it beside the weights."""
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "recipe.json").write_text(json.dumps({**asdict(recipe), **facts}, indent=2) + "\n", encoding="utf-8")
