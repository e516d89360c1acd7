"""Models in this process: a judge is any function from messages to text, an embedder one from texts to vectors.

How they are opened and what they are is the affair of the program that plugs them in.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pinetune.errors import GradingFailed, StoreError, UserError
from pinetune.graders.ask import AskReply, AskRequest
from pinetune.judges.settings import LOCAL
from pinetune.records import JsonSchema, Message


class LocalModel(Protocol):
    """`identity` changes when its weights do: answers are cached under it."""

    identity: str

    def __call__(self, messages: Sequence[Message], schema: JsonSchema | None, params: Mapping[str, Any]) -> str:
        """The answer, in JSON that matches `schema` where one is given. `params` has `seed` set."""
        ...


MAX_TOKENS = 1024  # of a verdict, thinking included, where the grader sets none
# Of a verdict's steps, of the characters of each text, and of a number and its digits: small models do not stop by themselves.
MAX_STEPS, MAX_CHARACTERS = 4, 200
NUMBERS = {"minimum": -10_000, "maximum": 10_000, "multipleOf": 0.01}
# From the name after "local:"; raise UserError.
OpenModel = Callable[[str], LocalModel]
Embedder = Callable[[Sequence[str]], Sequence[Sequence[float]]]
OpenEmbedder = Callable[[str], Embedder]
T = TypeVar("T")


class LocalModels:
    """Opens each local model once, when it is first asked."""

    def __init__(self, open_model: OpenModel | None = None, open_embedder: OpenEmbedder | None = None) -> None:
        self._open_model, self._open_embedder = open_model, open_embedder
        self._models: dict[str, LocalModel] = {}
        self._embedders: dict[str, Embedder] = {}
        self._lock = threading.Lock()

    def identity(self, name: str) -> str:
        return f"{LOCAL}{self._model(name).identity}"

    def complete(self, request: AskRequest) -> AskReply:
        """See graders.ask.Ask. The seed is the grader's own plus `repeat`: repeats differ, a run repeated does not."""
        params = {**request.params, "seed": int(request.params.get("seed", 0)) + request.repeat}
        try:
            text = self._model(request.model)(request.messages, request.schema, params)
        except UserError as error:  # a template that knows no system role, a schema that cannot be enforced
            raise GradingFailed("model_grader_server_error", f"local judge {request.model}: {error}") from error
        return AskReply(text, request.model)

    def embed(self, texts: Sequence[str], name: str) -> Sequence[Sequence[float]]:
        """One vector a text."""
        return self._opened(self._embedders, self._open_embedder, name)(texts)

    def _model(self, name: str) -> LocalModel:
        return self._opened(self._models, self._open_model, name)

    def _opened(self, known: dict[str, T], opener: Callable[[str], T] | None, name: str) -> T:
        if opener is None:
            raise GradingFailed("model_grader_server_error", f"{name}: no local model can be asked here; name an endpoint")
        with self._lock:  # also while it loads: the other threads need the same model
            if name not in known:
                try:
                    known[name] = opener(name.removeprefix(LOCAL))
                except (UserError, StoreError) as error:
                    raise GradingFailed("model_grader_server_error", f"local model {name}: {error}") from error
            return known[name]


def bounded(schema: JsonSchema) -> dict[str, Any]:
    """The schema with an end to every list and text: a grammar keeps JSON valid, only bounds make it come to an end."""
    bounds: dict[str, Any] = {}
    if "enum" not in schema and "const" not in schema:
        kind = schema.get("type")
        kinds: dict[str, dict[str, Any]] = {"array": {"maxItems": MAX_STEPS}, "string": {"maxLength": MAX_CHARACTERS}, "number": NUMBERS}
        bounds = kinds.get(kind, {}) if isinstance(kind, str) else {}
    inner = {key: bounded(value) if isinstance(value, Mapping) else value for key, value in schema.items()}
    return {**bounds, **inner}


def identity_of(source: str) -> str:
    """Name, sizes and times of the weights: other weights in the same folder are another judge."""
    files = sorted(path for path in Path(source).glob("*.safetensors") if path.is_file())
    marks = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return f"{source}#{hashlib.sha256(repr(marks).encode()).hexdigest()[:16]}"
