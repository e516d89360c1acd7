"""`/v1/evals`: the bodies that create and change evals and runs. What answers them stands in `eval_objects.py`.

A criterion is a grader definition (see `graders.py`); `graders.build` checks it, because it knows the types.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from pinetune.wire.base import Wire
from pinetune.wire.chat import Effort
from pinetune.wire.fine_tuning import Metadata
from pinetune.wire.graders import InputMessage
from pinetune.wire.several import SeveralOptions

Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Temperature = Annotated[float, Field(ge=0, le=2)]
Share = Annotated[float, Field(ge=0, le=1)]
Tokens = Annotated[int, Field(ge=1)]
Moment = Annotated[int, Field(ge=0)]  # unix seconds


def by_type(*names: str) -> Discriminator:
    """Chooses the branch that carries `tag-` and the value of `type`; complaints leave such tags out of their paths."""

    def tag(value: Any) -> str:
        return f"tag-{value.get('type') if isinstance(value, dict) else getattr(value, 'type', '')}"

    said = f"value error, type must be {' or '.join(names)}"
    return Discriminator(tag, custom_error_type="unknown_type", custom_error_message=said)


# ---- what the rows of an eval look like


class CustomConfig(Wire):
    """`item_schema` is a JSON schema; with `include_sample_schema` rows bring the answer along, or a model gives it."""

    type: Literal["custom"]
    item_schema: dict[str, Any]
    include_sample_schema: bool = False


class LogsConfig(Wire):
    type: Literal["logs"]
    metadata: dict[str, Any] | None = None


class StoredConfig(Wire):
    type: Literal["stored_completions"]
    metadata: dict[str, Any] | None = None


Custom = Annotated[CustomConfig, Tag("tag-custom")]
Logs = Annotated[LogsConfig, Tag("tag-logs")]
Stored = Annotated[StoredConfig, Tag("tag-stored_completions")]
SourceConfig = Annotated[Custom | Logs | Stored, by_type("custom", "logs", "stored_completions")]


class CreateEval(Wire):
    name: str | None = None
    metadata: Metadata | None = Field(default=None, max_length=16)
    data_source_config: SourceConfig
    testing_criteria: list[dict[str, Any]] = Field(min_length=1, max_length=100)


class UpdateEval(Wire):
    name: str | None = None
    metadata: Metadata | None = Field(default=None, max_length=16)


# ---- where a run's rows come from


class EvalRow(Wire):
    """One line of a file with purpose `evals`, too: unlike a row of a fine-tuning file it is wrapped."""

    item: dict[str, Any]
    sample: dict[str, Any] | None = None


class FileContent(Wire):
    type: Literal["file_content"]
    content: list[EvalRow] = Field(min_length=1)


class FileId(Wire):
    type: Literal["file_id"]
    id: str


class StoredCompletions(Wire):
    type: Literal["stored_completions"]
    metadata: Metadata | None = None
    model: str | None = None
    created_after: Moment | None = None
    created_before: Moment | None = None
    limit: Annotated[int, Field(ge=1)] | None = None


class StoredResponses(Wire):
    """`instructions_search` is looked for in the instructions, letter case aside; `tools` and `users` match any of theirs."""

    type: Literal["responses"]
    metadata: Metadata | None = None
    model: str | None = None
    instructions_search: str | None = None
    created_after: Moment | None = None
    created_before: Moment | None = None
    reasoning_effort: Effort | None = None
    temperature: float | None = None
    top_p: float | None = None
    users: list[str] | None = None
    tools: list[str] | None = None


class Template(Wire):
    type: Literal["template"]
    template: list[InputMessage] = Field(min_length=1)


class ItemReference(Wire):
    """Where in the item the messages stand, as `item.messages`."""

    type: Literal["item_reference"]
    item_reference: Annotated[str, Field(pattern=r"^item(\.|\[)")]


InputMessages = Annotated[
    Annotated[Template, Tag("tag-template")] | Annotated[ItemReference, Tag("tag-item_reference")],
    by_type("template", "item_reference"),
]


class CompletionsSampling(Wire):
    """Defaults are the hosted API's. `pinetune` (ours): several samples of each row, one of which is the answer."""

    reasoning_effort: Effort | None = None
    temperature: Temperature | None = 1.0
    max_completion_tokens: Tokens | None = None
    top_p: Share | None = 1.0
    seed: Seed | None = 42
    response_format: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = Field(default=None, max_length=128)
    pinetune: SeveralOptions | None = None


class ResponsesSampling(Wire):
    reasoning_effort: Effort | None = None
    temperature: Temperature | None = 1.0
    max_completion_tokens: Tokens | None = None
    top_p: Share | None = 1.0
    seed: Seed | None = 42
    text: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = Field(default=None, max_length=128)
    pinetune: SeveralOptions | None = None


class JsonlSource(Wire):
    """No model is asked: the rows are graded as they are."""

    type: Literal["jsonl"]
    source: Annotated[
        Annotated[FileContent, Tag("tag-file_content")] | Annotated[FileId, Tag("tag-file_id")], by_type("file_content", "file_id")
    ]


class CompletionsSource(Wire):
    type: Literal["completions"]
    source: Annotated[
        Annotated[FileContent, Tag("tag-file_content")]
        | Annotated[FileId, Tag("tag-file_id")]
        | Annotated[StoredCompletions, Tag("tag-stored_completions")],
        by_type("file_content", "file_id", "stored_completions"),
    ]
    model: str | None = None
    input_messages: InputMessages | None = None
    sampling_params: CompletionsSampling | None = None


class ResponsesSource(Wire):
    type: Literal["responses"]
    source: Annotated[
        Annotated[FileContent, Tag("tag-file_content")]
        | Annotated[FileId, Tag("tag-file_id")]
        | Annotated[StoredResponses, Tag("tag-responses")],
        by_type("file_content", "file_id", "responses"),
    ]
    model: str | None = None
    input_messages: InputMessages | None = None
    sampling_params: ResponsesSampling | None = None


Jsonl = Annotated[JsonlSource, Tag("tag-jsonl")]
Responses = Annotated[ResponsesSource, Tag("tag-responses")]
Completions = Annotated[CompletionsSource, Tag("tag-completions")]
DataSource = Annotated[Jsonl | Completions | Responses, by_type("jsonl", "completions", "responses")]
SampledSource = CompletionsSource | ResponsesSource


class CreateRun(Wire):
    name: str | None = None
    metadata: Metadata | None = Field(default=None, max_length=16)
    data_source: DataSource


class EvalDocument(Wire):
    """An eval as a file for `pinetune eval run`: the body of `POST /v1/evals`, and how a model is asked."""

    name: str | None = None
    metadata: Metadata | None = Field(default=None, max_length=16)
    data_source_config: SourceConfig | None = None
    testing_criteria: list[dict[str, Any]] = Field(min_length=1, max_length=100)
    input_messages: InputMessages | None = None
    sampling_params: CompletionsSampling | None = None
