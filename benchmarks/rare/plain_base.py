"""Makes the plain job's base: a small model that has read part of the public gene-finding tables (see plain_texts.py).

    python benchmarks/rare/plain_base.py --out runs/rare/plain-first
    python benchmarks/rare/plain_base.py --start runs/rare/plain-first --out runs/rare/plain-base --steps 1000

It has seen no case. The facts cover all genes, those of the held-out cases too, as a general model has read the literature.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import torch
from plain_texts import genes, holders, lookup_line, made_up_chat
from pretrain import Recipe, group_of, new_model, pretrain, save, shuffled, text_sample
from tokenizers import AddedToken

from pinetune.demo.tokenizer import END, train_tokenizer
from pinetune.records import TrainSample

RECIPE = Recipe(hidden_size=160, num_layers=4, num_heads=4, intermediate_size=480, head_dim=40)
# From this share of the steps on, texts a step of each source: facts alone, then warm-up chats with facts among them.
STAGES = [(0.0, {0: 12}), (0.6, {0: 5, 1: 8})]
STAGES_ON = [(0.0, {0: 3, 1: 20})]  # when going on: it knows the facts, and has yet to find findings in a case report
LINES = 12  # findings looked up in one fact text


def make_tokenizer(rng: random.Random) -> Any:
    """The miniature's tokenizer; a gene and a telling finding are one token each, so that a fact is one step of recall."""
    texts = [text for _ in range(1500) for text in made_up_chat(rng)]
    tokenizer = train_tokenizer(texts)
    marks = [*holders(), *(gene for gene in genes())]
    tokenizer.add_tokens([AddedToken(mark, special=False, normalized=False, single_word=True) for mark in dict.fromkeys(marks)])
    return tokenizer


def fact_groups(tokenizer: Any, rng: random.Random) -> Iterator[list[TrainSample]]:
    """Endless passes over the facts, LINES a text; which finding comes next is not trained, what is known of it is."""
    parts = []
    for finding in holders():
        head = tokenizer(f"- {finding}", add_special_tokens=False)["input_ids"]
        line = tokenizer(lookup_line(finding) + "\n", add_special_tokens=False)["input_ids"]
        parts.append((line, [False] * len(head) + [True] * (len(line) - len(head))))
    end = tokenizer.convert_tokens_to_ids(END)
    order = shuffled(parts, rng)
    for number in count():
        chosen = [next(order) for _ in range(LINES)]
        ids = [token for line, _ in chosen for token in line]
        yield [text_sample(number, [end], ids, [wanted for _, mask in chosen for wanted in mask])]


def chat_groups(tokenizer: Any, rng: random.Random) -> Iterator[list[TrainSample]]:
    for number in count():
        prompt, reply = made_up_chat(rng)
        yield group_of(tokenizer, -1 - number, prompt, [reply])


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
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--start", type=Path, help="go on from this folder's weights, mostly with warm-up chats")
    args = parser.parse_args()
    recipe = replace(RECIPE, steps=args.steps)
    rng = random.Random(f"plain {recipe.seed}")
    tokenizer = make_tokenizer(rng)
    model = new_model(recipe, tokenizer)
    if args.start:
        model.load_state_dict(type(model).from_pretrained(args.start).state_dict())
        rng = random.Random(f"plain {recipe.seed} on")  # new texts
    pairs = sum(len(listed) for _, listed in holders().values())
    print(f"{model.num_parameters():,} parameters, {len(tokenizer):,} tokens, {len(holders()):,} findings, {pairs:,} pairs")
    sources = [fact_groups(tokenizer, rng), chat_groups(tokenizer, rng)]
    checked = random.Random("check").sample(sorted(holders()), 300)
    facts = pretrain(model, sources, STAGES_ON if args.start else STAGES, recipe, lambda: f"recall {recall(model, tokenizer, checked):.3f}")
    facts["recall"] = round(recall(model, tokenizer, rng.sample(sorted(holders()), 1000)), 4)
    print(json.dumps(facts))
    save(model, tokenizer, args.out, recipe, facts)


if __name__ == "__main__":
    main()
