"""How well a model knows the fact table: the share of findings whose genes it recalls exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pinetune.demo.facts import FactTable
from pinetune.demo.reasoning import recall_line


def exact_recall(model: Any, tokenizer: Any, table: FactTable, findings: Sequence[str] | None = None, batch: int = 128) -> float:
    """Share of `findings` (default: all) for which greedy decoding of "- finding:" gives the line of the table.

    Teacher forcing decides it in one forward pass: greedy decoding is exact if and only if every next token is the argmax.
    """
    names = list(findings if findings is not None else table.findings)
    num_right = 0
    more = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(" "))[0]  # what parts two genes of a list
    for start in range(0, len(names), batch):
        pairs = [_encoded(tokenizer, table, name) for name in names[start : start + batch]]
        width = max(len(ids) for ids, _ in pairs)
        padded = torch.tensor([ids + [ids[-1]] * (width - len(ids)) for ids, _ in pairs])
        with torch.no_grad():
            guesses = model(input_ids=padded, use_cache=False).logits.argmax(-1)
        for row, (ids, known) in zip(guesses, pairs, strict=True):
            *genes, after = row[known - 1 : len(ids)].tolist()
            num_right += genes == ids[known:] and after != more
    return num_right / len(names)


def _encoded(tokenizer: Any, table: FactTable, finding: str) -> tuple[list[int], int]:
    """Token ids of the whole line, and how many of them are given."""
    line = f"- {recall_line(table, finding)}"
    ids: list[int] = tokenizer(line, add_special_tokens=False)["input_ids"]
    known: list[int] = tokenizer(f"- {finding}", add_special_tokens=False)["input_ids"]
    return ids, len(known)
