"""Makes the hybrid job's base: a small model that can read the candidates' digits and sort by those it picks; no medicine.

    python benchmarks/rare/hybrid_base.py --out runs/rare/hybrid-base --steps 3000

Its texts are made up (random genes, findings and digits: `hybrid_texts.made_up`), so it has seen no case and no evidence;
it picks the aspects it looks at blindly.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from aspects import ASPECTS, diseases_of
from hybrid_texts import made_up, pick, prompt_text, reasoning_text
from pretrain import Document, Recipe, chat_document, new_model, packed, pretrain, save
from tables import labels
from tokenizers import AddedToken

from pinetune.demo.tokenizer import train_tokenizer

MOST_WORDS = 1500
REPLIES = 6
# From this share of the steps on, the share of each source: ranking 2-4, 4-10 and 12-20 candidates.
STAGES = [(0.0, {0: 0.8, 1: 0.2}), (0.1, {0: 0.2, 1: 0.6, 2: 0.2}), (0.3, {1: 0.2, 2: 0.8})]
RECIPE = Recipe(hidden_size=128, num_layers=3, num_heads=4, intermediate_size=384)


def make_tokenizer(genes: list[str], rng: random.Random) -> Any:
    """The miniature's tokenizer over these texts; a gene, and an aspect with its digit, are one token each."""
    words = Counter(word for label in labels().values() for word in label.split())
    texts = [f"a {word}" for word, _ in words.most_common(MOST_WORDS)] * 2
    texts += [f'{gene}\n["{gene}"]' for gene in genes]
    terms = sorted(labels())
    for _ in range(200):
        case, ranked = made_up(genes, terms, rng)
        texts.append(reasoning_text(ranked, pick(rng)))
        texts.append(prompt_text(case, ranked[:2]))
    tokenizer = train_tokenizer(texts)
    marks = [f" {name}{digit}" for name in ASPECTS for digit in range(10)]
    marks += [gene for gene in genes if len(tokenizer(gene, add_special_tokens=False)["input_ids"]) > 1]
    tokenizer.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in marks])
    return tokenizer


def ranking_documents(tokenizer: Any, genes: list[str], terms: list[str], rng: random.Random, num: tuple[int, int]) -> Iterator[Document]:
    """Endless made-up cases with `num` candidates (least, most), each ranked REPLIES times: a prompt is long, a reply short."""
    while True:
        case, ranked = made_up(genes, terms, rng, rng.randint(*num))
        turns = [prompt_text(case, ranked)]
        for _ in range(REPLIES):
            turns += [reasoning_text(ranked, pick(rng)), "Again."]
        yield chat_document(tokenizer, turns[:-1])


def kindred_embeddings(model: Any, tokenizer: Any, genes: list[str]) -> None:
    """Start tokens of one kind near each other: genes share a direction, and an aspect's digits its name's, by their size.

    From independent random embeddings a model has no way to attend to "any gene" until it has learned what 4,875 tokens
    have in common, one by one.
    """
    weight = model.model.embed_tokens.weight
    with torch.no_grad():
        kin = torch.randn(len(ASPECTS) + 2, weight.shape[1]) * weight.shape[1] ** -0.5
        weight[tokenizer.convert_tokens_to_ids(genes)] += kin[-1]
        for i, name in enumerate(ASPECTS):
            for word in (name, f" {name}"):
                ids = tokenizer(word, add_special_tokens=False)["input_ids"]
                if len(ids) == 1:
                    weight[ids[0]] += kin[i]
            for digit in range(10):
                weight[tokenizer.convert_tokens_to_ids(f" {name}{digit}")] = kin[i] + (digit / 4.5 - 1) * (kin[-2] + kin[i])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3000)
    args = parser.parse_args()
    genes, terms = sorted(diseases_of()), sorted(labels())
    rng = random.Random(f"hybrid {RECIPE.seed}")
    tokenizer = make_tokenizer(genes, rng)
    model = new_model(RECIPE, tokenizer)
    kindred_embeddings(model, tokenizer, genes)
    print(f"{model.num_parameters():,} parameters, {len(tokenizer):,} tokens")
    sources = [packed(ranking_documents(tokenizer, genes, terms, rng, num), RECIPE.row_tokens) for num in ((2, 4), (4, 10), (12, 20))]
    facts = pretrain(model, sources, STAGES, RECIPE, args.steps)
    save(model, tokenizer, args.out, RECIPE, facts)


if __name__ == "__main__":
    main()
