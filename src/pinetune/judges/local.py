"""A model in this process as a judge: any function from messages to text. Floor and weights are the caller's affair."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

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


OpenModel = Callable[[str], LocalModel]  # from the name after "local:"; raises UserError


class LocalJudges:
    """Opens each local model once, when it is first asked."""

    def __init__(self, open_model: OpenModel) -> None:
        self._open = open_model
        self._models: dict[str, LocalModel] = {}
        self._lock = threading.Lock()

    def identity(self, name: str) -> str:
        return f"{LOCAL}{self._model(name).identity}"

    def complete(self, request: AskRequest) -> AskReply:
        """See graders.ask.Ask. The seed is the grader's own plus `repeat`: repeats differ, a run repeated does not."""
        params = {**request.params, "seed": int(request.params.get("seed", 0)) + request.repeat}
        text = self._model(request.model)(request.messages, request.schema, params)
        return AskReply(text, request.model)

    def _model(self, name: str) -> LocalModel:
        with self._lock:  # also while it loads: the other threads need the same model
            if name not in self._models:
                try:
                    self._models[name] = self._open(name.removeprefix(LOCAL))
                except UserError as error:
                    raise GradingFailed("model_grader_server_error", f"local judge {name}: {error}") from error
            return self._models[name]
