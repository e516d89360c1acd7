"""A model's words without its weights: the same as with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import save_tiny

from pinetune.errors import ModelError
from pinetune.models.load import load_model, open_reader
from pinetune.models.names import MINIATURE, find_model
from pinetune.records import Row

ROW = Row(0, ({"role": "user", "content": "Hi there"},), {})


@pytest.mark.parametrize("template", ["chatml", "llama3"])
def test_a_reader_reads_like_the_model(tmp_path: Path, template: str) -> None:
    folder = save_tiny(tmp_path / "m", template=template)
    model, reader = load_model(folder, device="cpu"), open_reader(folder)
    assert reader.chat.render(ROW) == model.chat.render(ROW)
    assert (reader.chat.stop_ids, reader.context_length) == (model.chat.stop_ids, model.context_length)


def test_weights_are_not_opened(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    assert open_reader(folder).context_length == 4096
    with pytest.raises(ModelError):
        load_model(folder, device="cpu")


def test_the_miniature_and_its_absence() -> None:
    assert open_reader(find_model(MINIATURE)).context_length > 0
    with pytest.raises(ModelError, match="no such folder"):
        open_reader("/no/such/model")
