"""`score_model`: a judge gives a number, which is clipped to `range`."""

from __future__ import annotations

import math
from typing import Any

from pinetune.errors import GraderError
from pinetune.graders.ask import AskReply
from pinetune.graders.judge import JudgeGrader
from pinetune.graders.judge_reply import read_number, verdict_schema
from pinetune.graders.options import BuildOptions
from pinetune.wire.graders import ScoreModel

SCHEMA_NAME = "float_score_classification"  # OpenAI's; prompts in circulation speak of its `steps` and `result`


def build(definition: ScoreModel, options: BuildOptions) -> JudgeGrader:
    low, high = definition.range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise GraderError(f"{options.path}.range: must be two numbers, the lower one first, not [{low:g}, {high:g}]")
    result = {"type": "number", "description": f"The float score, in the range [{low:g}, {high:g}]."}

    def valued(given: Any, reply: AskReply) -> tuple[float, str]:
        number = read_number(given, reply)
        clipped = min(max(number, low), high)
        return clipped, "" if clipped == number else f"The judge said {number:g}, outside its range."

    return JudgeGrader(definition, options, SCHEMA_NAME, verdict_schema(result), valued)
