"""Models in memory: one loaded base for all its adapters, the least recently used gone first, the idle ones after a while.

The fused decoder multiplies by packed copies of the weights with LoRA merged in, so each adapter in use costs one more copy
of the weights and nothing per token. Architectures it does not know run through the modules themselves, where the adapter
is switched before each step and costs its own few megabytes. Only the engine's thread calls a Pool; bases are read from
disk by a thread of their own, so that running answers go on.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

from pinetune.errors import ModelError
from pinetune.models.adapters import SharedBase
from pinetune.models.load import LoadedModel, load_model
from pinetune.models.memory import machine_bytes
from pinetune.sampling.decoder import Decoder
from pinetune.sampling.fused import FusedDecoder
from pinetune.sampling.grammar import GrammarCompiler
from pinetune.sampling.live import LiveBatch
from pinetune.sampling.local import pick_decoder
from pinetune.serving.directory import ServedModel
from pinetune.wire.errors import ApiProblem

log = logging.getLogger("pinetune.serving")


@dataclass(slots=True)
class Ready:
    """A model that can compute: its own tokenizer and chat format, the shared weights, and what runs on it."""

    served: ServedModel
    loaded: LoadedModel
    batch: LiveBatch
    own_bytes: int  # memory that goes when it goes
    used: float = 0.0  # the clock, when it last did something
    _base: Base | None = None
    _grammars: GrammarCompiler | None = None

    @property
    def adapter(self) -> str | None:
        return self.served.adapter

    @property
    def grammars(self) -> GrammarCompiler:
        if self._grammars is None:
            self._grammars = GrammarCompiler(self.loaded.tokenizer, self.batch.vocab_size, self.loaded.chat.stop_ids)
        return self._grammars

    def activate(self) -> None:
        """To be called before the modules compute."""
        if self._base is not None:
            self._base.shared.activate(adapter_name(self.adapter))

    @property
    def needs_activation(self) -> bool:
        return not isinstance(self.batch.decoder, FusedDecoder)


@dataclass(slots=True)
class Base:
    """Full weights as read from disk, and the models made of them by adapter folder (None = the base itself)."""

    shared: SharedBase
    bytes: int
    models: dict[str | None, Ready] = field(default_factory=dict)


class Pool:
    """`memory_bytes`: weights kept at once, by default half of the machine's memory. `idle_seconds`: a model nobody asked
    for so long is unloaded. `busy` says whether a model is at work. `wake` is called when a base has been read."""

    def __init__(
        self,
        *,
        busy: Callable[[Ready], bool],
        wake: Callable[[], None] = lambda: None,
        memory_bytes: int | None = None,
        idle_seconds: float = 1800.0,
        clock: Callable[[], float] = time.monotonic,
        open_model: Callable[[str], LoadedModel] = load_model,
    ) -> None:
        self.memory_bytes = memory_bytes or machine_bytes() // 2
        self.idle_seconds = idle_seconds
        self._busy = busy
        self._wake = wake
        self._clock = clock
        self._open = open_model
        self._bases: dict[str, Base] = {}
        self._loading: dict[str, Future[LoadedModel]] = {}

    def get(self, served: ServedModel) -> Ready | None:
        """The model, or None while it is being read or has to wait for memory. Raises ApiProblem when it cannot be used."""
        base = self._bases.get(served.base)
        if base is None:
            base = self._finished_load(served)
        if base is None:
            return None
        ready = base.models.get(served.adapter)
        if ready is None:
            ready = self._make(base, served)
        if ready is not None:
            ready.used = self._clock()
        return ready

    def models(self) -> Iterator[Ready]:
        for base in self._bases.values():
            yield from base.models.values()

    def tidy(self) -> None:
        """Unload what has been idle for too long."""
        now = self._clock()
        for ready in [r for r in self.models() if now - r.used > self.idle_seconds and not self._busy(r)]:
            self._unload(ready, f"idle for {self.idle_seconds / 60:.0f} minutes")

    def used_bytes(self) -> int:
        return sum(base.bytes + sum(ready.own_bytes for ready in base.models.values()) for base in self._bases.values())

    def forget(self, served: ServedModel) -> None:
        """Unload a model that was deleted; one at work goes when it is idle."""
        base = self._bases.get(served.base)
        ready = base.models.get(served.adapter) if base else None
        if ready is not None and not self._busy(ready):
            self._unload(ready, "deleted")

    # ---- bases

    def _finished_load(self, served: ServedModel) -> Base | None:
        future = self._loading.get(served.base)
        if future is None:
            if self._make_room(weight_bytes(served.base), served):
                self._start_load(served)
            return None
        if not future.done():
            return None
        del self._loading[served.base]
        try:
            loaded = future.result()
        except Exception as error:
            log.error("model %s cannot be loaded: %s", served.id, error)
            raise unusable(served, error) from error
        base = Base(SharedBase(loaded), tensor_bytes(loaded))
        self._bases[served.base] = base
        return base

    def _start_load(self, served: ServedModel) -> None:
        log.info("loading %s from %s (%s)", served.id, served.base, _size(weight_bytes(served.base)))
        future: Future[LoadedModel] = Future()
        self._loading[served.base] = future
        threading.Thread(target=self._load, args=(served, future), name="pinetune-load", daemon=True).start()

    def _load(self, served: ServedModel, future: Future[LoadedModel]) -> None:
        started = time.perf_counter()
        try:
            loaded = self._open(served.base)
            log.info("loaded %s in %.1f s: %s on %s", served.id, time.perf_counter() - started, _size(tensor_bytes(loaded)), loaded.device)
            future.set_result(loaded)
        except BaseException as error:
            future.set_exception(error)
        self._wake()

    # ---- models on a base

    def _make(self, base: Base, served: ServedModel) -> Ready | None:
        loaded = base.shared.loaded
        if not self._make_room(base.bytes, served):
            return None
        try:
            if served.adapter is not None:
                loaded = base.shared.attach(served.adapter, adapter_name(served.adapter))
            base.shared.activate(adapter_name(served.adapter))
            decoder: Decoder = pick_decoder(loaded.base)
        except (ModelError, RuntimeError, ValueError) as error:
            log.error("model %s cannot be loaded: %s", served.id, error)
            raise unusable(served, error) from error
        own = base.bytes if isinstance(decoder, FusedDecoder) else 0
        ready = Ready(served, loaded, LiveBatch(loaded, decoder), own, self._clock(), base)
        base.models[served.adapter] = ready
        log.info("serving %s (%s in memory for all models)", served.id, _size(self.used_bytes()))
        return ready

    def _make_room(self, need: int, served: ServedModel) -> bool:
        """Unload the least recently used until `need` bytes fit; False when only models at work are left."""
        idle = sorted((r for r in self.models() if not self._busy(r) and r.served.base != served.base), key=lambda ready: ready.used)
        own = sorted((r for r in self.models() if not self._busy(r) and r.served.base == served.base), key=lambda ready: ready.used)
        for ready in [*idle, *own]:
            if self.used_bytes() + need <= self.memory_bytes:
                break
            self._unload(ready, "to make room", keep_base=ready.served.base == served.base)
        if self.used_bytes() + need <= self.memory_bytes:
            return True
        if any(self._busy(ready) for ready in self.models()):
            return False
        base = self._bases.get(served.base)
        raise ApiProblem(
            503,
            f"{served.id} needs {_size(need + (base.bytes if base else 0))} of memory for its weights, more than the "
            f"{_size(self.memory_bytes)} that models may take here: raise the limit or serve a smaller model",
            code="insufficient_memory",
        )

    def _unload(self, ready: Ready, why: str, keep_base: bool = False) -> None:
        base = self._bases[ready.served.base]
        del base.models[ready.adapter]
        if ready.adapter is not None:
            base.shared.detach(adapter_name(ready.adapter))
        if not base.models and not keep_base:
            del self._bases[ready.served.base]
        log.info("unloaded %s: %s", ready.served.id, why)


@overload
def adapter_name(folder: str) -> str: ...
@overload
def adapter_name(folder: None) -> None: ...
def adapter_name(folder: str | None) -> str | None:
    """peft's name for the adapter of a folder: it becomes a module's name, where dots are not allowed."""
    return None if folder is None else hashlib.sha256(folder.encode()).hexdigest()[:16]


def unusable(served: ServedModel, error: BaseException) -> ApiProblem:
    """A model that is listed but cannot be opened. Not a 5xx: clients would ask again, and nothing would have changed."""
    said = str(error)
    for path in filter(None, (served.adapter, served.base)):  # where weights lie is the operator's business; the log has it
        said = said.replace(path, "its folder")
    return ApiProblem(400, f"the model '{served.id}' cannot be loaded: {said}", code="model_not_loadable", param="model")


def tensor_bytes(loaded: LoadedModel) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in loaded.base.parameters())


def weight_bytes(source: str) -> int:
    """What the weights will take, from the files' sizes; 0 where there is no such folder (a hub id, or a fault told later).

    Files in half precision are held in single precision on a CPU, so they are counted twice.
    """
    folder = Path(source)
    try:
        files = [path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin")] if folder.is_dir() else []
        return 2 * sum(path.stat().st_size for path in files)
    except OSError:
        return 0


def _size(count: int | float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.1f} {unit}" if unit == "GB" else f"{count:.0f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")
