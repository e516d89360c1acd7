"""A local embedding model: texts to vectors of length 1, so that a cosine needs no service.

Any Hugging Face encoder works. How token states become one vector is read from the folder where sentence-transformers
wrote it (`1_Pooling/config.json`: mean, first or last token); otherwise it is the mean over the text's tokens.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from transformers import AutoModel, AutoTokenizer

from pinetune.errors import ModelError
from pinetune.models.load import hub_answers, quiet, told
from pinetune.models.names import find_model

POOLING = "1_Pooling/config.json"
MODES = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "first", "pooling_mode_lasttoken": "last"}
MAX_TOKENS = 8192  # of one text, where the model itself names no limit; the rest is cut off


class LocalEmbedder:
    """Embeds with the model of a folder or hub id; thread-safe, one forward pass at a time.

    The newest `cache_size` texts are remembered: the reference of a row is asked for with each of its answers.

    >>> embed = LocalEmbedder("models/all-MiniLM-L6-v2")  # doctest: +SKIP
    >>> len(embed(["a cat", "a dog"]))  # doctest: +SKIP
    2
    """

    def __init__(self, source: str, *, device: str = "cpu", batch_size: int = 32, cache_size: int = 10_000) -> None:
        """Raises ModelError where `source` is no encoder that can be opened."""
        self.source = find_model(source)
        offline = not Path(self.source).is_dir() and not hub_answers()
        with quiet(), told(source):
            self._tokenizer: Any = AutoTokenizer.from_pretrained(self.source, local_files_only=offline)
            self._model = _open_encoder(self.source, offline).to(device).eval()
            self._pooling = _pooling(self.source, offline)
        self._max_tokens = min(MAX_TOKENS, self._tokenizer.model_max_length, _positions(self._model.config))
        self._tokenizer.padding_side = "right"
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._device, self._batch_size, self._cache_size = device, batch_size, cache_size
        self._known: OrderedDict[str, tuple[float, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        """[len(texts)][hidden size], each of length 1. A text longer than the model reads is cut."""
        with self._lock:
            missing = [text for text in dict.fromkeys(texts) if text not in self._known]
            new: dict[str, tuple[float, ...]] = {}
            # By length, so that short texts are not padded to long ones; the vectors do not depend on it.
            for batch in _batches(sorted(missing, key=len), self._batch_size):
                new.update(zip(batch, self._embedded(batch), strict=True))
            vectors = [list(new[text] if text in new else self._known[text]) for text in texts]
            for text in texts:
                self._known[text] = self._known.pop(text, ()) or new[text]
            while len(self._known) > self._cache_size:
                self._known.popitem(last=False)
        return vectors

    def _embedded(self, texts: Sequence[str]) -> list[tuple[float, ...]]:
        clean = [text.encode("utf-8", "replace").decode() for text in texts]  # tokenizers refuse a lone surrogate
        fed = self._tokenizer(clean, padding=True, truncation=True, max_length=self._max_tokens, return_tensors="pt").to(self._device)
        with torch.inference_mode():
            states_BTH = self._model(**fed).last_hidden_state.float()
            vectors_BH = _pooled(states_BTH, fed["attention_mask"], self._pooling)
            unit_BH = torch.nn.functional.normalize(vectors_BH, dim=-1)
        return [tuple(vector) for vector in unit_BH.tolist()]


def _open_encoder(source: str, offline: bool) -> Any:
    model, info = AutoModel.from_pretrained(source, dtype=torch.float32, output_loading_info=True, local_files_only=offline)
    missing = sorted(key for key in info["missing_keys"] if "pooler" not in key)  # the pooler is not used here
    if missing:  # transformers would fill them with noise and only warn
        raise ModelError(f"{source}: the weight files lack {len(missing)} tensors, first {missing[0]}: the download is incomplete")
    return model


def _pooled(states_BTH: torch.Tensor, mask_BT: torch.Tensor, pooling: str) -> torch.Tensor:
    """One vector a text from its token states; padding is on the right and has no part in it."""
    if pooling == "first":
        return states_BTH[:, 0]
    if pooling == "last":
        last_B = mask_BT.sum(dim=1) - 1
        return states_BTH[torch.arange(len(states_BTH), device=states_BTH.device), last_B]
    weights_BT1 = mask_BT.unsqueeze(-1).to(states_BTH.dtype)
    return (states_BTH * weights_BT1).sum(dim=1) / weights_BT1.sum(dim=1).clamp(min=1.0)


def _pooling(source: str, offline: bool) -> str:
    """mean, first or last. Raises ModelError where the folder asks for another one."""
    path: Path | str = Path(source) / POOLING
    if not Path(source).is_dir():
        try:
            path = hf_hub_download(source, POOLING, local_files_only=offline)
        except (EntryNotFoundError, LocalEntryNotFoundError):
            return "mean"
    if not Path(path).is_file():
        return "mean"
    config = json.loads(Path(path).read_text(encoding="utf-8"))
    chosen = [name for name, on in config.items() if name.startswith("pooling_mode_") and on is True]
    if len(chosen) != 1 or chosen[0] not in MODES:
        raise ModelError(f"{source}/{POOLING}: asks for {' and '.join(chosen) or 'no pooling'}; one of {', '.join(MODES)} can be used")
    return MODES[chosen[0]]


def _positions(config: Any) -> int:
    return int(getattr(config, "max_position_embeddings", None) or MAX_TOKENS)


def _batches(texts: Sequence[str], size: int) -> list[Sequence[str]]:
    return [texts[start : start + size] for start in range(0, len(texts), size)]
