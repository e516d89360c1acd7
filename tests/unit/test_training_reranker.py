"""The reranker on toys: what it reads, what it learns, how the epoch is chosen, and that plain transformers opens it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from tiny_models import make_model, make_tokenizer, save_tiny
from transformers import AutoModelForSequenceClassification

from pinetune.errors import ModelError
from pinetune.models.load import LoraSettings, load_model, loaded_from
from pinetune.models.reranker import Reranker, by_length, new_reranker, open_reranker
from pinetune.records import Completion, Grade, Group, Prompt, Rollout, Row
from pinetune.training.reranker import JudgedText, RerankerSettings, balanced, best_of, pair_accuracy, train_reranker

pytestmark = pytest.mark.slow  # seconds in all, of waiting or of work

ROW = Row(0, ({"role": "user", "content": "Which gene?"},), {})


@pytest.fixture(scope="module")
def fresh() -> Reranker:
    return new_reranker(loaded_from(make_model(), make_tokenizer()), seed=1)


def toy(reranker: Reranker, rows: int, first: int) -> list[JudgedText]:
    """Four answers a row of 2 to 9 words; the long ones (6 words or more) are correct."""
    draw = random.Random(first)
    found = []
    for number in range(first, first + rows):
        for length in (*draw.sample(range(2, 5), 2), *draw.sample(range(7, 10), 2)):
            words = " ".join(draw.choice(["gene", "fox", "dog", "seizures"]) for _ in range(length))
            found.append(JudgedText(reranker.tokens(ROW, "", words), length >= 6, number))
    return found


def test_longer_answers_are_correct_is_learned_and_holds_on_rows_never_seen(fresh: Reranker) -> None:
    settings = RerankerSettings(epochs=6, learning_rate=5e-3, batch_size=8)
    reports = train_reranker(fresh, toy(fresh, 16, 0), toy(fresh, 6, 100), settings)
    test = toy(fresh, 10, 200)
    scores = fresh.scores([text.token_ids for text in test])
    assert pair_accuracy(test, scores) == 1.0
    picked = [max(range(start, start + 4), key=lambda i: scores[i]) for start in range(0, len(test), 4)]  # four answers a row
    assert [test[i].correct for i in picked] == [True] * 10
    assert max(report.pair_accuracy for report in reports) == max(report.picked for report in reports) == 1.0
    assert {report.chance for report in reports} == {0.5} and reports[-1].loss < 0.1 < reports[0].loss


def test_plain_transformers_opens_the_folder_and_gives_the_same_scores(fresh: Reranker, tmp_path: Path) -> None:
    texts = [fresh.tokens(ROW, "", words) for words in ("fox", "the dog and the fox", "a patient with seizures")]
    fresh.save(tmp_path / "reranker", {"threshold": 0.5})
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "reranker")
    assert plain.config.id2label == {0: "wrong", 1: "correct"}
    alone = [float(plain(torch.tensor([text])).logits.softmax(-1)[0, 1].detach()) for text in texts]
    opened = open_reranker(tmp_path / "reranker")
    assert opened.settings == {"stop_id": fresh.chat.stop_ids[0], "threshold": 0.5}
    assert opened.scores(texts) == pytest.approx(alone, abs=1e-6) and fresh.scores(texts) == pytest.approx(alone, abs=1e-6)


def test_a_score_does_not_depend_on_what_is_scored_beside_it(fresh: Reranker) -> None:
    texts = [fresh.tokens(ROW, "", "fox " * count) for count in (1, 30, 5)]
    assert fresh.scores(texts) == pytest.approx([fresh.scores([text])[0] for text in texts], abs=1e-6)
    rollouts = [
        Rollout(0, s, 0, Completion((1,), (0.0,), (False,), "stop", "fox " * n), Grade("ok", 0.0)) for s, n in enumerate((1, 30, 5))
    ]
    assert fresh.score_group(Group(ROW, Prompt((1,)), tuple(rollouts))) == fresh.scores(texts)


def test_the_text_that_is_scored_holds_prompt_thinking_answer_and_stop_token() -> None:
    loaded = loaded_from(make_model(), make_tokenizer())
    reranker = new_reranker(loaded)
    text = loaded.tokenizer.decode(reranker.tokens(ROW, "hm", "four"))
    assert text == "<|im_start|>user\nWhich gene?<|im_end|>\n<|im_start|>assistant\n<think>\nhm\n</think>\n\nfour<|im_end|>"
    opened = new_reranker(loaded_from(make_model(), make_tokenizer("chatml-open")))
    assert opened.tokenizer.decode(opened.tokens(ROW, "hm", "four")).endswith("assistant\n<think>\nhm\n</think>\n\nfour<|im_end|>")
    reranker.max_tokens = 3
    assert loaded.tokenizer.decode(reranker.tokens(ROW, "", "four")).endswith("<|im_end|>") and len(reranker.tokens(ROW, "", "four")) == 3


def test_the_backbone_is_the_models_and_the_model_is_not_touched(tmp_path: Path) -> None:
    loaded = load_model(save_tiny(tmp_path / "model"))
    before = {name: value.clone() for name, value in loaded.base.state_dict().items()}
    reranker = new_reranker(loaded, seed=3)
    ids = torch.tensor([[5, 6, 7]])
    ours, theirs = reranker.model.base_model(input_ids=ids), loaded.base.base_model(input_ids=ids)
    assert torch.equal(ours.last_hidden_state, theirs.last_hidden_state)
    with torch.no_grad():
        next(reranker.model.parameters()).add_(1.0)
    assert all(torch.equal(value, before[name]) for name, value in loaded.base.state_dict().items())


def test_adapters_are_merged_in(tmp_path: Path) -> None:
    loaded = load_model(save_tiny(tmp_path / "model"), lora=LoraSettings(rank=2))
    with torch.no_grad():
        for name, parameter in loaded.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    ids = torch.tensor([[5, 6, 7]])
    merged = new_reranker(loaded).model.base_model(input_ids=ids).last_hidden_state
    assert torch.allclose(merged, loaded.base.base_model(input_ids=ids).last_hidden_state, atol=1e-5)


def test_the_epoch_with_the_best_order_is_kept() -> None:
    """A rate so high that later epochs are ruined: the weights that stay are those of the reported best."""
    reranker = new_reranker(loaded_from(make_model(), make_tokenizer()), seed=1)
    held_out = toy(reranker, 4, 100)
    reports = train_reranker(reranker, toy(reranker, 6, 0), held_out, RerankerSettings(epochs=4, learning_rate=3e-2, batch_size=8, seed=2))
    kept = best_of(reports)
    assert kept.pair_accuracy == max(report.pair_accuracy for report in reports)
    assert pair_accuracy(held_out, reranker.scores([text.token_ids for text in held_out])) == kept.pair_accuracy


def test_balanced_takes_all_of_the_rarer_kind_and_as_many_of_the_other() -> None:
    right = [JudgedText([i], True, i) for i in range(3)]
    wrong = [JudgedText([i], False, i) for i in range(10)]
    drawn = balanced(right, wrong, random.Random(0))
    assert sorted(text.group for text in drawn if text.correct) == [0, 1, 2]
    assert len({text.group for text in drawn if not text.correct}) == 3 and len(drawn) == 6


def test_answers_of_one_kind_teach_nothing(fresh: Reranker) -> None:
    with pytest.raises(ValueError, match="not 1 right and 0 wrong"):
        train_reranker(fresh, [JudgedText([1], True, 0)], [], RerankerSettings())


def test_batches_hold_similar_lengths_within_the_budget() -> None:
    assert list(by_length([5, 1, 2, 9], 6)) == [[1, 2], [0], [3]]


def test_a_folder_without_a_reranker_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="pinetune rerank train"):
        open_reranker(tmp_path)
