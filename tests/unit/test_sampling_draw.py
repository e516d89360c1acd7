"""Drawing tokens: exact inverse-CDF picks, temperature, nucleus, and the block search of large vocabularies."""

from __future__ import annotations

import pytest
import torch

from pinetune.sampling.draw import draw, token_logprobs, uniforms

HALVES = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).log()


@pytest.mark.parametrize(("uniform", "token"), [(0.0, 0), (0.4999, 0), (0.5, 1), (0.7499, 1), (0.75, 2), (0.99999994, 3)])
def test_inverse_cdf(uniform: float, token: int) -> None:
    tokens, probs = draw(HALVES, torch.tensor([uniform]), 1.0, 1.0)
    assert tokens.tolist() == [token]
    torch.testing.assert_close(probs, HALVES.exp())


def test_temperature_zero_takes_the_likeliest() -> None:
    assert draw(HALVES.flip(1), torch.tensor([0.1]), 0.0, 1.0)[0].tolist() == [3]


def test_temperature_sharpens_the_choice_but_not_the_probabilities() -> None:
    # At temperature 0.5 the weights are squared: 16/22, 4/22, 1/22, 1/22.
    tokens, probs = draw(HALVES.expand(3, 4), torch.tensor([0.72, 0.73, 0.91]), 0.5, 1.0)
    assert tokens.tolist() == [0, 1, 2]
    torch.testing.assert_close(probs[0], HALVES[0].exp())


def test_nucleus_keeps_the_fewest_tokens_that_reach_top_p() -> None:
    # 0.5 + 0.25 reach 0.7: the two are drawn 2:1.
    tokens, _ = draw(HALVES.expand(4, 4), torch.tensor([0.0, 0.66, 0.67, 0.999]), 1.0, 0.7)
    assert tokens.tolist() == [0, 0, 1, 1]
    assert draw(HALVES, torch.tensor([0.999]), 1.0, 0.01)[0].tolist() == [0]


def test_allowed_limits_the_choice_not_the_probabilities() -> None:
    allowed = torch.tensor([[False, True, False, True]])
    tokens, probs = draw(HALVES.expand(2, 4), torch.tensor([0.66, 0.67]), 1.0, 1.0, allowed.expand(2, 4))
    assert tokens.tolist() == [1, 3]
    torch.testing.assert_close(probs[0], HALVES[0].exp())
    assert draw(HALVES, torch.tensor([0.5]), 0.0, 1.0, allowed)[0].tolist() == [1]


@pytest.mark.parametrize("vocabulary", [5000, 4097, 4096, 2112])
def test_block_search_agrees_with_the_running_sum(vocabulary: int) -> None:
    torch.manual_seed(0)
    logits = torch.randn(64, vocabulary) * 3
    uniform = torch.rand(64)
    tokens, probs = draw(logits, uniform, 1.0, 1.0)
    running = probs.double().cumsum(-1)
    exact = torch.searchsorted(running, (uniform.double() * running[:, -1]).unsqueeze(1), right=True).squeeze(1)
    assert (tokens - exact).abs().max() <= 1  # float32 sums may differ at the very edge of a token
    assert (tokens == exact).float().mean() > 0.95


def test_tokens_of_no_weight_are_never_drawn() -> None:
    logits = torch.full((512, 9000), float("-inf"))
    kept = torch.tensor([0, 511, 512, 8999])
    logits[:, kept] = 0.0
    uniform = torch.linspace(0, 1 - 2**-24, 512)
    tokens, _ = draw(logits, uniform, 1.0, 1.0)
    assert set(tokens.tolist()) == set(kept.tolist())
    assert tokens.tolist() == kept[(uniform * 4).long()].tolist()


def test_logprobs_are_exact_where_the_probability_underflows() -> None:
    logits = torch.tensor([[0.0, -200.0]])
    _, probs = draw(logits, torch.tensor([0.5]), 1.0, 1.0)
    assert token_logprobs(logits, probs, torch.tensor([1])).tolist() == [-200.0]
    assert token_logprobs(logits, probs, torch.tensor([0])).tolist() == [0.0]


def test_uniforms_depend_on_the_seed_alone() -> None:
    assert torch.equal(uniforms(7, 5), uniforms(7, 9)[:5])
    assert not torch.equal(uniforms(7, 5), uniforms(8, 5))
    numbers = uniforms(2**70, 10_000)
    assert float(numbers.min()) >= 0
    assert float(numbers.max()) < 1
    assert float(numbers.mean()) == pytest.approx(0.5, abs=0.02)
