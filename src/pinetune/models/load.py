"""Open a Hugging Face causal language model, full weights or LoRA, from a folder or a hub id.

Whatever is wrong with it becomes one ModelError that says what to do.
"""

from __future__ import annotations

import json
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from huggingface_hub import constants
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from pinetune.errors import ModelError
from pinetune.models.chat import ChatFormat
from pinetune.models.linear import use_fast_linear

if TYPE_CHECKING:
    from peft import PeftModel

CAUSAL_ENDINGS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """Low-rank adapters on every linear layer but the output head. `alpha / rank` scales them."""

    rank: int = 16
    alpha: float = 32.0


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to sample from and to train, with its tokenizer and chat format."""

    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    chat: ChatFormat
    source: str

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def is_lora(self) -> bool:
        return hasattr(self.model, "get_base_model")  # not peft_config: a base with adapters attached to it has that too

    @property
    def base(self) -> PreTrainedModel:
        """The Hugging Face model itself; under LoRA its linear layers are peft's."""
        return self.model.get_base_model() if self.is_lora else self.model

    @property
    def context_length(self) -> int:
        """Most tokens (prompt and completion) the model was made for; 0 = not stated."""
        config = self.base.config.get_text_config()
        return int(getattr(config, "max_position_embeddings", 0) or 0)


@dataclass(frozen=True, slots=True)
class Reader:
    """How a model reads messages, without its weights: enough to check a file."""

    chat: ChatFormat
    context_length: int  # as LoadedModel's


def open_reader(source: str | Path) -> Reader:
    """The tokenizer, chat format and context length of the model at `source`, in a moment. Raises ModelError."""
    name = str(source)
    folder = _folder(name)
    adapter = folder if folder and (folder / "adapter_config.json").is_file() else None
    weights = _adapter_base(adapter) if adapter else name
    offline = not Path(weights).expanduser().exists() and not hub_answers()
    with quiet(), told(name):
        config = AutoConfig.from_pretrained(weights, local_files_only=offline)
        try:
            eos = GenerationConfig.from_pretrained(weights, local_files_only=offline).eos_token_id
        except OSError:  # it has none
            eos = None
        tokenizer = _open_tokenizer(str(adapter) if adapter and (adapter / "tokenizer_config.json").is_file() else weights, offline)
        stops = _as_list(getattr(config, "eos_token_id", None) if eos is None else eos)
        chat = ChatFormat(tokenizer, generation_eos=stops, source=name)
    return Reader(chat, int(getattr(config.get_text_config(), "max_position_embeddings", 0) or 0))


def load_model(
    source: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    lora: LoraSettings | None = None,
    seed: int = 0,
) -> LoadedModel:
    """Open the model in the folder or under the hub id `source`; a folder with an adapter opens base and adapter.

    device "auto" is CUDA if present, else CPU; dtype "auto" is float32 on CPU and bfloat16 on CUDA.
    With `lora` only adapters train; their initial values depend on `seed` alone. An adapter that `source` already
    has is kept and trained on, with its own rank. Dropout is off, also in train mode: the sampler's log-probs must
    be the learner's.
    Raises ModelError.
    """
    name = str(source)
    folder = _folder(name)
    adapter = folder if folder and (folder / "adapter_config.json").is_file() else None
    weights = _adapter_base(adapter) if adapter else name
    torch_device = pick_device(device)
    offline = not Path(weights).expanduser().exists() and not hub_answers()
    with quiet(), told(name):
        model = _open_weights(weights, _dtype(dtype, torch_device), offline)
        tokenizer = _open_tokenizer(str(adapter) if adapter and (adapter / "tokenizer_config.json").is_file() else weights, offline)
        chat = ChatFormat(tokenizer, generation_eos=generation_eos(model), source=name)
        if adapter:
            model = _open_adapter(model, adapter)
        elif lora:
            model = _add_lora(model, lora, seed)
    return LoadedModel(prepared(model).to(torch_device), tokenizer, chat, name)


def loaded_from(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: str = "in memory") -> LoadedModel:
    """A model made or opened elsewhere as a LoadedModel."""
    chat = ChatFormat(tokenizer, generation_eos=generation_eos(model), source=source)
    return LoadedModel(prepared(model), tokenizer, chat, source)


def prepared(model: Any) -> Any:
    """In eval mode, with fast linear layers and with dropout off in every module, be it a layer or a number handed to attention."""
    use_fast_linear(model)
    model.eval()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for field in ("attention_dropout", "dropout", "attn_dropout"):
            if isinstance(getattr(module, field, None), float):
                setattr(module, field, 0.0)
    return model


def _folder(name: str) -> Path | None:
    """`name` as a checked local folder, or None when it is a hub id (`owner/name`)."""
    path = Path(name).expanduser()
    if not path.exists():
        if name.startswith(("/", ".", "~")) or name.count("/") > 1:
            raise ModelError(f"{name}: no such folder")
        return None
    if not path.is_dir():
        raise ModelError(f"{name} is a file; give the folder that holds config.json and the weights")
    if not (path / "config.json").is_file() and not (path / "adapter_config.json").is_file():
        found = ", ".join(sorted(p.name for p in path.iterdir())[:6]) or "nothing"
        raise ModelError(f"{name} has no config.json (found: {found}); give a Hugging Face model folder")
    return path


def _adapter_base(adapter: Path) -> str:
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    base = str(config.get("base_model_name_or_path") or "")
    if not base:
        raise ModelError(f"{adapter}/adapter_config.json names no base_model_name_or_path; add it, or merge the adapter first")
    return base


def pick_device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f'device "{device}" cannot be used here ({str(error).splitlines()[0]}); use "cpu" or "auto"') from error


def _dtype(dtype: str, device: torch.device) -> torch.dtype:
    if dtype == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if dtype not in DTYPES:
        raise ModelError(f'dtype "{dtype}" is unknown; use auto, {", ".join(DTYPES)}')
    return DTYPES[dtype]


def hub_answers() -> bool:
    """Whether the hub can be spoken to; without this check an offline machine waits half a minute in retries."""
    if getproxies():
        return True  # only the proxy knows
    address = urlsplit(constants.ENDPOINT)
    try:
        socket.create_connection((address.hostname or "", address.port or 443), timeout=5).close()
    except OSError:
        return False
    return True


def _open_weights(source: str, dtype: torch.dtype, offline: bool) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(source, local_files_only=offline)
    names = list(getattr(config, "architectures", None) or [])
    if names and not any(name.endswith(CAUSAL_ENDINGS) for name in names):
        raise ModelError(f"{source} is a {names[0]}, not a causal language model: pick one whose architecture ends in ForCausalLM")
    model, info = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, output_loading_info=True, local_files_only=offline)
    if info["missing_keys"]:  # transformers would fill them with noise and only warn
        missing = sorted(info["missing_keys"])
        raise ModelError(f"{source}: the weight files lack {len(missing)} tensors, first {missing[0]}: the download is incomplete")
    return model


def _open_tokenizer(source: str, offline: bool) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source, local_files_only=offline)
        reason = "it has no words"
    except Exception as error:
        tokenizer, reason = None, first_line(error)
    # Without its files transformers makes an empty tokenizer for some architectures, without a word.
    if tokenizer is None or len(tokenizer.get_vocab()) <= len(tokenizer.added_tokens_decoder):
        raise ModelError(f"{source} has no tokenizer that can be read (tokenizer.json, tokenizer_config.json): {reason}")
    return tokenizer


def generation_eos(model: PreTrainedModel) -> list[int]:
    eos = getattr(model.generation_config, "eos_token_id", None)
    if eos is None:
        eos = getattr(model.config, "eos_token_id", None)
    return _as_list(eos)


def _as_list(eos: Any) -> list[int]:
    return [] if eos is None else [int(i) for i in (eos if isinstance(eos, list | tuple) else [eos])]


def _open_adapter(model: PreTrainedModel, adapter: Path) -> PeftModel:
    from peft import PeftModel

    return PeftModel.from_pretrained(model, adapter, is_trainable=True)


def _add_lora(model: PreTrainedModel, lora: LoraSettings, seed: int) -> PeftModel:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(model, config)


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars (the program above draws its own screen) and no words between transformers and peft.

    peft 0.21 calls names that transformers 5.23 announces to drop; nobody here can act on that.
    """
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


@contextmanager
def told(source: str) -> Iterator[None]:
    """Turn what transformers raises on a broken or unreachable model into one clear line."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        if Path(source).expanduser().exists():
            raise ModelError(f"{source} cannot be opened: {first_line(error)}") from error
        raise ModelError(
            f"{source} is no local folder and cannot be fetched from the Hugging Face hub ({first_line(error)}); check the id, "
            "the network and HF_TOKEN, or copy the model to this machine and give its folder"
        ) from error


def first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".")[:200] if lines else type(error).__name__
