"""Makes the hybrid job's base: a small model that can read the aspects' lists and count those it picks; no medicine.

    python benchmarks/rare/hybrid_base.py --out runs/rare/hybrid-base

Its texts are made up (random genes, findings and evidence: `hybrid_texts.made_up`), so it has seen no case and no evidence;
it picks the aspects it looks at blindly.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import torch
from aspects import NUM_CANDIDATES, diseases_of
from hybrid_texts import LOOKED_AT, made_up, pick, prompt_text, reasoning_text
from pretrain import Recipe, group_of, new_model, pretrain, save
from tables import labels
from tokenizers import AddedToken

from pinetune.demo.tokenizer import END_THINK, train_tokenizer
from pinetune.records import TrainSample
from pinetune.training.forward import PolicyForward, completion_targets

MOST_WORDS = 1500
REPLIES = 8
# From this share of the steps on, prompts a step of each source: texts that look at one aspect, and at any number.
STAGES = [(0.0, {0: 3}), (0.2, {1: 3})]
NUMBERS = [f" {number}=" for number in range(1, NUM_CANDIDATES + 1)]
RECIPE = Recipe(hidden_size=128, num_layers=4, num_heads=4, intermediate_size=384)


def make_tokenizer(genes: list[str], rng: random.Random) -> Any:
    """The miniature's tokenizer over these texts; a gene is one token."""
    words = Counter(word for label in labels().values() for word in label.split())
    texts = [f"a {word}" for word, _ in words.most_common(MOST_WORDS)] * 2
    texts += [f'{gene}\n["{gene}"]' for gene in genes]
    terms = sorted(labels())
    for _ in range(200):
        case, ranked = made_up(genes, terms, rng)
        texts.append(reasoning_text(ranked, pick(rng)))
        texts.append(prompt_text(case, ranked[:2]))
    tokenizer = train_tokenizer(texts)
    marks = list(NUMBERS)
    marks += [gene for gene in genes if len(tokenizer(gene, add_special_tokens=False)["input_ids"]) > 1]
    tokenizer.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in marks])
    return tokenizer


def ranking_groups(tokenizer: Any, genes: list[str], terms: list[str], rng: random.Random, most: int) -> Iterator[list[TrainSample]]:
    """Endless made-up cases, each ranked REPLIES times by at most `most` aspects: a prompt is long, a reply short."""
    for number in count():
        case, ranked = made_up(genes, terms, rng)
        replies = [reasoning_text(ranked, pick(rng, most)) for _ in range(REPLIES)]
        yield group_of(tokenizer, number, prompt_text(case, ranked), replies)


def right_places(model: Any, tokenizer: Any, groups: list[list[TrainSample]]) -> str:
    """Share right of greedy decoding, given the right text before: the order's numbers, genes in the thinking and in the answer."""
    numbers = torch.tensor(tokenizer.convert_tokens_to_ids(NUMBERS))
    genes = torch.tensor(tokenizer.convert_tokens_to_ids(sorted(diseases_of())))
    order, end = tokenizer.convert_tokens_to_ids(["order", END_THINK])
    forward = PolicyForward(model)
    batch = [tuple(group) for group in groups]
    with torch.no_grad():
        guess = forward.head.logits(forward.completions(batch)).argmax(-1)
    targets = completion_targets(batch, guess.device)
    part = torch.tensor([_part(s.completion_ids, t, order, end) for group in groups for s in group for t in range(len(s.completion_ids))])
    right = (guess == targets).float()
    is_gene = torch.isin(targets, genes)
    kinds = {
        "lists": is_gene & (part == 0),
        "order's numbers": torch.isin(targets, numbers) & (part == 1),
        "order's genes": is_gene & (part == 1),
        "answer": is_gene & (part == 2),
    }
    return "right in " + ", ".join(f"{name} {right[kind].mean():.3f}" for name, kind in kinds.items())


def _part(ids: Sequence[int], place: int, order: int, end: int) -> int:
    """0 = before the order, 1 = in it, 2 = in the answer."""
    return int(place >= ids.index(order)) + int(place >= ids.index(end))


def kindred_embeddings(model: Any, tokenizer: Any, genes: list[str]) -> None:
    """Start all genes near each other, with a direction in common, and all numbers.

    From independent random embeddings a model has no way to attend to "any gene" until it has learned what 4,875 tokens
    have in common, one by one.
    """
    weight = model.model.embed_tokens.weight
    with torch.no_grad():
        for kind in (genes, NUMBERS):
            weight[tokenizer.convert_tokens_to_ids(kind)] += torch.randn(weight.shape[1]) * weight.shape[1] ** -0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1200)
    args = parser.parse_args()
    recipe = replace(RECIPE, steps=args.steps)
    genes, terms = sorted(diseases_of()), sorted(labels())
    rng = random.Random(f"hybrid {recipe.seed}")
    tokenizer = make_tokenizer(genes, rng)
    model = new_model(recipe, tokenizer)
    kindred_embeddings(model, tokenizer, genes)
    print(f"{model.num_parameters():,} parameters, {len(tokenizer):,} tokens", flush=True)
    most = max(LOOKED_AT)
    sources = [ranking_groups(tokenizer, genes, terms, rng, number) for number in (1, most)]
    held_out = ranking_groups(tokenizer, genes, terms, random.Random("check"), most)
    checked = [next(held_out) for _ in range(16)]
    facts = pretrain(model, sources, STAGES, recipe, lambda: right_places(model, tokenizer, checked))
    save(model, tokenizer, args.out, recipe, facts)


if __name__ == "__main__":
    main()
