"""Checkpoints: whole or not there, exact to load, openable by plain transformers, pruned without losing the best."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pinetune.errors import UserError
from pinetune.models.load import LoadedModel, LoraSettings, load_model
from pinetune.training.checkpoint import CheckpointStore
from pinetune.training.learner import GrpoLearner
from pinetune.training.settings import LearnerSettings
from tests.tiny_models import save_tiny
from tests.training_samples import random_samples


def trained(folder: Path, lora: LoraSettings | None = None) -> tuple[LoadedModel, GrpoLearner]:
    loaded = load_model(folder, lora=lora, device="cpu")
    learner = GrpoLearner(loaded, LearnerSettings(learning_rate=1e-2, warmup_steps=1))
    learner.step(random_samples())
    return loaded, learner


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "base")


def test_the_model_opens_in_plain_transformers_and_the_learner_goes_on_exactly(tmp_path: Path, base: Path) -> None:
    loaded, learner = trained(base)
    store = CheckpointStore(tmp_path / "checkpoints")
    saved = store.save(20, learner, loaded, {"step": 20, "note": "é"})
    assert saved.folder.name == "step-00020"
    plain = AutoModelForCausalLM.from_pretrained(saved.model)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), loaded.base.parameters(), strict=True))
    assert AutoTokenizer.from_pretrained(saved.model).chat_template == loaded.tokenizer.chat_template

    latest = CheckpointStore(tmp_path / "checkpoints").latest()
    assert latest == saved
    resumed = load_model(base, device="cpu")
    other = GrpoLearner(resumed, LearnerSettings(learning_rate=1e-2, warmup_steps=1))
    assert store.load(saved, other) == {"step": 20, "note": "é"}
    assert other.step(random_samples(seed=3)) == learner.step(random_samples(seed=3))


def test_under_lora_the_folder_is_an_adapter_with_its_base_named(tmp_path: Path, base: Path) -> None:
    loaded, learner = trained(base, LoraSettings(rank=4, alpha=8))
    saved = CheckpointStore(tmp_path / "checkpoints").save(1, learner, loaded, {})
    assert json.loads((saved.model / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(load_model(saved.model, device="cpu").model(ids).logits, loaded.model(ids).logits)


def test_an_unfinished_checkpoint_is_ignored_and_swept_away(tmp_path: Path, base: Path) -> None:
    loaded, learner = trained(base)
    store = CheckpointStore(tmp_path)
    done = store.save(1, learner, loaded, {})
    partial = tmp_path / "step-00002.partial"
    (partial / "learner").mkdir(parents=True)
    (partial / "learner" / "weights.safetensors").write_bytes(b"half")
    (tmp_path / "step-00003").mkdir()  # no manifest: a deletion that was cut short
    assert store.latest() == done
    assert not partial.exists()


def test_a_changed_file_is_named_and_not_loaded(tmp_path: Path, base: Path) -> None:
    loaded, learner = trained(base)
    store = CheckpointStore(tmp_path)
    saved = store.save(1, learner, loaded, {})
    weights = saved.folder / "learner" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match=r"weights\.safetensors is missing or was changed"):
        store.load(saved, learner)


def test_the_same_step_can_be_saved_again(tmp_path: Path, base: Path) -> None:
    loaded, learner = trained(base)
    store = CheckpointStore(tmp_path)
    store.save(1, learner, loaded, {"try": 1})
    assert store.save(1, learner, loaded, {"try": 2}).loop_state() == {"try": 2}
    assert [c.step for c in store.all()] == [1]


def test_keep_spares_the_best_and_the_newest(tmp_path: Path, base: Path) -> None:
    loaded, learner = trained(base)
    store = CheckpointStore(tmp_path)
    for step in (0, 5, 10, 15):
        store.save(step, learner, loaded, {})
    store.keep({5}, last=1)
    assert [c.step for c in store.all()] == [5, 15]
    store.keep({5}, last=0)
    assert [c.step for c in store.all()] == [5]
    with pytest.raises(UserError, match="no checkpoint of step 15 \\(there are: 5\\)"):
        store.get(15)


def test_an_empty_store_has_no_latest(tmp_path: Path) -> None:
    assert CheckpointStore(tmp_path / "none").latest() is None
