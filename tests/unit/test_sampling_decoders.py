"""Both decoders give the logits of the plain Hugging Face forward, whatever rows fork, leave and come."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_models import make_model
from transformers import GPT2Config, GPT2LMHeadModel, MambaConfig, MambaForCausalLM, PreTrainedModel

from pinetune.errors import ModelError
from pinetune.models.load import quiet
from pinetune.sampling.decoder import Decoder
from pinetune.sampling.family import why_not
from pinetune.sampling.fused import FusedDecoder
from pinetune.sampling.generic import GenericDecoder
from pinetune.sampling.local import pick_decoder

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
YARN_ROPE = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 16}
FAMILY: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3": ("qwen3", {}),
    "qwen3 tied": ("qwen3", {"tie_word_embeddings": True}),
    "qwen3 without sharing of heads": ("qwen3", {"num_key_value_heads": 4}),
    "qwen3 with one key head": ("qwen3", {"num_key_value_heads": 1}),
    "qwen2 with biases": ("qwen2", {}),
    "llama": ("llama", {}),
    "llama with all biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama, llama3 rope": ("llama", {"rope_parameters": LLAMA3_ROPE}),
    "llama, yarn rope": ("llama", {"rope_parameters": YARN_ROPE}),
    "llama, linear rope": ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.0}}),
    "mistral": ("mistral", {}),
}
OTHERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "sliding mistral": ("mistral", {"sliding_window": 6}, "sliding|attention"),
    "sliding qwen3": ("qwen3", {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}, "full attention"),
    "dynamic rope": ("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 2.0}}, "dynamic"),
    "gelu": ("llama", {"hidden_act": "gelu"}, "gelu"),
}


def numbers(count: int, seed: int) -> list[int]:
    return torch.randint(0, 300, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def assert_follows_the_model(decoder: Decoder, model: PreTrainedModel, atol: float = 1e-4) -> None:
    """Play a session with forks, leavers, late comers and closed prompts; compare every step with the plain forward."""
    prompts = [numbers(5, 1), numbers(9, 2), numbers(5, 3)]
    rows: list[list[int]] = []

    def plain(sequences: list[list[int]]) -> torch.Tensor:
        logits = [model(input_ids=torch.tensor([ids])).logits[0, -1] for ids in sequences]
        return torch.log_softmax(torch.stack(logits).float(), dim=-1)

    def check(logits: torch.Tensor, sequences: list[list[int]]) -> None:
        torch.testing.assert_close(torch.log_softmax(logits, dim=-1), plain(sequences), rtol=0, atol=atol)

    def step(seed: int) -> None:
        tokens = numbers(len(rows), seed)
        for row, token in zip(rows, tokens, strict=True):
            row.append(token)
        check(session.decode(torch.tensor(tokens)), rows)

    def fork(prompt: int, count: int) -> None:
        session.fork(keys[prompt], count)
        rows.extend(list(prompts[prompt]) for _ in range(count))

    def keep(kept: list[int]) -> None:
        session.keep(kept)
        rows[:] = [rows[i] for i in kept]

    with torch.inference_mode():
        session = decoder.session(200)
        keys, logits = session.open(prompts[:2])
        check(logits, prompts[:2])
        fork(0, 3)
        fork(1, 2)
        step(10)
        step(11)
        keep([0, 2, 3, 4])  # a row leaves
        step(12)
        keys += session.open(prompts[2:])[0]
        fork(2, 1)  # a new prompt joins
        fork(0, 1)  # a late sample of an old one
        step(13)
        step(14)
        keep([1, 4, 5])  # prompt 1 has no rows left
        session.close(keys[1])
        step(15)
        session.settle()
        for seed in range(16, 90):  # past the first size of the memory
            tokens = numbers(len(rows), seed)
            for row, token in zip(rows, tokens, strict=True):
                row.append(token)
            last = session.decode(torch.tensor(tokens))
        check(last, rows)
        keep([2])
        session.settle()
        step(99)


@pytest.mark.parametrize("name", FAMILY)
def test_fused_decoder(name: str) -> None:
    kind, config = FAMILY[name]
    model = make_model(kind, **config)
    assert why_not(model) == ""
    assert_follows_the_model(FusedDecoder(model), model)


@pytest.mark.parametrize(("switch", "value"), [("matrix.ONEDNN", False), ("family.PACK_BYTES", 0)])
def test_fused_decoder_without_onednn_and_with_weights_too_large_to_pack(monkeypatch: pytest.MonkeyPatch, switch: str, value: int) -> None:
    monkeypatch.setattr(f"pinetune.sampling.{switch}", value)
    model = make_model("qwen2")
    assert_follows_the_model(FusedDecoder(model), model)


@pytest.mark.parametrize("name", OTHERS)
def test_generic_decoder_takes_what_the_fused_one_leaves(name: str) -> None:
    kind, config, reason = OTHERS[name]
    model = make_model(kind, **config)
    assert any(word in why_not(model) for word in reason.split("|"))
    decoder = pick_decoder(model)
    assert isinstance(decoder, GenericDecoder)
    if name != "dynamic rope":  # its plain forward over a longer sequence rescales the past, a cache cannot
        assert_follows_the_model(decoder, model)


def test_generic_decoder_runs_the_family_too() -> None:
    model = make_model("qwen3")
    assert_follows_the_model(GenericDecoder(model), model)


def test_generic_decoder_with_learned_positions() -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=384, n_embd=32, n_layer=2, n_head=4, n_positions=256)).eval()
    assert why_not(model) == "GPT2LMHeadModel is not of the Llama family"
    assert_follows_the_model(GenericDecoder(model), model)


def test_a_model_without_a_cache_to_fork_is_refused() -> None:
    model = MambaForCausalLM(MambaConfig(vocab_size=384, hidden_size=16, state_size=4, num_hidden_layers=1))
    with pytest.raises(ModelError, match="MambaForCausalLM keeps no key-value cache"):
        pick_decoder(model)


@pytest.mark.parametrize("kv_heads", [2, 4])
@pytest.mark.parametrize("num_prompts", [1, 2])
def test_prompts_of_one_length_and_equal_rows_need_no_mask(num_prompts: int, kv_heads: int) -> None:
    """One prompt and a key-value head a query head: the queries' rows are then a strided view of what the layer computed."""
    model = make_model("qwen3", num_key_value_heads=kv_heads)
    prompts = [numbers(7, 1), numbers(7, 2)][:num_prompts]
    with torch.inference_mode():
        session = FusedDecoder(model).session(20)
        keys, _ = session.open(prompts)
        for key in keys:
            session.fork(key, 2)
        rows = [list(prompt) for prompt in prompts for _ in range(2)]
        for seed in range(3):
            tokens = numbers(len(rows), 20 + seed)
            logits = session.decode(torch.tensor(tokens))
            for row, token in zip(rows, tokens, strict=True):
                row.append(token)
        expected = torch.stack([model(input_ids=torch.tensor([row])).logits[0, -1] for row in rows])
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("active", [True, False])
def test_lora_is_merged_on_refresh(active: bool) -> None:
    model = make_model("qwen3")
    decoder_of_base = FusedDecoder(model)
    with quiet():
        tuned = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
    decoder = FusedDecoder(tuned.get_base_model())
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    prompt = numbers(6, 1)
    with torch.inference_mode():
        before = decoder.session(10).open([prompt])[1]
        torch.testing.assert_close(before, decoder_of_base.session(10).open([prompt])[1], rtol=0, atol=1e-5)
        if active:
            decoder.refresh()
            after = decoder.session(10).open([prompt])[1]
            torch.testing.assert_close(after[0], tuned(input_ids=torch.tensor([prompt])).logits[0, -1], rtol=0, atol=1e-4)
            assert not torch.allclose(after, before)


def test_weights_change_only_on_refresh() -> None:
    model = make_model("qwen3")
    decoder = FusedDecoder(model)
    prompt = numbers(6, 1)
    with torch.inference_mode():
        before = decoder.session(10).open([prompt])[1]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    with torch.inference_mode():
        assert torch.equal(decoder.session(10).open([prompt])[1], before)
        decoder.refresh()
        torch.testing.assert_close(
            decoder.session(10).open([prompt])[1][0], model(input_ids=torch.tensor([prompt])).logits[0, -1], rtol=0, atol=1e-4
        )


def test_bfloat16_weights_stay_near() -> None:
    model = make_model("qwen3", scale=0.05)
    assert_follows_the_model(FusedDecoder(model, torch.bfloat16), model, atol=0.15)
