"""The body of `POST /v1/chat/completions` and what answers it, whole and in chunks.

Parameters that only steer OpenAI's own service (tiers, caches, safety identifiers) are taken and change nothing.
Replies are built with the fields that the hosted API sends and dumped with `exclude_unset`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pinetune.wire.base import Wire, absent
from pinetune.wire.fine_tuning import Metadata
from pinetune.wire.several import Chosen, SeveralOptions

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class Lenient(BaseModel):
    """A part of a message: keys that the client's own dumps carry along are ignored."""

    model_config = ConfigDict(extra="ignore")


class FunctionCall(Lenient):
    name: str
    arguments: str = "{}"


class ToolCall(Lenient):
    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class ContentPart(Lenient):
    type: str
    text: str | None = None
    refusal: str | None = None


class ChatMessage(Lenient):
    role: Literal["developer", "system", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None


class FunctionSpec(Lenient):
    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_.-]+$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolSpec(Lenient):
    type: Literal["function"]
    function: FunctionSpec


class NamedFunction(Lenient):
    name: str


class NamedTool(Lenient):
    type: Literal["function"]
    function: NamedFunction


class AllowedTools(Lenient):
    mode: Literal["auto", "required"]
    tools: list[dict[str, Any]]


class AllowedToolsChoice(Lenient):
    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


class SchemaSpec(Lenient):
    name: str
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None
    description: str | None = None


class TextFormat(Lenient):
    type: Literal["text"]


class JsonObjectFormat(Lenient):
    type: Literal["json_object"]


class JsonSchemaFormat(Lenient):
    type: Literal["json_schema"]
    json_schema: SchemaSpec


class StreamOptions(Lenient):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatRequest(Wire):
    messages: list[ChatMessage] = Field(min_length=1)
    model: str
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    logprobs: bool | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    metadata: Metadata | None = Field(default=None, max_length=16)
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    parallel_tool_calls: bool | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    reasoning_effort: Effort | None = None
    response_format: TextFormat | JsonObjectFormat | JsonSchemaFormat | None = Field(default=None, discriminator="type")
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: str | Annotated[list[str], Field(max_length=16)] | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | AllowedToolsChoice | None = None
    tools: Annotated[list[ToolSpec], Field(max_length=128)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    pinetune: SeveralOptions | None = None  # not OpenAI's: several samples, one answer
    audio: Annotated[Any, absent("models here read and write text")] = None
    function_call: Annotated[Any, absent("use tool_choice")] = None
    functions: Annotated[Any, absent("use tools")] = None
    web_search_options: Annotated[Any, absent("models here reach no network; search in a tool of yours")] = None
    # Taken and without effect here.
    modalities: list[Literal["text"]] | None = None
    moderation: Any = None
    prediction: Any = None
    prompt_cache_key: str | None = None
    prompt_cache_options: Any = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    user: str | None = None
    verbosity: str | None = None


class StoredUpdate(Wire):
    """The body of `POST /v1/chat/completions/{id}`."""

    metadata: Metadata | None = Field(default=None, max_length=16)


# ---- replies


class TopLogprob(BaseModel):
    token: str
    bytes: list[int] | None
    logprob: float


class TokenLogprob(TopLogprob):
    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(BaseModel):
    content: list[TokenLogprob] | None
    refusal: list[TokenLogprob] | None = None


class ReplyMessage(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str | None = None
    refusal: str | None = None
    annotations: list[Any] = Field(default_factory=list)
    reasoning_content: str | None = None  # not OpenAI's: where open servers put the thinking
    tool_calls: list[ToolCall] | None = None


class Choice(BaseModel):
    index: int
    message: ReplyMessage
    logprobs: ChoiceLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"]


class CompletionTokensDetails(BaseModel):
    reasoning_tokens: int = 0
    audio_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class PromptTokensDetails(BaseModel):
    cached_tokens: int = 0
    audio_tokens: int = 0


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails = Field(default_factory=PromptTokensDetails)
    completion_tokens_details: CompletionTokensDetails = Field(default_factory=CompletionTokensDetails)


class ChatCompletion(BaseModel):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    service_tier: str = "default"
    system_fingerprint: str
    metadata: dict[str, str] | None = None
    pinetune: Chosen | None = None
