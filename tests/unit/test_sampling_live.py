"""Continuous batching draws what LocalSampler draws, whoever else is in the batch, whenever they come and go."""

from __future__ import annotations

import pytest
import torch
from tiny_models import make_model, make_tokenizer

from pinetune.models.load import LoadedModel, loaded_from
from pinetune.records import Completion, Prompt, SamplingParams
from pinetune.sampling.draw import draw, draw_rows, knobs
from pinetune.sampling.grammar import GrammarCompiler
from pinetune.sampling.live import LiveBatch, Order
from pinetune.sampling.local import LocalSampler


@pytest.fixture(params=["fused", "generic"])
def loaded(request: pytest.FixtureRequest) -> LoadedModel:
    extra = {} if request.param == "fused" else {"hidden_act": "gelu"}
    return loaded_from(make_model("qwen3", **extra), make_tokenizer())


def alone(sampler: LocalSampler, order: Order) -> list[Completion]:
    found = list(sampler.sample([order.prompt], len(order.seeds), order.params, [list(order.seeds)]))
    return [completion for _, _, completion in sorted(found, key=lambda one: one[1])]


def orders() -> list[Order]:
    params = [
        SamplingParams(max_tokens=12),
        SamplingParams(max_tokens=30, temperature=0.0),
        SamplingParams(max_tokens=20, temperature=0.7, top_p=0.8),
        SamplingParams(max_tokens=25, stop=("e",), thinking_budget=4),
    ]
    return [Order(Prompt(tuple(range(5, 12 + 3 * i))), p, tuple(range(10 * i, 10 * i + 1 + i))) for i, p in enumerate(params)]


def test_orders_draw_as_they_would_alone(loaded: LoadedModel) -> None:
    sampler = LocalSampler(loaded)
    batch, wanted = LiveBatch(loaded, sampler.decoder), orders()
    found: dict[tuple[int, int], Completion] = {}
    late = list(wanted)
    step = 0
    while late or batch.rows:
        written = batch.join([late.pop(0)]) if late and step % 3 == 0 else []  # one more joins every third step
        for one in [*written, *batch.step()]:
            if one.completion is not None:
                found[wanted.index(one.order), one.sample] = one.completion
        step += 1
    for i, order in enumerate(wanted):
        for j, completion in enumerate(alone(sampler, order)):
            assert found[i, j].token_ids == completion.token_ids
            assert (found[i, j].answer, found[i, j].finish) == (completion.answer, completion.finish)
            assert found[i, j].logprobs == pytest.approx(completion.logprobs, abs=2e-5)


def test_leaving_does_not_disturb_the_others(loaded: LoadedModel) -> None:
    sampler = LocalSampler(loaded)
    batch, (first, second, *_) = LiveBatch(loaded, sampler.decoder), orders()
    batch.join([first, second])
    batch.step()
    batch.leave(first)
    done = [one.completion for _ in range(40) for one in batch.step() if one.completion is not None]
    assert [completion.token_ids for completion in done if completion] == [c.token_ids for c in alone(sampler, second)]
    assert batch.rows == []


def test_memory_and_rows_limit_who_may_join() -> None:
    loaded = loaded_from(make_model("qwen3"), make_tokenizer())
    sampler = LocalSampler(loaded)
    batch = LiveBatch(loaded, sampler.decoder, max_rows=3, max_kv_tokens=100)
    small = Order(Prompt((5, 6)), SamplingParams(max_tokens=20), (1, 2))
    huge = Order(Prompt((5, 6)), SamplingParams(max_tokens=500), (1,))
    assert batch.fits(huge)  # alone, anything
    batch.join([small])
    assert not batch.fits(huge)
    assert batch.fits(Order(Prompt((5, 6)), SamplingParams(max_tokens=20), (1,)))  # 2 * 2 slots of 20, 2 prompts of 2
    assert not batch.fits(small)  # four rows
    assert not batch.fits(Order(Prompt((5, 6)), SamplingParams(max_tokens=30), (1,)))


def test_bias_and_penalties_bend_the_choice() -> None:
    loaded = loaded_from(make_model("qwen3"), make_tokenizer())
    batch = LiveBatch(loaded, LocalSampler(loaded).decoder)
    params = SamplingParams(max_tokens=6, temperature=0.0)
    batch.join([forced := Order(Prompt((5, 6)), params, (0,), logit_bias={77: 1000.0})])
    tokens = [one.token for _ in range(5) for one in batch.step()]
    assert forced.bends and tokens == [77] * 5
    repeating = Order(Prompt((5, 6)), params, (0,), logit_bias={77: 50.0, 78: 49.0}, frequency_penalty=0.6)
    written = [one.token for one in batch.join([repeating])] + [one.token for _ in range(5) for one in batch.step()]
    assert written == [77, 77, 78, 77, 78, 77]  # 50, 49.4, 48.8 < 49, then 48.8 > 48.4, 48.2 < 48.4, ...


def test_who_asked_for_json_is_not_left_without_an_answer_by_a_stop_in_the_thinking() -> None:
    loaded = loaded_from(make_model("qwen3"), make_tokenizer())
    stop = loaded.chat.stop_ids[0]
    compiler = GrammarCompiler(loaded.tokenizer, loaded.base.get_output_embeddings().weight.shape[0], loaded.chat.stop_ids)
    matcher = compiler.compile({"type": "boolean"})
    batch = LiveBatch(loaded, LocalSampler(loaded).decoder)
    params = SamplingParams(max_tokens=40, thinking_budget=3)
    eager = Order(Prompt((5, 6), thinking_open=True), params, (0,), new_matcher=matcher, logit_bias={stop: 1000.0})
    written = batch.join([eager]) + [one for _ in range(39) for one in batch.step()]
    [completion] = [one.completion for one in written if one.completion is not None]
    assert completion.reasoning_tokens == 3 + len(loaded.chat.thinking.close_ids)
    assert (completion.answer in ("true", "false"), completion.finish) == (True, "stop")


def test_likeliest_tokens_come_with_their_logprobs() -> None:
    loaded = loaded_from(make_model("qwen3"), make_tokenizer())
    batch = LiveBatch(loaded, LocalSampler(loaded).decoder)
    [one] = batch.join([Order(Prompt((5, 6)), SamplingParams(max_tokens=2, temperature=0.0), (0,), top_logprobs=3)])
    assert len(one.top) == 3 and one.top[0][0] == one.token
    assert one.top[0][1] == pytest.approx(one.logprob, abs=1e-6)
    assert [p for _, p in one.top] == sorted((p for _, p in one.top), reverse=True)


def test_a_mixed_batch_draws_row_by_row_as_draw_does() -> None:
    torch.manual_seed(1)
    logits, uniform = torch.randn(4, 50) * 3, torch.rand(4)
    temperature, top_p = [1.0, 0.0, 0.5, 1.0], [1.0, 1.0, 0.6, 0.3]
    tokens, _ = draw_rows(logits, uniform, knobs(temperature, top_p, logits.device))
    expected = [int(draw(logits[i : i + 1], uniform[i : i + 1], temperature[i], top_p[i])[0]) for i in range(4)]
    assert tokens.tolist() == expected
