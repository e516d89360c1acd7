"""Loading: what a good folder gives, and one clear line for each thing that can be wrong with a bad one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import make_tokenizer, save_tiny
from torch import nn

from pinetune.errors import ModelError
from pinetune.models.export import save_adapter
from pinetune.models.load import LoraSettings, load_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def broken(folder: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(folder, tmp_path / "broken")


def test_loads_a_folder_in_float32_on_cpu_without_dropout(broken: Path) -> None:
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**config, "attention_dropout": 0.3}))
    loaded = load_model(broken, device="cpu")
    assert loaded.base.dtype == torch.float32
    assert loaded.context_length == 4096
    assert not loaded.model.training
    assert {m.attention_dropout for m in loaded.model.modules() if hasattr(m, "attention_dropout")} == {0.0}


def test_dtype_can_be_chosen(folder: Path) -> None:
    assert load_model(folder, device="cpu", dtype="bfloat16").base.dtype == torch.bfloat16


def test_lora_trains_every_linear_layer_but_the_head_and_is_seeded(folder: Path) -> None:
    def adapters(seed: int) -> dict[str, torch.Tensor]:
        loaded = load_model(folder, device="cpu", lora=LoraSettings(rank=4, alpha=8), seed=seed)
        return {name: p.detach() for name, p in loaded.model.named_parameters() if p.requires_grad}

    first, again, other = adapters(1), adapters(1), adapters(2)
    assert len(first) == 2 * 7 * 2  # 2 layers, 7 linear layers each, matrices A and B
    assert all(name.endswith((".lora_A.default.weight", ".lora_B.default.weight")) for name in first)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_lora_init_leaves_the_global_generator_alone(folder: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_model(folder, device="cpu", lora=LoraSettings(), seed=9)
    assert torch.equal(torch.rand(3), expected)


def test_adapter_folder_opens_base_and_adapter(folder: Path, tmp_path: Path) -> None:
    loaded = load_model(folder, device="cpu", lora=LoraSettings(rank=4), seed=3)
    with torch.no_grad():
        for name, parameter in loaded.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    reopened = load_model(save_adapter(loaded, tmp_path / "adapter"), device="cpu")
    ids = torch.arange(20).unsqueeze(0)
    assert reopened.is_lora
    assert any(parameter.requires_grad for parameter in reopened.model.parameters())
    torch.testing.assert_close(reopened.model(input_ids=ids).logits, loaded.model(input_ids=ids).logits, rtol=0, atol=0)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere: no such folder"):
        load_model(tmp_path / "nowhere")


def test_a_file_is_not_a_model(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").touch()
    with pytest.raises(ModelError, match=r"weights\.bin is a file; give the folder"):
        load_model(tmp_path / "weights.bin")


def test_folder_without_config_says_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ModelError, match=r"has no config\.json \(found: notes\.txt\)"):
        load_model(tmp_path)


def test_broken_config(broken: Path) -> None:
    (broken / "config.json").write_text("{not json")
    with pytest.raises(ModelError, match=r"broken cannot be opened: .*config"):
        load_model(broken)


def test_unknown_architecture(broken: Path) -> None:
    (broken / "config.json").write_text(json.dumps({"model_type": "no_such_type"}))
    with pytest.raises(ModelError, match=r"cannot be opened: .*no_such_type"):
        load_model(broken)


def test_not_a_causal_language_model(broken: Path) -> None:
    config = {"model_type": "bert", "architectures": ["BertForMaskedLM"], "hidden_size": 8, "num_attention_heads": 1}
    (broken / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="is a BertForMaskedLM, not a causal language model"):
        load_model(broken)


def test_no_weights(broken: Path) -> None:
    (broken / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"cannot be opened: .*model.safetensors"):
        load_model(broken)


def test_weights_that_lack_tensors_are_not_filled_with_noise(broken: Path) -> None:
    tensors = load_file(broken / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack 1 tensors, first model\.layers\.1\.mlp\.up_proj\.weight"):
        load_model(broken)


def test_no_tokenizer(broken: Path) -> None:
    (broken / "tokenizer.json").unlink()
    (broken / "tokenizer_config.json").unlink()
    with pytest.raises(ModelError, match="has no tokenizer that can be read"):
        load_model(broken)


def test_no_chat_template(broken: Path) -> None:
    (broken / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="has no chat template"):
        load_model(broken)


def test_adapter_whose_base_is_not_named(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    with pytest.raises(ModelError, match="names no base_model_name_or_path"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("option", "message"), [({"device": "warp"}, 'device "warp" cannot be used'), ({"dtype": "int3"}, "use auto, float32")]
)
def test_bad_options(folder: Path, option: dict[str, str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_model(folder, **option)


def test_unreachable_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pinetune.models.load.hub_answers", lambda: False)
    with pytest.raises(ModelError, match="is no local folder and cannot be fetched from the Hugging Face hub"):
        load_model("nobody/nothing-1b")


def test_tokenizer_of_the_tiny_model_survives_the_folder(folder: Path) -> None:
    assert load_model(folder, device="cpu").tokenizer.encode("ataxia") == make_tokenizer().encode("ataxia")


def test_linear_layers_are_still_linear_layers(folder: Path) -> None:
    assert isinstance(load_model(folder, device="cpu").base.lm_head, nn.Linear)
