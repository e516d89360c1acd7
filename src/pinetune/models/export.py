"""Save what was trained: the LoRA adapter alone, or a merged folder that plain `AutoModelForCausalLM.from_pretrained` opens.

A folder appears whole or not at all: it is written beside its place and renamed.
"""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from pinetune.errors import ModelError
from pinetune.models.load import LoadedModel, quiet

SAMPLING_FIELDS = ("temperature", "top_p", "top_k", "min_p", "typical_p")


def save_adapter(loaded: LoadedModel, folder: str | Path) -> Path:
    """Write the LoRA adapter and the tokenizer. Raises ModelError when the model has full weights only."""
    if not loaded.is_lora:
        raise ModelError(f"{loaded.source} was trained with full weights and has no adapter; use save_merged")
    with quiet(), whole_folder(folder) as temporary:
        loaded.model.save_pretrained(temporary)
        loaded.tokenizer.save_pretrained(temporary)
    return Path(folder)


def save_merged(loaded: LoadedModel, folder: str | Path) -> Path:
    """Write plain weights (LoRA merged in), tokenizer, chat template and generation_config, as safetensors.

    The generation_config gets every stop token of the chat template, so that plain `generate` ends its turn too.
    The model in memory is not touched: un-merging in place is not exact in floating point.
    """
    with quiet(), whole_folder(folder) as temporary:
        model: PreTrainedModel = copy.deepcopy(loaded.model).merge_and_unload() if loaded.is_lora else loaded.base
        generation = model.generation_config
        kept = copy.deepcopy(generation)
        try:
            if generation:
                generation.eos_token_id = list(loaded.chat.stop_ids)
                # Many hub models carry a temperature or top_p without do_sample, which transformers refuses to save.
                generation.do_sample = generation.do_sample or any(getattr(generation, name, None) for name in SAMPLING_FIELDS)
            model.save_pretrained(temporary)
        finally:
            model.generation_config = kept
        loaded.tokenizer.save_pretrained(temporary)
    return Path(folder)


def check_export(folder: str | Path) -> None:
    """Open `folder` as anybody would and ask for one token. Raises ModelError saying what is wrong."""
    try:
        with quiet(), torch.inference_mode():
            model = AutoModelForCausalLM.from_pretrained(folder)
            tokenizer = AutoTokenizer.from_pretrained(folder)
            ids = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], add_generation_prompt=True, return_dict=False)
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
    except Exception as error:
        raise ModelError(f"{folder}: the saved model does not open in plain transformers: {error}") from error
    if not bool(torch.isfinite(logits).all()):
        raise ModelError(f"{folder}: the saved model gives non-finite logits: its weights are broken")


@contextmanager
def whole_folder(folder: str | Path) -> Iterator[Path]:
    """A temporary sibling that takes the place of `folder` when the block ends well, and vanishes otherwise."""
    target = Path(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.new")
    previous = target.with_name(f".{target.name}.{os.getpid()}.old")
    for leftover in (temporary, previous):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        if target.exists():
            target.rename(previous)  # a non-empty folder cannot be renamed over
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(previous, ignore_errors=True)
