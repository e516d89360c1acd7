"""The body of `POST /v1/responses`. What answers it is built item by item in `serving.responses`, in the hosted API's shapes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from pinetune.wire.base import Wire, absent
from pinetune.wire.chat import AllowedTools, Effort, Lenient, NamedFunction, ToolCall
from pinetune.wire.fine_tuning import Metadata
from pinetune.wire.several import SeveralOptions


class ItemPart(Lenient):
    """A part of a message's content, of a tool's output or of reasoning."""

    type: str
    text: str | None = None
    refusal: str | None = None


class InputItem(Lenient):
    """One item of `input`: a message where `type` is left out. A chat message (rows of a dataset) is taken too."""

    type: str = "message"
    id: str | None = None
    role: Literal["user", "assistant", "system", "developer", "tool"] | None = None
    content: str | list[ItemPart] | None = None
    name: str | None = None
    call_id: str | None = None
    arguments: str | None = None
    output: str | list[ItemPart] | None = None
    summary: list[ItemPart] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None


class FunctionTool(Lenient):
    type: Literal["function"]
    name: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[a-zA-Z0-9_.-]+$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolChoiceFunction(NamedFunction):
    type: Literal["function"]


class ToolChoiceAllowed(AllowedTools):
    type: Literal["allowed_tools"]


class PlainText(Lenient):
    type: Literal["text"]


class JsonObjectText(Lenient):
    type: Literal["json_object"]


class JsonSchemaText(Lenient):
    type: Literal["json_schema"]
    name: str
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None
    description: str | None = None


class TextConfig(Lenient):
    format: PlainText | JsonObjectText | JsonSchemaText | None = Field(default=None, discriminator="type")
    verbosity: Literal["low", "medium", "high"] | None = None


class Reasoning(Lenient):
    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None  # the older name


class ResponseStreamOptions(Lenient):
    include_obfuscation: bool | None = None


class ResponseRequest(Wire):
    model: str
    input: str | list[InputItem] | None = None
    background: bool | None = None
    include: list[str] | None = None
    instructions: str | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    max_tool_calls: Annotated[int, Field(ge=1)] | None = None
    metadata: Metadata | None = Field(default=None, max_length=16)
    parallel_tool_calls: bool | None = None
    previous_response_id: str | None = None
    reasoning: Reasoning | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None  # not OpenAI's: the same answer again
    store: bool | None = None
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    text: TextConfig | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoiceFunction | ToolChoiceAllowed | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=128)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    pinetune: SeveralOptions | None = None  # not OpenAI's: several samples, one answer
    context_management: Annotated[Any, absent("leave older items out of input yourself")] = None
    conversation: Annotated[Any, absent("use previous_response_id")] = None
    prompt: Annotated[Any, absent("write the prompt into instructions and input")] = None
    # Taken and without effect here.
    moderation: Any = None
    prompt_cache_key: str | None = None
    prompt_cache_options: Any = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    truncation: Literal["auto", "disabled"] | None = None
    user: str | None = None


class InputTokensRequest(Wire):
    """The body of `POST /v1/responses/input_tokens`."""

    model: str
    conversation: Annotated[Any, absent("use previous_response_id")] = None
    input: str | list[InputItem] | None = None
    instructions: str | None = None
    parallel_tool_calls: bool | None = None
    previous_response_id: str | None = None
    reasoning: Reasoning | None = None
    text: TextConfig | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoiceFunction | ToolChoiceAllowed | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=128)] | None = None
    truncation: Literal["auto", "disabled"] | None = None
