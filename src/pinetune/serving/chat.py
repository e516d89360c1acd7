"""Chat completions: a request becomes a turn, its events become a completion or the chunks of one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pinetune.serving.directory import ServedModel
from pinetune.serving.service import fingerprint, new_id, now
from pinetune.serving.turn import Message, Shown, Turn, only_tool
from pinetune.wire.chat import (
    AllowedToolsChoice,
    ChatCompletion,
    ChatMessage,
    ChatRequest,
    Choice,
    ChoiceLogprobs,
    CompletionTokensDetails,
    ContentPart,
    JsonObjectFormat,
    JsonSchemaFormat,
    NamedTool,
    PromptTokensDetails,
    ReplyMessage,
    TokenLogprob,
    ToolCall,
    TopLogprob,
    Usage,
)
from pinetune.wire.errors import ApiProblem

if TYPE_CHECKING:
    from pinetune.serving.engine import Event
    from pinetune.serving.text import TokenInfo

FinishReason = Literal["stop", "length", "tool_calls"]


def to_turn(request: ChatRequest) -> Turn:
    """Raises ApiProblem for what is well-formed but cannot be done."""
    if request.top_logprobs is not None and not request.logprobs:
        raise ApiProblem(400, "top_logprobs needs logprobs to be true", code="invalid_value", param="top_logprobs")
    named = {tool.function.name for tool in request.tools or []}
    if len(named) != len(request.tools or []):
        raise ApiProblem(400, "two tools have the same name", code="invalid_value", param="tools")
    most, most_name = request.max_completion_tokens, "max_completion_tokens"
    if most is None and request.max_tokens is not None:
        most, most_name = request.max_tokens, "max_tokens"
    turn = Turn(
        messages=tuple(_message(message, i) for i, message in enumerate(request.messages)),
        tools=tuple(tool.function.model_dump(exclude_none=True, exclude={"strict"}) for tool in request.tools or []),
        parallel=request.parallel_tool_calls is not False,
        schema=_schema(request),
        max_tokens=most,
        max_tokens_name=most_name,
        effort=request.reasoning_effort,
        temperature=1.0 if request.temperature is None else request.temperature,
        top_p=1.0 if request.top_p is None else request.top_p,
        stops=_stops(request.stop),
        seed=request.seed,
        n=request.n or 1,
        top_logprobs=(request.top_logprobs or 0) if request.logprobs else None,
        logit_bias=_logit_bias(request),
        frequency_penalty=request.frequency_penalty or 0.0,
        presence_penalty=request.presence_penalty or 0.0,
    )
    return _choose(turn, request)


def _choose(turn: Turn, request: ChatRequest) -> Turn:
    from dataclasses import replace

    choice = request.tool_choice
    if choice is None or choice == "none" or choice == "auto":
        return replace(turn, tool_choice="auto" if choice is None else choice)
    if not turn.tools:
        raise ApiProblem(400, "tool_choice is only allowed when tools are given", code="invalid_value", param="tool_choice")
    if isinstance(choice, NamedTool):
        return only_tool(turn, choice.function.name)
    if isinstance(choice, AllowedToolsChoice):
        allowed = {str(tool.get("name") or tool.get("function", {}).get("name")) for tool in choice.allowed_tools.tools}
        tools = tuple(tool for tool in turn.tools if tool["name"] in allowed)
        if not tools:
            raise ApiProblem(400, "allowed_tools names none of the tools", code="invalid_value", param="tool_choice")
        return replace(turn, tools=tools, tool_choice=choice.allowed_tools.mode)
    return replace(turn, tool_choice="required")


def _message(message: ChatMessage, index: int) -> Message:
    if message.role == "tool" and message.tool_call_id is None:
        raise ApiProblem(
            400, "a tool message needs a tool_call_id", code="missing_required_parameter", param=f"messages.{index}.tool_call_id"
        )
    if message.content is None and message.role != "assistant":
        raise ApiProblem(400, "content is missing; add it", code="missing_required_parameter", param=f"messages.{index}.content")
    return Message(
        role=message.role,
        text=_text(message.content, index),
        name=message.name,
        calls=tuple(message.tool_calls or ()),
        call_id=message.tool_call_id,
        reasoning=message.reasoning_content,
    )


def _text(content: str | list[ContentPart] | None, index: int) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    for place, part in enumerate(content):
        if part.type not in ("text", "refusal"):
            where = f"messages.{index}.content.{place}"
            raise ApiProblem(400, f"content of type '{part.type}': this server reads text only", code="invalid_value", param=where)
    return "".join(part.text or part.refusal or "" for part in content)


def _schema(request: ChatRequest) -> Mapping[str, Any] | None:
    asked = request.response_format
    if isinstance(asked, JsonSchemaFormat):
        return asked.json_schema.schema_ or {"type": "object"}
    return {"type": "object"} if isinstance(asked, JsonObjectFormat) else None


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    return tuple(text for text in ([stop] if isinstance(stop, str) else stop or []) if text)


def _logit_bias(request: ChatRequest) -> dict[int, float]:
    try:
        return {int(token): value for token, value in (request.logit_bias or {}).items()}
    except ValueError as error:
        raise ApiProblem(400, f"keys must be token ids: {error}", code="invalid_value", param="logit_bias") from error


@dataclass(slots=True)
class Sample:
    """One choice while it grows."""

    reasoning: str = ""
    answer: str = ""
    tokens: list[TokenInfo] = field(default_factory=list)
    sent: int = 0  # characters of the answer that a stream has handed out
    finish: FinishReason | None = None
    calls: list[ToolCall] = field(default_factory=list)
    content: str | None = None


class Reply:
    """Collects a turn's events; gives the whole completion, or chunk after chunk."""

    def __init__(self, request: ChatRequest, turn: Turn, served: ServedModel, shown: Shown) -> None:
        self.request, self.turn, self.shown = request, turn, shown
        self.id, self.created = new_id("chatcmpl-"), now()
        self.fingerprint = fingerprint(served)
        self.samples = [Sample() for _ in range(turn.n)]
        self.prompt_tokens = self.completion_tokens = self.reasoning_tokens = 0

    def take(self, event: Event) -> None:
        from pinetune.serving.engine import Done, News, Started

        if isinstance(event, Started):
            self.prompt_tokens = event.prompt_tokens
        elif isinstance(event, News):
            sample = self.samples[event.sample]
            sample.reasoning += event.piece.reasoning
            sample.answer += event.piece.answer
            if self.turn.top_logprobs is not None:
                sample.tokens += event.piece.tokens
        elif isinstance(event, Done):
            self._finish(self.samples[event.sample], event.completion.finish)
            self.completion_tokens += len(event.completion.token_ids)
            self.reasoning_tokens += event.completion.reasoning_tokens

    def _finish(self, sample: Sample, reason: Literal["stop", "length"]) -> None:
        sample.content = sample.answer
        if self.shown.form is not None:
            text, sample.calls = self.shown.form.parse(sample.answer, self.turn.tool_names)
            if not self.turn.parallel:
                sample.calls = sample.calls[:1]
            sample.content = (text or None) if sample.calls else sample.answer
        sample.finish = "tool_calls" if sample.calls and reason == "stop" else reason

    # ---- whole

    def completion(self) -> ChatCompletion:
        return ChatCompletion(
            id=self.id,
            object="chat.completion",
            created=self.created,
            model=self.request.model,
            choices=[self._choice(i, sample) for i, sample in enumerate(self.samples)],
            usage=self.usage(),
            service_tier="default",
            system_fingerprint=self.fingerprint,
            **({"metadata": self.request.metadata or {}} if self.request.store else {}),
        )

    def usage(self) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            total_tokens=self.prompt_tokens + self.completion_tokens,
            prompt_tokens_details=PromptTokensDetails(cached_tokens=0, audio_tokens=0),
            completion_tokens_details=CompletionTokensDetails(
                reasoning_tokens=self.reasoning_tokens, audio_tokens=0, accepted_prediction_tokens=0, rejected_prediction_tokens=0
            ),
        )

    def _choice(self, index: int, sample: Sample) -> Choice:
        message = ReplyMessage(role="assistant", content=sample.content, refusal=None, annotations=[])
        if sample.reasoning:
            message.reasoning_content = sample.reasoning
        if sample.calls:
            message.tool_calls = sample.calls
        assert sample.finish is not None
        return Choice(index=index, message=message, logprobs=self._logprobs(sample.tokens), finish_reason=sample.finish)

    def _logprobs(self, tokens: list[TokenInfo]) -> ChoiceLogprobs | None:
        spell = self.shown.spell
        if self.turn.top_logprobs is None or spell is None:
            return None

        def one(token: int, logprob: float) -> dict[str, Any]:
            text, raw = spell(token)
            return {"token": text, "bytes": raw, "logprob": max(logprob, -9999.0)}

        content = [
            TokenLogprob(**one(info.token, info.logprob), top_logprobs=[TopLogprob(**one(token, value)) for token, value in info.top])
            for info in tokens
        ]
        return ChoiceLogprobs(content=content, refusal=None)

    # ---- in chunks

    async def chunks(self, events: AsyncIterator[Event]) -> AsyncIterator[dict[str, Any]]:
        """The chunks of a stream: the role, then text as it comes, then why it ended, then the usage where asked for."""
        from pinetune.serving.engine import Done, News, Started

        async for event in events:
            self.take(event)
            if isinstance(event, Started):
                for index in range(self.turn.n):
                    yield self._chunk(index, {"role": "assistant", "content": "", "refusal": None})
            elif isinstance(event, News):
                if chunk := self._text_chunk(event.sample, event.piece.reasoning):
                    yield chunk
            elif isinstance(event, Done):
                for chunk in self._last_chunks(event.sample):
                    yield chunk
        if self._wants_usage:
            yield self._frame([], self.usage().model_dump())

    def _text_chunk(self, index: int, reasoning: str) -> dict[str, Any] | None:
        sample = self.samples[index]
        limit = len(sample.answer) if self.shown.form is None else self.shown.form.holds_back(sample.answer)
        delta: dict[str, Any] = {}
        if reasoning:
            delta["reasoning_content"] = reasoning
        if limit > sample.sent:
            delta["content"] = sample.answer[sample.sent : limit]
            sample.sent = limit
        if not delta:
            return None
        tokens, sample.tokens = (sample.tokens, []) if "content" in delta else ([], sample.tokens)
        return self._chunk(index, delta, tokens=tokens)

    def _last_chunks(self, index: int) -> list[dict[str, Any]]:
        sample = self.samples[index]
        chunks = []
        rest = (sample.content or "")[sample.sent :]
        if rest or sample.tokens:
            chunks.append(self._chunk(index, {"content": rest}, tokens=sample.tokens))
        for place, call in enumerate(sample.calls):
            head = {"index": place, "id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": ""}}
            chunks.append(self._chunk(index, {"tool_calls": [head]}))
            chunks.append(self._chunk(index, {"tool_calls": [{"index": place, "function": {"arguments": call.function.arguments}}]}))
        return [*chunks, self._chunk(index, {}, finish=sample.finish)]

    @property
    def _wants_usage(self) -> bool:
        return bool(self.request.stream_options and self.request.stream_options.include_usage)

    def _chunk(
        self, index: int, delta: dict[str, Any], *, tokens: list[TokenInfo] | None = None, finish: FinishReason | None = None
    ) -> dict[str, Any]:
        logprobs = self._logprobs(tokens) if tokens else None
        choice = {"index": index, "delta": delta, "logprobs": logprobs and logprobs.model_dump(), "finish_reason": finish}
        return self._frame([choice])

    def _frame(self, choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> dict[str, Any]:
        frame = {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.request.model,
            "service_tier": "default",
            "system_fingerprint": self.fingerprint,
            "choices": choices,
        }
        return {**frame, "usage": usage} if self._wants_usage else frame


def answer_messages(request: ChatRequest) -> list[dict[str, Any]]:
    """The request's messages as a stored completion shows them."""
    return [message.model_dump(exclude_unset=True) for message in request.messages]
