"""Judges for graders that are tried over the API: an endpoint, or a model of this server, which its serving process answers for.

This process holds no model; a job's judge that is local is loaded where the job runs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pinetune.api.serving_link import ServingLink
from pinetune.errors import GradingFailed, NotFound, UserError
from pinetune.judges.local import bounded, identity_of
from pinetune.judges.registered import Registered
from pinetune.records import JsonSchema, Message
from pinetune.settings import Settings
from pinetune.store import Store
from pinetune.wire.errors import ApiProblem

if TYPE_CHECKING:
    from pinetune.judges.service import JudgeService


def judge_service(settings: Settings, store: Store, link: ServingLink) -> JudgeService:
    """As the environment configures judges, with the operator's aliases; answers are kept in the server's home folder."""
    from pinetune.judges.service import JudgeService
    from pinetune.judges.settings import JudgeSettings

    def place(id: str) -> str | None:
        try:
            return str(store.folders.path(store.models.get(id).location))
        except NotFound:
            return None

    def open_model(name: str) -> ServedJudge:
        found = place(name)
        if found is None:  # an alias of the environment that names a folder, or nothing at all
            raise UserError("only registered models (pinetune models add) are asked from here; let an alias name one")
        return ServedJudge(link, name, found)

    environ = {**os.environ, "PINETUNE_HOME": str(settings.home), "PINETUNE_DATABASE_URL": settings.database_url}
    known = JudgeSettings.read(environ, registered=Registered(store.models.aliases, place))
    return JudgeService(known, open_model)


class ServedJudge:
    """See judges.local.LocalModel."""

    def __init__(self, link: ServingLink, name: str, place: str) -> None:
        self._link, self._name = link, name
        self.identity = f"served {name} {identity_of(place)}"

    def __call__(self, messages: Sequence[Message], schema: JsonSchema | None, params: Mapping[str, Any]) -> str:
        """Greedy unless the grader sets a temperature."""
        body: dict[str, Any] = {
            "model": self._name,
            "messages": [dict(message) for message in messages],
            "temperature": params.get("temperature", 0.0),
            "top_p": params.get("top_p", 1.0),
            "reasoning_effort": params.get("reasoning_effort", "medium"),  # half of the room at most, as for a judge in a job
            "seed": params["seed"],
        }
        if "max_completion_tokens" in params:
            body["max_completion_tokens"] = params["max_completion_tokens"]
        if schema is not None:
            form = {"name": "verdict", "schema": bounded(schema), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        try:
            reply = self._link.ask("/chat/completions", body)
        except ApiProblem as problem:
            raise GradingFailed("model_grader_server_error", f"judge {self._name}: {problem.message}") from None
        return str(reply["choices"][0]["message"]["content"] or "")
