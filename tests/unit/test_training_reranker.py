"""The reranker on toys: what it reads, what it learns, how the epoch is chosen, and that plain transformers opens it."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_models import make_model, make_tokenizer, save_tiny
from transformers import AutoModelForSequenceClassification

from pinetune.errors import ModelError
from pinetune.models.load import LoraSettings, load_model, loaded_from
from pinetune.models.renaming import Renaming
from pinetune.models.reranker import RENAMINGS, Reranker, by_length, new_reranker, open_reranker
from pinetune.records import Completion, Grade, Group, Prompt, Rollout, Row
from pinetune.training.forward import BodyForward
from pinetune.training.reranker import (
    JudgedText,
    RerankerReport,
    RerankerSettings,
    answer_logits,
    balanced,
    best_of,
    pair_accuracy,
    text_losses,
    train_reranker,
)

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
            token_ids, begins = reranker.text(ROW, "", words)
            found.append(JudgedText(token_ids, length >= 6, number, begins))
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
    ids, begins = reranker.text(ROW, "hm", "four")
    assert loaded.tokenizer.decode(ids[begins:]) == "four<|im_end|>"
    ids, begins = reranker.text(ROW, "hm", "")
    assert begins == len(ids) - 1  # the stop token alone
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


def test_balanced_takes_of_each_name_all_of_the_rarer_kind_and_as_many_of_the_other() -> None:
    a = [JudgedText([i], i < 3, i, says="A") for i in range(13)]
    only_right, only_wrong = JudgedText([20], True, 20, says="B"), JudgedText([21], False, 21, says="C")
    drawn = balanced([*a, only_right, only_wrong], random.Random(0))
    assert {text.says for text in drawn} == {"A"} and len(drawn) == 6
    assert sorted(text.group for text in drawn if text.correct) == [0, 1, 2]
    wrong = [{text.group for text in balanced(a, order) if not text.correct} for order in [random.Random(1)] * 5]
    assert {len(groups) for groups in wrong} == {3} and len(set.union(*map(set, wrong))) > 3  # drawn anew each time


def test_balanced_keeps_the_answers_to_a_row_together() -> None:
    texts = [JudgedText([i], i % 2 == 0, i // 4) for i in range(40)]
    drawn = [text.group for text in balanced(texts, random.Random(0))]
    assert drawn == [group for group in dict.fromkeys(drawn) for _ in range(4)] and drawn != sorted(drawn)


def test_losses_of_the_last_token_and_of_all_tokens_by_hand() -> None:
    logits = torch.tensor([0.0, math.log(3.0), 0.0, math.log(3.0)], requires_grad=True)
    trained, last = text_losses(logits, [2, 1, 1], [True, False, False], token_weight=0.5)
    right, even, wrong = math.log(4 / 3), math.log(2), math.log(4)  # 3 to 1 for correct: said of a right answer, and of a wrong one
    assert last.tolist() == pytest.approx([right, even, wrong], abs=1e-6)
    assert trained.tolist() == pytest.approx([right + (even + right) / 4, 1.5 * even, 1.5 * wrong], abs=1e-6)
    trained.sum().backward()
    # of a token: (share that says correct - label), by its weights; the last of the first text counts 1 and 0.5 / 2
    assert logits.grad is not None
    assert logits.grad.tolist() == pytest.approx([-0.5 * 0.25, -0.25 * 1.25, 0.5 * 1.5, 0.75 * 1.5], abs=1e-6)


@pytest.mark.parametrize("way", [{}, {"fused": False}, {"packed": False}])
def test_training_reads_what_scoring_reads(fresh: Reranker, way: dict[str, bool]) -> None:
    texts = toy(fresh, 2, 0)
    forward = BodyForward(fresh.model, **way)
    assert (forward.decoder is not None) == (not way)
    with torch.no_grad():
        logits, counts = answer_logits(forward, fresh, texts)
        alone = fresh.logits([text.token_ids for text in texts])
    assert counts == [len(text.token_ids) - text.begins for text in texts] and min(counts) >= 3  # words and the stop token
    ends = torch.tensor(counts).cumsum(0) - 1
    assert torch.allclose(logits[ends], alone, atol=1e-4)


def test_all_three_ways_give_one_gradient(fresh: Reranker) -> None:
    texts = toy(fresh, 2, 0)
    found = []
    for way in ({}, {"fused": False}, {"packed": False}):
        fresh.model.zero_grad()
        forward = BodyForward(fresh.model, **way)
        logits, counts = answer_logits(forward, fresh, texts)
        text_losses(logits, counts, [text.correct for text in texts], 1.0)[0].sum().backward()
        forward.finish()
        found.append({name: p.grad.clone() for name, p in fresh.model.named_parameters() if p.grad is not None})
    fresh.model.zero_grad()
    assert found[0].keys() == found[1].keys() == found[2].keys() and "score.weight" in found[0]
    for other in found[1:]:
        assert all(torch.allclose(found[0][name], other[name], atol=1e-4, rtol=1e-3) for name in other)


def test_names_are_exchanged_alike_in_prompt_thinking_and_answer() -> None:
    renaming = Renaming(["TSC1", "TSC2", "NF1"])
    asked = Row(3, ({"role": "user", "content": "TSC1 or TSC10?"}, {"role": "assistant", "content": None}), {"answer": "TSC1"})
    for seed in range(20):
        row, reasoning, answer = renaming(asked, "TSC2 is not TSC1", "TSC1, NF1-like, NF1", random.Random(seed))
        first, second = str(row.messages[0]["content"]).removesuffix(" or TSC10?"), reasoning.split()[0]
        third = ({"TSC1", "TSC2", "NF1"} - {first, second}).pop()
        assert (reasoning, answer) == (f"{second} is not {first}", f"{first}, NF1-like, {third}")
        assert (row.index, row.item, row.messages[1]["content"]) == (3, {"answer": "TSC1"}, None)


def test_a_reranker_of_exchanged_names_scores_the_mean_over_exchanges() -> None:
    made = new_reranker(loaded_from(make_model(), make_tokenizer()), seed=1)
    answers = [("", "the fox"), ("", "the dog")]
    plain = made.score_answers(ROW, answers)
    made.settings["names"] = ["fox", "dog"]
    # Each exchange either turns both round or neither: the scores are mixtures of the same two.
    turned = sum(random.Random(seed).sample(["dog", "fox"], 2) == ["fox", "dog"] for seed in range(RENAMINGS)) / RENAMINGS
    expected = [(1 - turned) * plain[0] + turned * plain[1], (1 - turned) * plain[1] + turned * plain[0]]
    assert made.score_answers(ROW, answers) == pytest.approx(expected, abs=1e-6)


def test_what_is_trained_on_is_varied_each_time_it_is_drawn() -> None:
    reranker = new_reranker(loaded_from(make_model(), make_tokenizer()), seed=1)
    texts = toy(reranker, 2, 0)
    seen: list[float] = []

    def vary(text: JudgedText, order: random.Random) -> JudgedText:
        seen.append(order.random())
        return text

    train_reranker(reranker, texts, [], RerankerSettings(epochs=2, batch_size=8), vary=vary)
    assert len(seen) == len(set(seen)) == 2 * len(texts)


def test_training_ends_when_looking_again_does_not_help() -> None:
    """Held-out labels turned round: the better it learns, the worse it orders them."""
    reranker = new_reranker(loaded_from(make_model(), make_tokenizer()), seed=1)
    held_out = [replace(text, correct=not text.correct) for text in toy(reranker, 4, 100)]
    settings = RerankerSettings(epochs=50, learning_rate=5e-3, batch_size=8, patience=3)
    reports = train_reranker(reranker, toy(reranker, 16, 0), held_out, settings)
    assert len(reports) - 1 - reports.index(best_of(reports)) == 3 and reports[-1].epoch < 50


def test_the_best_report_has_the_best_order_and_of_equal_ones_the_lower_loss() -> None:
    def report(step: int, held_out_loss: float, pairs: float) -> RerankerReport:
        return RerankerReport(step, 1, 0.5, held_out_loss, pairs, 0.5, 0.5)

    reports = [report(1, 0.6, 0.7), report(2, 0.5, 0.8), report(3, 0.4, 0.8), report(4, 0.1, 0.6)]
    assert best_of(reports).step == 3
    blind = [report(1, math.nan, math.nan), report(2, math.nan, math.nan)]
    assert best_of(blind).step == 2


def test_answers_of_one_kind_teach_nothing(fresh: Reranker) -> None:
    with pytest.raises(ValueError, match="not 1 right and 0 wrong"):
        train_reranker(fresh, [JudgedText([1], True, 0)], [], RerankerSettings())


def test_batches_hold_similar_lengths_within_the_budget() -> None:
    assert list(by_length([5, 1, 2, 9], 6)) == [[1, 2], [0], [3]]


def test_a_folder_without_a_reranker_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="pinetune rerank train"):
        open_reranker(tmp_path)
