"""The base model that ships: small enough, opens in plain transformers, and knows its facts."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pinetune.demo.build_base import IGNORE, Recipe, batches, new_model, train
from pinetune.demo.cases import demo_cases
from pinetune.demo.corpus import random_cases, vocabulary_texts
from pinetune.demo.facts import Fact, FactTable, load_facts
from pinetune.demo.recall import exact_recall
from pinetune.demo.tokenizer import train_tokenizer
from pinetune.models.names import MINIATURE, find_model

BASE = Path(find_model(MINIATURE))


@pytest.fixture(scope="module")
def base() -> tuple[Any, Any]:
    return AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(BASE)


def test_the_shipped_base_is_small() -> None:
    assert sum(path.stat().st_size for path in BASE.iterdir()) <= 6e6


def test_it_opens_in_plain_transformers(base: tuple[Any, Any]) -> None:
    model, tokenizer = base
    assert model.num_parameters() <= 3e6
    assert tokenizer.chat_template
    assert model.config.vocab_size == len(tokenizer)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_it_knows_the_facts_of_all_genes(base: tuple[Any, Any]) -> None:
    assert exact_recall(*base, load_facts()) >= 0.98


def test_no_path_of_the_machine_that_made_it() -> None:
    for path in BASE.glob("*.json"):
        text = path.read_text(encoding="utf-8")
        assert "/home/" not in text and "/tmp/" not in text, path.name


def test_warm_up_cases_are_never_the_demo_s_own() -> None:
    table = load_facts()
    own = {case.key() for name in ("valid", "test") for case in demo_cases(table, 1)[name]}
    stream = random_cases(table, random.Random(1), own)
    assert not {next(stream).key() for _ in range(500)} & own


def test_batches_pad_on_the_right_and_shift_the_labels() -> None:
    documents = iter([([1, 2, 3], [IGNORE, 2, 3]), ([4, 5], [4, 5])] * 512)
    seen = [next(batches(documents, 6, random.Random(0))) for _ in range(1)]
    ids, labels = seen[0]
    rows = {(tuple(i), tuple(y)) for i, y in zip(ids.tolist(), labels.tolist(), strict=True)}
    assert rows in ({((1, 2, 3), (2, 3, IGNORE))}, {((4, 5), (5, IGNORE))})


@pytest.mark.slow
def test_the_recipe_learns_a_toy_table() -> None:
    """A few seconds of the real recipe: recall of a four-gene table goes from nothing to all."""
    findings = [("Fever", "Rash"), ("Fever", "Cough"), ("Rash", "Gout"), ("Cough", "Gout")]
    table = FactTable(tuple(Fact(gene, "", some) for gene, some in zip(("AAA1", "BBB2", "CCC3", "DDD4"), findings, strict=True)))
    tokenizer = train_tokenizer(vocabulary_texts(table, random.Random(0), num_chats=0), table.findings)
    recipe = Recipe(num_layers=2, hidden_size=64, intermediate_size=128, steps=150, first_steps=150, tokens_per_step=((256, 0, 0, 0),) * 2)
    model = new_model(recipe, tokenizer).eval()
    assert exact_recall(model, tokenizer, table) == 0.0
    train(model, tokenizer, table, recipe, set(), lambda line: None)
    assert exact_recall(model, tokenizer, table) == 1.0
