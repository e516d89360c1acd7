"""Makes the base model that ships with the demo: `pinetune demo build-base`, from nothing, on a CPU, in minutes.

Two stages. It first reads the facts of all genes, as a general model has read the literature. Then it is warmed up on
reasoning texts of all genes, mostly careless ones (see reasoning.py), with facts mixed in so that nothing is forgotten.
The recipe's numbers, and what did not work, stand in docs/miniature.md.
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
from pinetune.demo.recall import exact_recall
from pinetune.demo.tokenizer import END, PAD, train_tokenizer
from pinetune.models.linear import use_fast_linear

POOL = 1024  # documents that are sorted by length together
IGNORE = -100
Document = tuple[list[int], list[int]]  # token ids, labels


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the base besides the fact table; written beside the weights."""

    seed: int = 1
    hidden_size: int = 128
    num_layers: int = 4
    num_heads: int = 4
    num_kv_heads: int = 2
    intermediate_size: int = 384
    steps: int = 2400
    first_steps: int = 400
    # Tokens a step, of facts, practice, worked examples and warm-up chats, in the first stage and after it.
    tokens_per_step: tuple[tuple[int, int, int, int], ...] = ((1024, 768, 512, 0), (256, 768, 768, 768))
    learning_rate: float = 6e-3
    muon_rate: float = 0.02


def new_model(recipe: Recipe, tokenizer: Any) -> Any:
    """A Qwen3-type model with random weights, fp32."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.num_layers,
        num_attention_heads=recipe.num_heads,
        num_key_value_heads=recipe.num_kv_heads,
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
        rng.shuffle(texts)
        for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]:
            yield [*ids, end], [*ids, end]


def practice_documents(table: FactTable, tokenizer: Any, rng: random.Random) -> Iterator[Document]:
    """Endless exercises in copying and counting; only their answers are trained."""
    while True:
        for text in copying(table, rng, 20) + counting(table, rng, 80):
            question, _, answer = text.rpartition("\n")
            yield _answered(tokenizer, question, f"\n{answer}")


def example_documents(table: FactTable, tokenizer: Any, rng: random.Random, forbidden: set[Any]) -> Iterator[Document]:
    """Endless worked examples, every token of the solution trained."""
    for case in random_cases(table, rng, forbidden):
        question, _, solution = worked_example(table, case).partition("<think>")
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


def batches(documents: Iterator[Document], num_tokens: int, rng: random.Random) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches of documents of like length, about `num_tokens` tokens each with their padding.

    Yields ids [documents, width] and labels [documents, width], the labels shifted to the token they predict. Padding
    stands on the right, where causal attention never looks, so that no mask is needed.
    """
    while True:
        pool = sorted((next(documents) for _ in range(POOL)), key=lambda document: len(document[0]))
        cuts: list[list[Document]] = [[]]
        for document in pool:
            if len(document[0]) * (len(cuts[-1]) + 1) > num_tokens and cuts[-1]:
                cuts.append([])
            cuts[-1].append(document)
        cuts.pop()  # what is left over is shorter than a batch
        rng.shuffle(cuts)
        for cut in cuts:
            width = len(cut[-1][0])
            ids = [tokens + [0] * (width - len(tokens)) for tokens, _ in cut]
            labels = [targets[1:] + [IGNORE] * (width - len(targets) + 1) for _, targets in cut]
            yield torch.tensor(ids), torch.tensor(labels)


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
    """Both stages in one loop; every step reads a batch of each kind of document that its stage has."""
    rng = random.Random(f"order {recipe.seed}")
    documents = (
        fact_documents(table, tokenizer, random.Random(f"facts {recipe.seed}")),
        practice_documents(table, tokenizer, random.Random(f"practice {recipe.seed}")),
        example_documents(table, tokenizer, random.Random(f"examples {recipe.seed}"), forbidden),
        chat_documents(table, tokenizer, random.Random(f"chats {recipe.seed}"), forbidden),
    )
    stages = [[batches(source, num, rng) for source, num in zip(documents, mix, strict=True) if num] for mix in recipe.tokens_per_step]
    optimizers = make_optimizers(model, recipe)
    model.train()
    started = time.monotonic()
    for step in range(recipe.steps):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate_at(step, recipe)
        stage = stages[0 if step < recipe.first_steps else 1]
        losses = backward(model, [next(source) for source in stage])
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if (step + 1) % 100 == 0 or step + 1 == recipe.steps:
            shown = " ".join(f"{loss:.3f}" for loss in losses)
            report(f"step {step + 1}/{recipe.steps}  loss {shown}  {time.monotonic() - started:.0f} s")
    model.eval()


def backward(model: Any, parts: list[tuple[torch.Tensor, torch.Tensor]]) -> list[float]:
    """Gradients of the mean loss over all trained tokens of a step; returns each part's own mean loss."""
    num_trained = sum(int((labels != IGNORE).sum()) for _, labels in parts)
    losses = []
    for ids, labels in parts:
        kept = labels != IGNORE
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        loss = torch.nn.functional.cross_entropy(model.lm_head(hidden[kept]), labels[kept], reduction="sum")
        torch.autograd.backward(loss / num_trained)
        losses.append(loss.item() / int(kept.sum()))
    return losses


def build_base(out: Path, recipe: Recipe | None = None, report: Callable[[str], None] = print) -> Path:
    """Train a base from random weights and save it under `out` as a Hugging Face folder (bf16 safetensors).

    Takes about ten minutes on two quiet cores. Same recipe, table and torch build: same weights.
    """
    recipe = recipe or Recipe()
    table = load_facts()
    rng = random.Random(f"vocabulary {recipe.seed}")
    tokenizer = train_tokenizer(vocabulary_texts(table, rng), table.findings)
    model = new_model(recipe, tokenizer)
    use_fast_linear(model)
    report(f"{model.num_parameters():,} parameters, {len(tokenizer):,} tokens, {len(table.genes)} genes")
    cases = demo_cases(table, recipe.seed)
    forbidden = {case.key() for name in ("valid", "test") for case in cases[name]}
    train(model, tokenizer, table, recipe, forbidden, report)
    out.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    report(f"recalls the genes of {exact_recall(model.float(), tokenizer, table):.1%} of the findings exactly, as stored")
    (out / "recipe.json").write_text(json.dumps(asdict(recipe), indent=2) + "\n", encoding="utf-8")
    return out
