"""Local embeddings with a tiny random BERT: padding, order, batches and cache leave the vectors alone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from pinetune.errors import ModelError
from pinetune.graders.build import build_grader
from pinetune.graders.options import Services
from pinetune.models.embed import LocalEmbedder
from pinetune.records import Completion, Row

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "dog", "sat", "on", "mat"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=12,
        initializer_range=0.5,
    )
    BertModel(config).eval().save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    return folder


@pytest.fixture
def embed(folder: Path) -> LocalEmbedder:
    return LocalEmbedder(str(folder))


def close(first: list[float], second: list[float]) -> bool:
    return max(abs(a - b) for a, b in zip(first, second, strict=True)) < 1e-5


def by_hand(folder: Path, ids: list[int], pooling: str = "mean") -> list[float]:
    states = BertModel.from_pretrained(folder).eval()(input_ids=torch.tensor([ids])).last_hidden_state[0]
    vector = {"mean": states.mean(dim=0), "first": states[0], "last": states[-1]}[pooling]
    return (vector / vector.norm()).tolist()  # type: ignore[no-any-return]


def test_the_mean_of_a_texts_own_tokens_at_length_1(folder: Path, embed: LocalEmbedder) -> None:
    vectors = embed(["the cat", "the cat sat on the mat"])
    assert [math.hypot(*vector) for vector in vectors] == pytest.approx([1.0, 1.0], abs=1e-6)
    assert close(vectors[0], by_hand(folder, [2, 4, 5, 3]))  # though it was padded to the other's length
    assert close(vectors[1], by_hand(folder, [2, 4, 5, 7, 8, 4, 9, 3]))


def test_order_batches_and_repeats_do_not_matter(folder: Path) -> None:
    texts = ["cat", "the cat sat on the mat", "dog", "cat", "", "mat mat mat"]
    small, large = LocalEmbedder(str(folder), batch_size=2), LocalEmbedder(str(folder), batch_size=100)
    for first, second in zip(small(texts), large(texts[::-1])[::-1], strict=True):
        assert close(first, second)
    assert small([]) == []


def test_known_texts_are_not_embedded_again(folder: Path) -> None:
    embed, seen = LocalEmbedder(str(folder), cache_size=2), []
    forward = embed._embedded

    def counted(texts: Any) -> Any:
        seen.append(list(texts))
        return forward(texts)

    embed._embedded = counted  # type: ignore[method-assign]
    first = embed(["cat", "dog"])
    assert embed(["dog", "cat"]) == first[::-1]
    embed(["mat", "cat"])  # cat was asked for last, so dog leaves
    embed(["cat"])
    embed(["dog"])
    assert seen == [["cat", "dog"], ["mat"], ["dog"]]


def test_more_texts_than_the_cache_holds(folder: Path) -> None:
    embed = LocalEmbedder(str(folder), cache_size=1)
    vectors = embed(["cat", "dog", "mat", "cat"])
    assert vectors[0] == vectors[3]
    assert embed(["cat"])[0] == pytest.approx(vectors[0], abs=1e-5)


def test_long_and_odd_texts(embed: LocalEmbedder) -> None:
    vectors = embed(["cat " * 1000, "cat " * 2000, "\ud800 \0"])
    assert close(vectors[0], vectors[1])  # both are cut at the model's 12 positions
    assert math.hypot(*vectors[2]) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(("name", "pooling"), [("mean_tokens", "mean"), ("cls_token", "first"), ("lasttoken", "last")])
def test_pooling_as_sentence_transformers_wrote_it(folder: Path, name: str, pooling: str) -> None:
    config = folder / "1_Pooling" / "config.json"
    config.parent.mkdir(exist_ok=True)
    modes = {f"pooling_mode_{mode}": mode == name for mode in ("mean_tokens", "cls_token", "lasttoken", "max_tokens")}
    config.write_text(json.dumps({"word_embedding_dimension": 16, **modes}))
    try:
        assert close(LocalEmbedder(str(folder))(["the cat", "the cat sat on"])[0], by_hand(folder, [2, 4, 5, 3], pooling))
    finally:
        config.unlink()


def test_models_that_cannot_be_used(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model"):
        LocalEmbedder(str(tmp_path / "absent"))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot be opened"):
        LocalEmbedder(str(tmp_path))
    config = folder / "1_Pooling" / "config.json"
    config.parent.mkdir(exist_ok=True)
    config.write_text('{"pooling_mode_max_tokens": true}')
    with pytest.raises(ModelError, match=r"asks for pooling_mode_max_tokens; one of pooling_mode_mean_tokens, "):
        LocalEmbedder(str(folder))
    config.unlink()


def test_cosine_of_a_text_similarity_grader(folder: Path, embed: LocalEmbedder) -> None:
    services = Services(embed=lambda texts, model: embed(texts))
    definition = {"type": "text_similarity", "input": "{{ sample.output_text }}", "reference": "cat", "evaluation_metric": "cosine"}
    grader = build_grader(definition, services=services)
    value = {text: grader.grade(Completion((), (), (), "stop", text), Row(0, (), {})).value for text in ("cat", "dog")}
    by_definition = sum(a * b for a, b in zip(by_hand(folder, [2, 5, 3]), by_hand(folder, [2, 6, 3]), strict=True))
    assert value["cat"] == pytest.approx(1.0, abs=1e-6)
    assert value["dog"] == pytest.approx(max(0.0, by_definition), abs=1e-5)
