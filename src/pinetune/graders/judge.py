"""What `score_model` and `label_model` share: put the question, read the verdict, and keep what it cost.

They differ in the schema of the result and in how a result becomes a value.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from pinetune.errors import GradingFailed
from pinetune.graders.ask import Ask, AskReply, AskRequest
from pinetune.graders.judge_input import JudgeInput, sampling_params
from pinetune.graders.judge_reply import explained, read_verdict
from pinetune.graders.options import BuildOptions
from pinetune.graders.template import sample_of
from pinetune.records import Completion, Grade, JsonSchema, Row
from pinetune.wire.graders import LabelModel, ScoreModel

NO_JUDGE = (
    "no judge is configured: set PINETUNE_JUDGE_BASE_URL (an OpenAI-compatible endpoint) and PINETUNE_JUDGE_API_KEY, "
    "or name a local model with the alias 'local:FOLDER'"
)

Valued = Callable[[Any, AskReply], tuple[float, str]]  # (result, reply) -> (value, first line of the explanation)


class JudgeGrader:
    """Asks a model about each answer. No readable verdict is a Grade with status "error", never a 0."""

    def __init__(
        self, definition: ScoreModel | LabelModel, options: BuildOptions, schema_name: str, schema: JsonSchema, valued: Valued
    ) -> None:
        self.name = definition.name or options.default_name
        self.model = definition.model
        self._input = JudgeInput(definition.input, f"{options.path}.input")
        self._params = sampling_params(definition.sampling_params, definition.model, f"{options.path}.sampling_params")
        self._schema_name, self._schema, self._valued = schema_name, schema, valued
        self._ask: Ask | None = options.services.ask
        self._json_answers = options.json_answers

    def grade(self, completion: Completion, row: Row) -> Grade:
        """Raises BudgetSpent, unlike other graders: then the work must stop, not go on without grades."""
        start = time.perf_counter()
        scope = {"item": row.item, "sample": sample_of(completion, json_answers=self._json_answers)}
        reply: AskReply | None = None
        try:
            reply = self._asked(scope)
            verdict = read_verdict(reply)
            value, said = self._valued(verdict["result"], reply)
        except GradingFailed as failure:
            return Grade("error", 0.0, str(failure), failure.kind, {}, time.perf_counter() - start, **_cost(reply))
        explanation = "\n".join(line for line in (said, explained(verdict)) if line)
        return Grade("ok", value, explanation, seconds=time.perf_counter() - start, **_cost(reply))

    def close(self) -> None:
        """Nothing to give back: the judge belongs to whoever made it."""

    def _asked(self, scope: Mapping[str, Any]) -> AskReply:
        if self._ask is None:
            raise GradingFailed("model_grader_server_error", NO_JUDGE)
        messages = self._input.render(scope)
        return self._ask(AskRequest(self.model, messages, self._schema, self._schema_name, self._params))


def _cost(reply: AskReply | None) -> dict[str, Any]:
    return {"usage": {reply.model: dict(reply.usage)} if reply.usage else {}, "model": reply.model} if reply else {}
