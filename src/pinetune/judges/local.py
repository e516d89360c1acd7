"""Models in this process: a judge is any function from messages to text, an embedder one from texts to vectors.

How they are opened and what they are is the affair of the program that plugs them in.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from pinetune.errors import GradingFailed, UserError
from pinetune.graders.ask import AskReply, AskRequest
from pinetune.judges.settings import LOCAL
from pinetune.records import JsonSchema, Message


class LocalModel(Protocol):
    """`identity` changes when its weights do: answers are cached under it."""

    identity: str

    def __call__(self, messages: Sequence[Message], schema: JsonSchema | None, params: Mapping[str, Any]) -> str:
        """The answer, in JSON that matches `schema` where one is given. `params` has `seed` set."""
        ...


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
                except UserError as error:
                    raise GradingFailed("model_grader_server_error", f"local model {name}: {error}") from error
            return known[name]
