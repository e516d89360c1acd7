"""The miniature's tokenizer: any text round-trips, and a gene is one token wherever it stands."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from pinetune.demo.corpus import vocabulary_texts
from pinetune.demo.facts import load_facts
from pinetune.demo.tokenizer import END, END_THINK, START, THINK, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer(vocabulary_texts(load_facts(), random.Random(1), num_chats=100), load_facts().findings)


@pytest.mark.parametrize(
    "text",
    ["Café 日本 👩‍⚕️", "  two  spaces\n\n\ttab ", 'NF1, TSC2/TSC1 "AR" x12 C9orf72 MT-ND1 A1 b', "Unseen polysyllabification!", ""],
)
def test_any_text_round_trips(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_gene_is_the_same_single_token_everywhere(tokenizer: Any) -> None:
    for gene in load_facts().genes:
        (one,) = tokenizer.encode(gene)
        for text in (
            f"Seizure: NF1 {gene}\n",
            json.dumps({"genes": ["NF1", gene]}),
            f'"{gene} fits 1 of 2 findings."',
            f"{gene}: Seizure.",
        ):
            assert one in tokenizer.encode(text), text


def test_a_finding_is_one_token_and_only_as_a_whole_word(tokenizer: Any) -> None:
    for finding in load_facts().findings:
        (one,) = tokenizer.encode(finding)
        assert one in tokenizer.encode(f"Present: {finding}; Fever.\n- {finding}: NF1")
    (seizure,) = tokenizer.encode("Seizure")
    assert seizure not in tokenizer.encode("Seizures")


def test_chat_template_and_tags(tokenizer: Any) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    for mark in (START, END, THINK, END_THINK):
        assert len(tokenizer.encode(mark)) == 1
    ids = tokenizer.encode(f"{THINK}a{END_THINK}b{END}")
    assert tokenizer.decode(ids, skip_special_tokens=True) == f"{THINK}a{END_THINK}b"


def test_same_texts_same_tokenizer() -> None:
    texts = ["Seizure: NF1 TSC2", "Seizure: TSC1 NF1 TSC2 TSC1"]
    assert train_tokenizer(texts).get_vocab() == train_tokenizer(texts).get_vocab()
