"""What models of the hub bring along and ours must survive."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import make_model, make_tokenizer
from transformers import GraniteConfig, GraniteForCausalLM

from pinetune.errors import ModelError
from pinetune.models.export import check_export, save_merged
from pinetune.models.load import loaded_from
from pinetune.training.logprobs import head_of


def test_sampling_fields_without_do_sample_do_not_stop_the_export(tmp_path: Path) -> None:
    loaded = loaded_from(make_model(), make_tokenizer())
    loaded.base.generation_config.temperature = 0.6
    loaded.base.generation_config.top_p = 0.9
    save_merged(loaded, tmp_path / "model")
    check_export(tmp_path / "model")
    assert loaded.base.generation_config.do_sample in (None, False)  # the model in memory is as it was


def test_a_model_that_scales_its_logits_is_refused_by_name() -> None:
    config = GraniteConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, logits_scaling=8.0,
        bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    with pytest.raises(ModelError, match=r"GraniteForCausalLM scales its logits \(logits_scaling\)"):
        head_of(GraniteForCausalLM(config))
