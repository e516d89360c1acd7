"""The sampling engine: what it yields, in which order, with which randomness, and what it imposes on the tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tiny_models import make_model, make_tokenizer
from torch import Tensor

from pinetune.errors import JobError, ModelError
from pinetune.models.load import LoadedModel, loaded_from
from pinetune.models.memory import machine_bytes
from pinetune.records import Completion, Prompt, Row, SamplingParams
from pinetune.sampling.generic import GenericDecoder
from pinetune.sampling.local import LocalSampler

Results = dict[tuple[int, int], Completion]
SCHEMA = {
    "type": "object",
    "properties": {"gene": {"enum": ["ABC1", "XYZ2"]}, "rank": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["gene", "rank"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return loaded_from(make_model("qwen3"), make_tokenizer())


@pytest.fixture(scope="module")
def sampler(loaded: LoadedModel) -> LocalSampler:
    return LocalSampler(loaded)


def prompts(sampler: LocalSampler, count: int = 3) -> list[Prompt]:
    return [sampler.render(Row(i, ({"role": "user", "content": "gene " * (i + 1)},), {})) for i in range(count)]


def seeds(num_prompts: int, num_samples: int) -> list[list[int]]:
    return [[100 * p + s for s in range(num_samples)] for p in range(num_prompts)]


def draw_all(sampler: LocalSampler, num_samples: int = 4, count: int = 3, **params: Any) -> Results:
    params = {"max_tokens": 20, **params}
    chosen = prompts(sampler, count)
    found = list(sampler.sample(chosen, num_samples, SamplingParams(**params), seeds(count, num_samples)))
    results = {(p, s): completion for p, s, completion in found}
    assert len(results) == len(found) == count * num_samples
    return results


def plain_logprobs(model: Any, prompt: Prompt, completion: Completion) -> Tensor:
    ids = torch.tensor([[*prompt.token_ids, *completion.token_ids]])
    with torch.inference_mode():
        logits = model(input_ids=ids).logits[0, len(prompt.token_ids) - 1 : -1]
    return torch.log_softmax(logits.float(), -1).gather(1, torch.tensor(completion.token_ids)[:, None]).squeeze(1)


@pytest.mark.parametrize("params", [{}, {"temperature": 0.5}, {"temperature": 0.0}, {"top_p": 0.4}, {"json_schema": SCHEMA}])
def test_logprobs_are_the_models_own_at_temperature_one(sampler: LocalSampler, loaded: LoadedModel, params: dict[str, Any]) -> None:
    chosen = prompts(sampler)
    for (p, _), completion in draw_all(sampler, **params).items():
        expected = plain_logprobs(loaded.model, chosen[p], completion)
        assert (expected - torch.tensor(completion.logprobs)).abs().max() < 1e-4
        assert len(completion.token_ids) == len(completion.logprobs) == len(completion.forced)


def test_same_seeds_same_completions_bit_for_bit(sampler: LocalSampler) -> None:
    assert draw_all(sampler) == draw_all(sampler)


def test_another_sampler_of_the_same_model_draws_the_same(sampler: LocalSampler, loaded: LoadedModel) -> None:
    assert draw_all(LocalSampler(loaded)) == draw_all(sampler)


def test_a_rollout_does_not_depend_on_its_batch_mates(sampler: LocalSampler, loaded: LoadedModel) -> None:
    everything = draw_all(sampler, num_samples=4)
    for slots in (1, 3, 5):
        tokens = {key: c.token_ids for key, c in draw_all(LocalSampler(loaded, max_slots=slots)).items()}
        assert tokens == {key: c.token_ids for key, c in everything.items()}
    alone = list(sampler.sample(prompts(sampler)[1:2], 1, SamplingParams(max_tokens=20), [[102]]))
    assert alone[0][2].token_ids == everything[1, 2].token_ids


def test_a_seed_decides_wherever_it_stands(sampler: LocalSampler) -> None:
    chosen = prompts(sampler, 1)
    found = {s: c for _, s, c in sampler.sample(chosen, 3, SamplingParams(max_tokens=20), [[5, 6, 5]])}
    assert found[0].token_ids == found[2].token_ids
    assert found[0].token_ids != found[1].token_ids


def test_the_generic_decoder_draws_the_same_tokens(sampler: LocalSampler, loaded: LoadedModel) -> None:
    other = LocalSampler(loaded, max_slots=5)
    other.decoder = GenericDecoder(loaded.base)
    assert {k: c.token_ids for k, c in draw_all(other).items()} == {k: c.token_ids for k, c in draw_all(sampler).items()}


def test_the_stop_token_is_kept_and_a_cut_completion_has_none(sampler: LocalSampler) -> None:
    stop = sampler.loaded.chat.stop_ids[0]
    results = draw_all(sampler, num_samples=16, max_tokens=40).values()
    assert {c.finish for c in results} == {"stop", "length"}
    for completion in results:
        assert (completion.token_ids[-1] == stop) == (completion.finish == "stop")
        assert stop not in completion.token_ids[:-1]
        assert len(completion.token_ids) == 40 or completion.finish == "stop"
        assert "<|im_end|>" not in completion.answer


@pytest.mark.parametrize(("template", "turn_end"), [("chatml", "<|im_end|>"), ("llama3", "<|eot_id|>"), ("gemma", "<end_of_turn>")])
def test_every_template_stops_at_its_end_of_turn(template: str, turn_end: str) -> None:
    tokenizer = make_tokenizer(template)
    token = tokenizer.convert_tokens_to_ids(turn_end)
    loaded = loaded_from(make_model("llama"), tokenizer)
    [(_, _, free)] = LocalSampler(loaded).sample([Prompt((1, 2))], 1, SamplingParams(max_tokens=8, temperature=0.0), [[0]])
    with torch.no_grad():  # the row of the fourth greedy token becomes the end of turn's
        head = loaded.base.lm_head.weight
        assert free.token_ids[3] not in free.token_ids[:3]
        head[token] = head[free.token_ids[3]] * 1.01
    [(_, _, stopped)] = LocalSampler(loaded).sample([Prompt((1, 2))], 1, SamplingParams(max_tokens=8, temperature=0.0), [[0]])
    assert stopped.token_ids == (*free.token_ids[:3], token)
    assert stopped.finish == "stop"
    assert stopped.forced == (False,) * 4
    assert turn_end not in stopped.answer


def test_completions_come_as_they_finish(sampler: LocalSampler) -> None:
    lengths = [len(c.token_ids) for _, _, c in sampler.sample(prompts(sampler), 8, SamplingParams(max_tokens=40), seeds(3, 8))]
    assert lengths == sorted(lengths)  # all started together


def test_one_token(sampler: LocalSampler) -> None:
    results = draw_all(sampler, max_tokens=1)
    assert {len(c.token_ids) for c in results.values()} == {1}


def test_temperature_zero_is_greedy(sampler: LocalSampler, loaded: LoadedModel) -> None:
    completion = draw_all(sampler, num_samples=1, count=1, temperature=0.0)[0, 0]
    ids = list(prompts(sampler, 1)[0].token_ids)
    with torch.inference_mode():
        for token in completion.token_ids:
            assert token == int(loaded.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
            ids.append(token)


class Watched:
    """A decoder that notes how many rows each step had."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.rows, self.opened, self.closed, self.most_open = inner, [], 0, 0, 0

    def session(self, max_tokens: int) -> Watched:
        self.inner = self.inner.session(max_tokens)
        return self

    def open(self, prompts: Sequence[Sequence[int]]) -> Any:
        self.opened += len(prompts)
        self.most_open = max(self.most_open, self.opened - self.closed)
        return self.inner.open(prompts)

    def close(self, key: int) -> None:
        self.closed += 1
        self.inner.close(key)

    def decode(self, tokens: Tensor) -> Tensor:
        self.rows.append(len(tokens))
        return self.inner.decode(tokens)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def test_waiting_rollouts_take_the_places_of_finished_ones(loaded: LoadedModel) -> None:
    sampler = LocalSampler(loaded, max_slots=6)
    sampler.decoder = watched = Watched(sampler.decoder)
    results = draw_all(sampler, num_samples=8, max_tokens=40)
    total = sum(len(c.token_ids) for c in results.values())
    assert watched.opened == 3  # each prompt is read once, though its samples start at different times
    assert max(watched.rows) == 6
    # The first token of a completion comes from its prompt's logits, the rest one a step and row.
    assert sum(watched.rows) == total - 24
    waiting_over = next(i for i in range(len(watched.rows)) if watched.rows[i] < 6)
    assert watched.rows[waiting_over:] == sorted(watched.rows[waiting_over:], reverse=True)


@pytest.mark.parametrize(("budget", "rows"), [(100, 3), (200, 4), (240, 8), (10_000, 12)])
def test_cache_is_bounded_by_a_token_budget(loaded: LoadedModel, budget: int, rows: int) -> None:
    """Prompts of 30, 35 and 40 tokens with 4 samples of at most 20 tokens: a prompt and its slots take 110 to 120."""
    sampler = LocalSampler(loaded, max_kv_tokens=budget)
    sampler.decoder = watched = Watched(sampler.decoder)
    chosen = [Prompt(tuple(range(20, 50 + extra))) for extra in (0, 5, 10)]
    found = list(sampler.sample(chosen, 4, SamplingParams(max_tokens=20), seeds(3, 4)))
    assert len(found) == 12
    assert max(watched.rows) == rows


def test_the_default_budget_follows_the_machine(loaded: LoadedModel) -> None:
    # 2 layers x (keys and values) x 2 heads x 8 numbers of 4 bytes = 256 bytes a token
    assert LocalSampler(loaded).max_kv_tokens == machine_bytes() // 8 // 256


def test_stragglers_do_not_pile_up_prompts(loaded: LoadedModel) -> None:
    sampler = LocalSampler(loaded, max_slots=8)
    sampler.decoder = watched = Watched(sampler.decoder)
    draw_all(sampler, num_samples=4, count=12, max_tokens=60)
    assert watched.most_open <= 4  # 8 rows are 2 prompts of 4 samples; twice that at most


def test_a_budget_below_one_rollout_still_gets_on(loaded: LoadedModel) -> None:
    assert len(draw_all(LocalSampler(loaded, max_kv_tokens=1), max_tokens=5)) == 12


def test_an_abandoned_call_does_not_disturb_the_next(sampler: LocalSampler) -> None:
    expected = draw_all(sampler)
    abandoned = sampler.sample(prompts(sampler), 4, SamplingParams(max_tokens=20), seeds(3, 4))
    next(abandoned)
    assert draw_all(sampler) == expected
    assert not torch.is_inference_mode_enabled()
    assert len(list(abandoned)) == 11


def test_max_tokens_must_be_positive(sampler: LocalSampler) -> None:
    with pytest.raises(JobError, match="max_tokens: must be at least 1"):
        sampler.sample(prompts(sampler), 1, SamplingParams(max_tokens=0), seeds(3, 1))


def test_no_prompts(sampler: LocalSampler) -> None:
    assert list(sampler.sample([], 4, SamplingParams(), [])) == []


def test_too_long_for_the_model(sampler: LocalSampler) -> None:
    with pytest.raises(ModelError, match="prompt 0 has 30 tokens; with max_tokens 4090 that is over the model's context of 4096"):
        list(sampler.sample([Prompt(tuple(range(30)))], 1, SamplingParams(max_tokens=4090), [[1]]))


# ---- stop strings, thinking budget, schema


def test_a_stop_string_ends_the_completion_and_is_cut(sampler: LocalSampler) -> None:
    free = draw_all(sampler, num_samples=8, max_tokens=30)
    stopped = draw_all(sampler, num_samples=8, max_tokens=30, stop=("a", "e"))
    hits = 0
    for key, completion in stopped.items():
        assert free[key].token_ids[: len(completion.token_ids)] == completion.token_ids
        assert "a" not in completion.answer
        assert "e" not in completion.answer
        if completion.finish == "stop" and completion.token_ids[-1] not in sampler.loaded.chat.stop_ids:
            hits += 1
            assert free[key].answer.startswith(completion.answer)
    assert hits > 5


def thinking_sampler(template: str) -> LocalSampler:
    return LocalSampler(loaded_from(make_model("qwen3"), make_tokenizer(template)))


def test_thinking_budget_forces_the_closing_tag() -> None:
    sampler = thinking_sampler("chatml-open")
    close = sampler.loaded.chat.thinking.close_ids[0]
    for completion in draw_all(sampler, num_samples=8, max_tokens=12, thinking_budget=5).values():
        if close in completion.token_ids[:5]:
            assert True not in completion.forced  # it closed its thinking itself
        elif len(completion.token_ids) > 5:
            assert completion.token_ids[5] == close
            assert completion.forced == tuple(t == 5 for t in range(len(completion.token_ids)))
            assert completion.reasoning_tokens == 6


def test_a_budget_of_zero_closes_at_once() -> None:
    completion = draw_all(thinking_sampler("chatml-open"), max_tokens=6, thinking_budget=0)[0, 0]
    assert completion.forced[:2] == (True, False)
    assert (completion.reasoning, completion.reasoning_tokens) == ("", 1)


def test_a_closing_tag_of_many_tokens_is_forced_whole() -> None:
    sampler = thinking_sampler("chatml-text")
    tags = sampler.loaded.chat.thinking
    chosen = [Prompt(p.token_ids, thinking_open=True) for p in prompts(sampler, 1)]
    params = SamplingParams(max_tokens=40, thinking_budget=4)
    [(_, _, completion)] = sampler.sample(chosen, 1, params, [[3]])
    size = len(tags.close_ids)
    assert size > 1
    assert completion.token_ids[4 : 4 + size] == tags.close_ids
    assert [t for t, forced in enumerate(completion.forced) if forced] == list(range(4, 4 + size))


def test_no_budget_no_force(sampler: LocalSampler) -> None:
    assert not any(any(c.forced) for c in draw_all(sampler).values())


def test_answers_match_the_schema() -> None:
    sampler = thinking_sampler("chatml-text")
    for completion in draw_all(sampler, num_samples=8, max_tokens=80, json_schema=SCHEMA).values():
        assert completion.finish == "stop"
        answer = json.loads(completion.answer)
        assert set(answer) == {"gene", "rank"}
        assert answer["gene"] in ("ABC1", "XYZ2")
        assert 1 <= answer["rank"] <= 9
        # Where the grammar leaves no choice the token is forced: the end, if nothing else.
        assert completion.forced[-1]
        assert not all(completion.forced)


def test_the_schema_holds_for_the_answer_and_leaves_the_thinking_free() -> None:
    sampler = thinking_sampler("chatml-open")
    results = draw_all(sampler, num_samples=4, max_tokens=90, json_schema=SCHEMA, thinking_budget=5)
    finished = [c for c in results.values() if c.finish == "stop" and c.answer]
    assert finished
    for completion in finished:
        assert set(json.loads(completion.answer)) == {"gene", "rank"}
        assert not json_like(completion.reasoning)


def json_like(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except json.JSONDecodeError:
        return False


def test_a_thinking_model_may_still_open_its_thinking() -> None:
    """With a schema the first token is either the grammar's or the opening tag."""
    tokenizer = make_tokenizer()
    model = make_model("qwen3")
    opening = tokenizer.convert_tokens_to_ids("<think>")
    with torch.no_grad():  # every state points at the opening tag
        model.lm_head.weight.zero_()
        model.lm_head.weight[opening] = 1.0
        model.model.norm.weight.fill_(1.0)
    sampler = LocalSampler(loaded_from(model, tokenizer))
    firsts = {c.token_ids[0] for c in draw_all(sampler, num_samples=16, max_tokens=2, json_schema=SCHEMA).values()}
    assert firsts <= {opening, tokenizer.convert_tokens_to_ids("{"), tokenizer.convert_tokens_to_ids('{"')}
    assert opening in firsts


def test_a_schema_that_cannot_be_enforced(sampler: LocalSampler) -> None:
    with pytest.raises(JobError, match="response_format: the JSON schema cannot be enforced"):
        list(sampler.sample(prompts(sampler), 1, SamplingParams(json_schema={"type": "no such type"}), seeds(3, 1)))


def test_refresh_takes_the_new_weights() -> None:
    model = make_model("qwen3")
    sampler = LocalSampler(loaded_from(model, make_tokenizer()))
    before = draw_all(sampler)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.2)
    assert draw_all(sampler) == before
    sampler.refresh()
    after = draw_all(sampler)
    assert after != before
    expected = plain_logprobs(model, prompts(sampler)[0], after[0, 0])
    assert (expected - torch.tensor(after[0, 0].logprobs)).abs().max() < 1e-4
