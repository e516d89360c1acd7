"""Makes the plain job's base: a small model that has read part of the public gene-finding tables (see plain_texts.py).

    python benchmarks/rare/plain_base.py --out runs/rare/plain-base --steps 8000

It has seen no case. The facts cover all genes, those of the held-out cases too, as a general model has read the literature.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from plain_texts import genes, holders, lookup_line, made_up_chat
from pretrain import IGNORE, Document, Recipe, chat_document, new_model, packed, pretrain, save
from tokenizers import AddedToken

from pinetune.demo.tokenizer import END, train_tokenizer

RECIPE = Recipe(hidden_size=160, num_layers=4, num_heads=4, intermediate_size=480, head_dim=40, row_tokens=512, rows_per_step=6)
LINES = 12  # findings looked up in one fact text
FACTS_ALONE = 0.6  # of the steps, before the first warm-up text


def make_tokenizer(rng: random.Random) -> Any:
    """The miniature's tokenizer; a gene and a telling finding are one token each, so that a fact is one step of recall."""
    texts = [text for _ in range(1500) for text in made_up_chat(rng)]
    tokenizer = train_tokenizer(texts)
    marks = [*holders(), *(gene for gene in genes())]
    tokenizer.add_tokens([AddedToken(mark, special=False, normalized=False, single_word=True) for mark in dict.fromkeys(marks)])
    return tokenizer


def fact_documents(tokenizer: Any, rng: random.Random) -> Iterator[Document]:
    """Endless passes over the facts, LINES a text; which finding comes next is not trained, what is known of it is."""
    end = tokenizer.convert_tokens_to_ids(END)
    parts = {}
    for finding in holders():
        head = tokenizer(f"- {finding}", add_special_tokens=False)["input_ids"]
        tail = tokenizer(lookup_line(finding) + "\n", add_special_tokens=False)["input_ids"][len(head) :]
        parts[finding] = (head + tail, [IGNORE] * len(head) + tail)
    while True:
        order = rng.sample(list(parts), len(parts))
        for i in range(0, len(order), LINES):
            chosen = [parts[finding] for finding in order[i : i + LINES]]
            yield [t for ids, _ in chosen for t in ids] + [end], [t for _, labels in chosen for t in labels] + [IGNORE]


def chat_documents(tokenizer: Any, rng: random.Random) -> Iterator[Document]:
    while True:
        yield chat_document(tokenizer, made_up_chat(rng))


def recall(model: Any, tokenizer: Any, findings: list[str]) -> float:
    """Share of listed genes that greedy decoding would name at their place, given the right ones before."""
    right = total = 0
    known = set(tokenizer.convert_tokens_to_ids(list(genes())))
    for start in range(0, len(findings), 64):
        rows = [tokenizer(lookup_line(f) + "\n", add_special_tokens=False)["input_ids"] for f in findings[start : start + 64]]
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        with torch.no_grad():
            guess = model(input_ids=ids).logits[:, :-1].argmax(-1)
        is_gene = torch.isin(ids[:, 1:], torch.tensor(sorted(known)))
        right += int((guess == ids[:, 1:])[is_gene].sum())
        total += int(is_gene.sum())
    return right / total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=8000)
    args = parser.parse_args()
    rng = random.Random(f"plain {RECIPE.seed}")
    tokenizer = make_tokenizer(rng)
    model = new_model(RECIPE, tokenizer)
    pairs = sum(len(listed) for _, listed in holders().values())
    print(f"{model.num_parameters():,} parameters, {len(tokenizer):,} tokens, {len(holders()):,} findings, {pairs:,} pairs")
    sources = [packed(fact_documents(tokenizer, rng), RECIPE.row_tokens), packed(chat_documents(tokenizer, rng), RECIPE.row_tokens)]
    stages = [(0.0, {0: 1.0}), (FACTS_ALONE, {0: 0.4, 1: 0.6})]
    facts = pretrain(model, sources, stages, RECIPE, args.steps)
    facts["recall"] = round(recall(model, tokenizer, rng.sample(sorted(holders()), 1000)), 4)
    print(json.dumps(facts))
    save(model, tokenizer, args.out, RECIPE, facts)


if __name__ == "__main__":
    main()
