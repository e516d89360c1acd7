"""Makes the base model that ships with the demo: `pinetune demo build-base`, from nothing, on a CPU, in minutes.

Two stages. It first reads the facts of all genes, as a general model has read the literature. Then it is warmed up on
reasoning texts of all genes, mostly careless ones (see reasoning.py), with facts mixed in so that nothing is forgotten.
Documents are packed into rows of ROW_TOKENS tokens; restarting positions keep attention inside a document (transformers
builds the block-diagonal mask from them). The recipe's numbers, and what did not work, stand in docs/miniature.md.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from pinetune.demo.cases import demo_cases
from pinetune.demo.corpus import (
    copying,
    counting,
    finding_facts,
    gene_facts,
    lookups,
    random_cases,
    vocabulary_texts,
    warm_up_chat,
    worked_example,
)
from pinetune.demo.facts import FactTable, load_facts
from pinetune.demo.tokenizer import END, PAD, train_tokenizer

ROW_TOKENS = 256
IGNORE = -100
Document = tuple[list[int], list[int]]  # token ids, labels


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the base besides the fact table; written beside the weights."""

    seed: int = 1
    hidden_size: int = 128
    num_layers: int = 5
    num_heads: int = 4
    intermediate_size: int = 384
    steps: int = 1500
    fact_steps: int = 600  # of them, before the first warm-up text
    rows_per_step: int = 8
    learning_rate: float = 3e-3
    muon_rate: float = 0.02
    first_mix: tuple[float, float, float] = (0.75, 0.25, 0.0)  # rows of facts, worked examples, warm-up chats
    second_mix: tuple[float, float, float] = (0.15, 0.25, 0.6)
    bf16: bool = True


def new_model(recipe: Recipe, tokenizer: Any) -> Any:
    """A Qwen3-type model with random weights, fp32."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.num_layers,
        num_attention_heads=recipe.num_heads,
        num_key_value_heads=recipe.num_heads,
        head_dim=recipe.hidden_size // recipe.num_heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids(END),
        pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
    )
    torch.manual_seed(recipe.seed)
    return Qwen3ForCausalLM(config)


def fact_documents(table: FactTable, tokenizer: Any, rng: random.Random) -> Iterator[Document]:
    """Endless passes over the facts, every token trained."""
    end = tokenizer.convert_tokens_to_ids(END)
    while True:
        texts = finding_facts(table, rng) + gene_facts(table, rng) + lookups(table, rng) + lookups(table, rng)
        texts += copying(table, rng, 200) + counting(table, rng, 200)
        rng.shuffle(texts)
        for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]:
            yield [*ids, end], [*ids, end]


def example_documents(table: FactTable, tokenizer: Any, rng: random.Random, forbidden: set[Any]) -> Iterator[Document]:
    """Endless worked examples, every token of the solution trained."""
    for case in random_cases(table, rng, forbidden):
        question, _, solution = worked_example(table, case, rng).partition("<think>")
        yield _answered(tokenizer, question, f"<think>{solution}")


def chat_documents(table: FactTable, tokenizer: Any, rng: random.Random, forbidden: set[Any]) -> Iterator[Document]:
    """Endless warm-up chats; only the assistant's turn is trained, its end mark included."""
    for case in random_cases(table, rng, forbidden):
        chat = warm_up_chat(table, case, rng)
        opening = tokenizer.apply_chat_template(chat[:1], tokenize=False, add_generation_prompt=True)
        yield _answered(tokenizer, opening, chat[1]["content"])


def _answered(tokenizer: Any, question: str, answer: str) -> Document:
    given = tokenizer(question, add_special_tokens=False)["input_ids"]
    trained = tokenizer(answer + END, add_special_tokens=False)["input_ids"]
    return given + trained, [IGNORE] * len(given) + trained


def packed_rows(documents: Iterator[Document]) -> Iterator[tuple[list[int], list[int], list[int]]]:
    """Rows of ROW_TOKENS: ids, labels shifted to the token they predict, positions. A document never spans two rows."""
    ids: list[int] = []
    labels: list[int] = []
    positions: list[int] = []
    for tokens, targets in documents:
        tokens, targets = tokens[:ROW_TOKENS], targets[:ROW_TOKENS]
        if len(ids) + len(tokens) > ROW_TOKENS:
            gap = ROW_TOKENS - len(ids)
            yield ids + [0] * gap, labels + [IGNORE] * gap, positions + list(range(gap))
            ids, labels, positions = [], [], []
        ids += tokens
        labels += [*targets[1:], IGNORE]
        positions += range(len(tokens))


def rate_at(step: int, recipe: Recipe) -> float:
    """Share of the peak learning rate: linear warm-up over 5% of the steps, then a cosine to zero."""
    ramp = max(1, recipe.steps // 20)
    if step < ramp:
        return (step + 1) / ramp
    return 0.5 * (1 + math.cos(math.pi * (step - ramp) / max(1, recipe.steps - ramp)))


def make_optimizers(model: Any, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embeddings and norms."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    if not recipe.muon_rate:
        matrices, others = [], matrices + others
    adamw = torch.optim.AdamW(others, lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    optimizers: list[torch.optim.Optimizer] = [adamw]
    if matrices:
        optimizers.append(torch.optim.Muon(matrices, lr=recipe.muon_rate, momentum=0.95, weight_decay=0.0))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


def train(model: Any, tokenizer: Any, table: FactTable, recipe: Recipe, forbidden: set[Any], report: Callable[[str], None]) -> None:
    """Both stages in one loop."""
    sources = [
        packed_rows(fact_documents(table, tokenizer, random.Random(f"facts {recipe.seed}"))),
        packed_rows(example_documents(table, tokenizer, random.Random(f"examples {recipe.seed}"), forbidden)),
        packed_rows(chat_documents(table, tokenizer, random.Random(f"chats {recipe.seed}"), forbidden)),
    ]
    choose = random.Random(f"mix {recipe.seed}")
    optimizers = make_optimizers(model, recipe)
    model.train()
    started = time.monotonic()
    for step in range(recipe.steps):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate_at(step, recipe)
        mix = recipe.first_mix if step < recipe.fact_steps else recipe.second_mix
        rows = [next(source) for source in choose.choices(sources, weights=mix, k=recipe.rows_per_step)]
        ids, labels, positions = (torch.tensor(column) for column in zip(*rows, strict=True))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=recipe.bf16):
            hidden = model.model(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state
            kept = labels != IGNORE
            logits = model.lm_head(hidden[kept])
        loss = torch.nn.functional.cross_entropy(logits.float(), labels[kept])
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if (step + 1) % 100 == 0 or step + 1 == recipe.steps:
            report(f"step {step + 1}/{recipe.steps}  loss {loss.item():.3f}  {time.monotonic() - started:.0f} s")
    model.eval()


def build_base(out: Path, recipe: Recipe | None = None, report: Callable[[str], None] = print) -> Path:
    """Train a base from random weights and save it under `out` as a Hugging Face folder (bf16 safetensors)."""
    recipe = recipe or Recipe()
    table = load_facts()
    rng = random.Random(f"vocabulary {recipe.seed}")
    tokenizer = train_tokenizer(vocabulary_texts(table, rng))
    model = new_model(recipe, tokenizer)
    report(f"{model.num_parameters():,} parameters, {len(tokenizer):,} tokens, {len(table.genes)} genes")
    cases = demo_cases(table, recipe.seed)
    forbidden = {case.key() for name in ("valid", "test") for case in cases[name]}
    train(model, tokenizer, table, recipe, forbidden, report)
    out.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "recipe.json").write_text(json.dumps(asdict(recipe), indent=2) + "\n", encoding="utf-8")
    return out
