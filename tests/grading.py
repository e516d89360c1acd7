"""One answer through one grader definition, as the loop does it; for tests.

grade({"type": "string_check", ...}, "TSC2", {"answer": "TSC2"}).value
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pinetune.graders.ask import AskReply, AskRequest
from pinetune.graders.build import build_grader
from pinetune.records import Completion, Grade, Row

CHECK = {"type": "string_check", "input": "{{ sample.output_text }}", "reference": "{{ item.answer }}", "operation": "eq"}
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "cached_tokens": 4}


def grade(
    definition: Mapping[str, Any],
    answer: str = "",
    item: Mapping[str, Any] | None = None,
    *,
    tool_calls: tuple[Mapping[str, Any], ...] = (),
    **options: Any,
) -> Grade:
    """Python sources are trusted unless `options` say otherwise: they are the test's own."""
    grader = build_grader(definition, **{"trusted": True, **options})
    try:
        return grader.grade(
            Completion((), (), (), "stop", answer, reasoning="SECRET THOUGHT", tool_calls=tool_calls), Row(0, (), item or {})
        )
    finally:
        grader.close()


def gallery_value(grade: Callable[[dict[str, Any], dict[str, Any]], float], answer: Any, reference: Any, **more: Any) -> float:
    """What a gallery module's own `grade` gives an answer (a text, or anything as JSON)."""
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return grade({"output_text": text, "output_json": None}, {"reference_answer": reference, **more})


class SayingJudge:
    """Answers every question with `result`, in the form judges are asked for; keeps the questions."""

    def __init__(self, result: Any) -> None:
        self.text = json.dumps({"steps": [{"description": "looked", "conclusion": "fine"}], "result": result})
        self.asked: list[AskRequest] = []

    def __call__(self, request: AskRequest) -> AskReply:
        self.asked.append(request)
        return AskReply(self.text, request.model, USAGE)
