"""OpenAI's grader definitions, as they stand in a job body, an eval or a JSON file. Shapes only, no behaviour.

Names are optional everywhere (the hosted API fills them in), unknown keys are refused except on `multi`, where
samples in circulation carry extra keys.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator

from pinetune.wire.base import Wire

Operation = Literal["eq", "ne", "neq", "like", "ilike"]
TextMetric = Literal[
    "fuzzy_match", "bleu", "gleu", "meteor", "cosine", "rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5", "rouge_l"
]  # fmt: skip


UNIT = (0.0, 1.0)


class Definition(Wire):
    """What all grader definitions share. `pass_threshold` decides pass or fail in evals only, never the reward."""

    name: str | None = None
    pass_threshold: float | None = Field(default=None, allow_inf_nan=False)


class StringCheck(Definition):
    type: Literal["string_check"]
    input: str
    reference: str
    operation: Operation


class TextSimilarity(Definition):
    type: Literal["text_similarity"]
    input: str
    reference: str
    evaluation_metric: TextMetric


class Python(Definition):
    type: Literal["python"]
    source: str
    image_tag: str | None = None


class InputMessage(Wire):
    """One message of a judge's prompt; content is a string, one content block or a list of them."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | dict[str, Any] | list[str | dict[str, Any]]
    type: Literal["message"] = "message"


class JudgeSampling(Wire):
    seed: int | None = None
    top_p: float | None = None
    temperature: float | None = None
    max_completions_tokens: int | None = None  # the plural is OpenAI's
    reasoning_effort: str | None = None


class ScoreModel(Definition):
    type: Literal["score_model"]
    model: str
    input: list[InputMessage]
    range: tuple[float, float] = UNIT
    sampling_params: JudgeSampling | None = None

    @field_validator("range", mode="before")
    @classmethod
    def _null_is_the_default(cls, value: Any) -> Any:
        return UNIT if value is None else value


class LabelModel(Definition):
    type: Literal["label_model"]
    model: str
    input: list[InputMessage]
    labels: list[str] = Field(min_length=1)
    passing_labels: list[str] = Field(min_length=1)
    sampling_params: JudgeSampling | None = None


class Endpoint(Definition):
    type: Literal["endpoint"]
    url: str
    headers: dict[str, str] | None = Field(default=None, repr=False)  # may hold keys: never shown, see `shown`
    rate_limit: int | None = Field(default=None, ge=1)  # requests a minute


class Multi(Definition):
    """`calculate_output` is a formula over the keys of `graders`; each part is checked by `graders.build`.

    The published schema wrongly has one grader in place of the dict; that and a list are taken too, keyed by name.
    """

    model_config = ConfigDict(extra="ignore")

    type: Literal["multi"]
    graders: dict[str, Any] | list[dict[str, Any]] = Field(min_length=1)
    calculate_output: str


DEFINITIONS: dict[str, type[Definition]] = {
    "string_check": StringCheck,
    "text_similarity": TextSimilarity,
    "score_model": ScoreModel,
    "label_model": LabelModel,
    "python": Python,
    "multi": Multi,
    "endpoint": Endpoint,
}
