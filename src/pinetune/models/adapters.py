"""Several LoRA adapters on one loaded base.

    shared = SharedBase(load_model("folder"))
    expert = shared.attach("adapter-folder", "expert")    # a LoadedModel that shares the base's weights
    shared.activate("expert"); shared.activate(None)      # None: the base as it was loaded

Which adapter computes is a state of the shared modules, so activate before computing. Not thread-safe.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from pinetune.errors import ModelError
from pinetune.models.chat import ChatFormat
from pinetune.models.load import LoadedModel, first_line, generation_eos, prepared, quiet

OWN = "default"  # peft's name for the adapter that a base came with


class SharedBase:
    """A loaded model and the adapters attached to it. A base that came with an adapter of its own keeps it as the base's."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self._peft: Any = loaded.model if loaded.is_lora else None
        self._has_own = loaded.is_lora
        self._active: str | None = None

    def attach(self, folder: str | Path, name: str) -> LoadedModel:
        """Load the adapter in `folder` under `name` (no dots); its tokenizer is the folder's where there is one, else the base's.

        Raises ModelError when the folder holds no adapter, or one that does not fit; the base is then as before.
        """
        path = Path(folder)
        if not (path / "adapter_config.json").is_file():
            raise ModelError(f"{path} holds no adapter (no adapter_config.json)")
        try:
            with quiet():
                tokenizer = _own_tokenizer(path)
                self._load(path, name)
        except Exception as error:
            if self._peft is None:
                _strip(self.loaded.base)  # peft puts its layers in before it reads the weights
            else:
                self.detach(name)
            raise ModelError(f"the adapter in {path} cannot be put on {self.loaded.source}: {first_line(error)}") from error
        prepared(self._peft).to(self.loaded.device)
        self._active = name  # peft makes the first adapter active, later ones not
        self.activate(None)
        base = self.loaded
        chat = base.chat if tokenizer is None else ChatFormat(tokenizer, generation_eos=generation_eos(base.base), source=str(path))
        return LoadedModel(self._peft, tokenizer or base.tokenizer, chat, str(path))

    def activate(self, name: str | None) -> None:
        """Make `name` the adapter that computes; None is the base alone."""
        if self._peft is None or name == self._active:
            return
        if name is None and not self._has_own:
            self._peft.base_model.disable_adapter_layers()
        else:
            self._peft.base_model.enable_adapter_layers()
            self._peft.base_model.set_adapter(name or OWN)
        self._active = name

    def detach(self, name: str) -> None:
        """Free the adapter's weights. An unknown name is none."""
        if self._peft is not None and name in self._peft.peft_config:
            self.activate(None)
            self._peft.delete_adapter(name)

    def _load(self, path: Path, name: str) -> None:
        from peft import PeftModel

        if self._peft is None:
            self._peft = PeftModel.from_pretrained(self.loaded.base, path, adapter_name=name)
        else:
            self._peft.load_adapter(str(path), adapter_name=name)


def _strip(model: PreTrainedModel) -> None:
    """Take half-installed adapter layers out again."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for path, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            parent, _, child = path.rpartition(".")
            setattr(model.get_submodule(parent), child, module.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config


def _own_tokenizer(path: Path) -> PreTrainedTokenizerBase | None:
    if not (path / "tokenizer_config.json").is_file():
        return None
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(path), local_files_only=True)
    return tokenizer
