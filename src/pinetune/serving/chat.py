"""Chat completions: a request becomes a turn, its events become a completion or the chunks of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pinetune.serving.directory import Kept, ServedModel
from pinetune.serving.ids import fingerprint, new_id, now
from pinetune.serving.sample import Delta, FinishReason, Sample, spelled
from pinetune.serving.turn import Message, Shown, Turn, choose, unique_tools
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
    Usage,
)
from pinetune.wire.errors import ApiProblem
from pinetune.wire.several import Chosen

if TYPE_CHECKING:
    from pinetune.serving.engine import Event
    from pinetune.serving.several import Picked
    from pinetune.serving.text import TokenInfo


def to_turn(request: ChatRequest) -> Turn:
    """Raises ApiProblem for what is well-formed but cannot be done."""
    if request.top_logprobs is not None and not request.logprobs:
        raise ApiProblem(400, "top_logprobs needs logprobs to be true", code="invalid_value", param="top_logprobs")
    most, most_name = request.max_completion_tokens, "max_completion_tokens"
    if most is None and request.max_tokens is not None:
        most, most_name = request.max_tokens, "max_tokens"
    turn = Turn(
        messages=tuple(_message(message, i) for i, message in enumerate(request.messages)),
        tools=unique_tools([tool.function.model_dump(exclude_none=True, exclude={"strict"}) for tool in request.tools or []]),
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
    choice = request.tool_choice
    if isinstance(choice, NamedTool):
        return choose(turn, "required", [choice.function.name])
    if isinstance(choice, AllowedToolsChoice):
        names = [str(tool.get("name") or tool.get("function", {}).get("name")) for tool in choice.allowed_tools.tools]
        return choose(turn, choice.allowed_tools.mode, names)
    return choose(turn, choice or "auto")


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


class Reply:
    """Collects a turn's events; gives the whole completion, or chunk after chunk."""

    def __init__(self, request: ChatRequest, turn: Turn, served: ServedModel, shown: Shown) -> None:
        self.request, self.turn, self.shown = request, turn, shown
        self.id, self.created = new_id("chatcmpl-"), now()
        self.fingerprint = fingerprint(served)
        self.samples = [Sample(turn, shown) for _ in range(turn.n)]
        self.prompt_tokens = self.completion_tokens = self.reasoning_tokens = 0
        self._about: Chosen | None = None

    @classmethod
    def of_picked(cls, request: ChatRequest, turn: Turn, served: ServedModel, picked: Picked) -> Reply:
        """The reply of an answer that was chosen from several; all of them are paid for."""
        reply = cls(request, turn, served, picked.shown)
        for event in picked.events:
            reply.take(event)
        reply.completion_tokens, reply.reasoning_tokens, reply._about = picked.output_tokens, picked.reasoning_tokens, picked.about
        return reply

    def take(self, event: Event) -> list[dict[str, Any]]:
        """The chunks that the event is worth: the role, text as it comes, and why it ended."""
        from pinetune.serving.engine import Done, News, Started

        if isinstance(event, Started):
            self.prompt_tokens = event.prompt_tokens
            return [self._chunk(index, {"role": "assistant", "content": "", "refusal": None}) for index in range(self.turn.n)]
        if isinstance(event, News):
            return self._text_chunks(event.sample, self.samples[event.sample].grow(event.piece))
        assert isinstance(event, Done)
        self.completion_tokens += len(event.completion.token_ids)
        self.reasoning_tokens += event.completion.reasoning_tokens
        sample = self.samples[event.sample]
        chunks = self._text_chunks(event.sample, sample.end(event.completion))
        for place, call in enumerate(sample.calls):
            head = {"index": place, "id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": ""}}
            chunks.append(self._chunk(event.sample, {"tool_calls": [head]}))
            chunks.append(self._chunk(event.sample, {"tool_calls": [{"index": place, "function": {"arguments": call.function.arguments}}]}))
        return [*chunks, self._chunk(event.sample, {}, finish=sample.finish)]

    def last_chunks(self) -> list[dict[str, Any]]:
        return [self._frame([], self.usage().model_dump())] if self._wants_usage else []

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
            **({} if self._about is None else {"pinetune": self._about}),
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
        if self.turn.top_logprobs is None:
            return None
        content = [TokenLogprob.model_validate(one) for one in spelled(tokens, self.shown)]
        return ChoiceLogprobs(content=content, refusal=None)

    def _text_chunks(self, index: int, delta: Delta) -> list[dict[str, Any]]:
        new: dict[str, Any] = {}
        if delta.reasoning:
            new["reasoning_content"] = delta.reasoning
        if delta.content or delta.tokens:
            new["content"] = delta.content
        return [self._chunk(index, new, tokens=delta.tokens)] if new else []

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

    def kept(self) -> Kept:
        request = self.request.model_dump(mode="json", exclude_unset=True, exclude={"messages", "metadata", "stream", "stream_options"})
        body = self.completion().model_dump(exclude_unset=True)
        messages = [message.model_dump(exclude_unset=True) for message in self.request.messages]
        return Kept(self.id, "chat.completion", self.created, self.request.model, body, messages, request, self.request.metadata)
