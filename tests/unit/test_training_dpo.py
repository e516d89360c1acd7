"""DPO and weighted likelihood: values by hand, and the gradient against plain autograd."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tiny_models import save_tiny

from pinetune.models.load import LoadedModel, load_model
from pinetune.training.dpo import Pair, loss, weight
from pinetune.training.likelihood import Text, score, step
from pinetune.training.optimizer import Optimizer

TEXTS = [Text([5, 6, 7], [8, 9]), Text([5, 6], [10, 11, 12]), Text([7], [13])]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model(save_tiny(tmp_path_factory.mktemp("tiny") / "model"), device="cpu")


def test_loss_and_weight_are_those_of_the_paper() -> None:
    # margin = (-3 + 4) - (-5 + 4) = 2; beta * margin = 0.5
    pair = Pair(preferred=-3.0, rejected=-5.0, reference_preferred=-4.0, reference_rejected=-4.0)
    assert pair.margin == 2.0
    assert loss(pair, 0.25) == pytest.approx(math.log(1 + math.exp(-0.5)))  # 0.474077
    assert weight(pair, 0.25) == pytest.approx(0.25 / (1 + math.exp(0.5)))  # 0.094385
    wrong = Pair(-5.0, -3.0, -4.0, -4.0)
    assert loss(wrong, 0.25) == pytest.approx(math.log(1 + math.exp(0.5)))  # 0.974077


def test_extreme_margins_do_not_overflow() -> None:
    assert loss(Pair(-1e5, 0.0, 0.0, 0.0), 1.0) == 1e5
    assert loss(Pair(0.0, -1e5, 0.0, 0.0), 1.0) == 0.0
    assert weight(Pair(-1e5, 0.0, 0.0, 0.0), 1.0) == 1.0
    assert weight(Pair(0.0, -1e5, 0.0, 0.0), 1.0) == 0.0


def reference_logprobs(loaded: LoadedModel, texts: list[Text]) -> list[torch.Tensor]:
    found = []
    for text in texts:
        ids = torch.tensor([[*text.prompt_ids, *text.answer_ids]])
        logprobs = loaded.base(input_ids=ids).logits[0].log_softmax(-1)
        at = range(len(text.prompt_ids) - 1, len(text) - 1)
        found.append(torch.stack([logprobs[t, ids[0, t + 1]] for t in at]).sum())
    return found


def test_scores_are_sums_of_log_probabilities(loaded: LoadedModel) -> None:
    expected = [float(x.detach()) for x in reference_logprobs(loaded, TEXTS)]
    for budget in (1, 1000):
        scores = score(loaded, TEXTS, budget)
        assert [s.logprob for s in scores] == pytest.approx(expected, abs=1e-4)
        assert [s.num_tokens for s in scores] == [2, 3, 1]


@pytest.mark.parametrize("budget", [1, 1000])
def test_a_step_follows_the_weighted_gradient(tmp_path: Path, budget: int) -> None:
    weights = [0.5, -0.25, 1.0]
    ours, plain = (load_model(save_tiny(tmp_path / "model"), device="cpu") for _ in range(2))
    optimizer = Optimizer(plain.model)
    optimizer.zero()
    total = sum(-w * lp for w, lp in zip(weights, reference_logprobs(plain, TEXTS), strict=True))
    assert isinstance(total, torch.Tensor)
    total.backward()
    norm = optimizer.clip()
    optimizer.update(1e-3)
    _, found = step(ours, TEXTS, weights, Optimizer(ours.model), 1e-3, budget)
    assert found == pytest.approx(norm, rel=1e-4)
    for (name, a), b in zip(ours.model.named_parameters(), plain.model.parameters(), strict=True):
        assert torch.allclose(a, b, atol=2e-5), name


def test_a_dpo_step_raises_the_margin(tmp_path: Path) -> None:
    loaded = load_model(save_tiny(tmp_path / "model"), device="cpu")
    texts = [Text([5, 6], [8, 9]), Text([5, 6], [10, 11])]
    before = [s.logprob for s in score(loaded, texts, 100)]
    pull = weight(Pair(before[0], before[1], before[0], before[1]), 0.1)
    assert pull == pytest.approx(0.05)
    optimizer = Optimizer(loaded.model)
    for _ in range(3):
        step(loaded, texts, [pull, -pull], optimizer, 1e-3, 100)
    after = [s.logprob for s in score(loaded, texts, 100)]
    assert Pair(after[0], after[1], before[0], before[1]).margin > 0
