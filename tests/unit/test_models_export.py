"""Saved folders: plain transformers opens them, they hold what was trained, and they appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_models import make_model, make_tokenizer, save_tiny
from transformers import AutoModelForCausalLM, AutoTokenizer

from pinetune.errors import ModelError
from pinetune.models.export import check_export, save_adapter, save_merged, whole_folder
from pinetune.models.load import LoadedModel, LoraSettings, load_model, loaded_from


def with_adapter(folder: Path) -> LoadedModel:
    loaded = load_model(folder, device="cpu", lora=LoraSettings(rank=4), seed=1)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in loaded.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return loaded


@pytest.mark.parametrize("tied", [False, True])
def test_merged_lora_speaks_as_the_adapter_did(tmp_path: Path, tied: bool) -> None:
    loaded = with_adapter(save_tiny(tmp_path / "base", tie_word_embeddings=tied))
    before = {name: p.clone() for name, p in loaded.model.named_parameters()}
    save_merged(loaded, tmp_path / "merged")
    check_export(tmp_path / "merged")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    ids = torch.arange(30).unsqueeze(0)
    torch.testing.assert_close(plain(input_ids=ids).logits, loaded.model(input_ids=ids).logits, rtol=0, atol=2e-5)
    assert all(torch.equal(before[name], p) for name, p in loaded.model.named_parameters())
    assert not any("lora" in name for name, _ in plain.named_parameters())


def test_full_weights_are_saved_bit_for_bit(tmp_path: Path) -> None:
    loaded = loaded_from(make_model("llama"), make_tokenizer("llama3"))
    save_merged(loaded, tmp_path / "saved")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), loaded.model.parameters(), strict=True))


def test_plain_generate_stops_at_the_end_of_turn(tmp_path: Path) -> None:
    loaded = load_model(save_tiny(tmp_path / "base", "llama", "llama3"), device="cpu")
    own = loaded.base.generation_config.eos_token_id
    save_merged(loaded, tmp_path / "saved")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    assert plain.generation_config.eos_token_id == list(loaded.chat.stop_ids)
    assert loaded.base.generation_config.eos_token_id == own
    assert AutoTokenizer.from_pretrained(tmp_path / "saved").chat_template == loaded.tokenizer.chat_template


def test_full_weights_have_no_adapter(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no adapter; use save_merged"):
        save_adapter(loaded_from(make_model(), make_tokenizer()), tmp_path / "adapter")


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "stale.txt").touch()
    with whole_folder(tmp_path / "out") as temporary:
        (temporary / "new.txt").touch()
    assert [p.name for p in tmp_path.rglob("*")] == ["out", "new.txt"]


def test_a_failed_save_leaves_the_old_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.txt").touch()
    with pytest.raises(OSError, match="disk full"), whole_folder(tmp_path / "out") as temporary:
        (temporary / "half.txt").touch()
        raise OSError("disk full")
    assert [p.name for p in tmp_path.rglob("*")] == ["out", "old.txt"]


def test_check_export_tells_what_is_wrong(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match=r"does not open in plain transformers: .*chat_template"):
        check_export(folder)


def test_check_export_finds_broken_weights(tmp_path: Path) -> None:
    loaded = load_model(save_tiny(tmp_path / "model"), device="cpu")
    with torch.no_grad():
        loaded.base.lm_head.weight[0, 0] = float("nan")
    save_merged(loaded, tmp_path / "nan")
    with pytest.raises(ModelError, match="non-finite logits"):
        check_export(tmp_path / "nan")
