"""One turn of a conversation, as both APIs ask for it, and how it becomes an order for the engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from pinetune.errors import DataError, JobError
from pinetune.records import Prompt, Row, SamplingParams
from pinetune.rollout.run import derive_seed
from pinetune.serving.tools import Tool, ToolFormat, arguments_of, format_of
from pinetune.wire.chat import ToolCall
from pinetune.wire.errors import ApiProblem

if TYPE_CHECKING:
    from pinetune.serving.engine import Prepared
    from pinetune.serving.pool import Ready

# Share of max_tokens kept for thinking, as in jobs (loop.config), widened to the client's whole enum; None = no cap.
EFFORT_SHARE: Mapping[str | None, float | None] = {
    None: 0.75,
    "none": 0.0,
    "minimal": 0.1,
    "low": 0.25,
    "medium": 0.5,
    "high": 0.9,
    "xhigh": 0.95,
    "max": None,
}
DEFAULT_MAX_TOKENS = 4096  # where a request names none: memory for the whole answer is set aside beforehand
UNKNOWN_CONTEXT = 32_768


@dataclass(frozen=True, slots=True)
class Message:
    """One message: `text` is all its text parts."""

    role: str
    text: str
    name: str | None = None
    calls: tuple[ToolCall, ...] = ()
    call_id: str | None = None
    reasoning: str | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: Literal["none", "auto", "required"] = "auto"
    parallel: bool = True
    schema: Mapping[str, Any] | None = None
    max_tokens: int | None = None
    max_tokens_name: str = "max_completion_tokens"  # as the API calls it, for complaints
    effort: str | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    stops: tuple[str, ...] = ()
    seed: int | None = None
    n: int = 1
    top_logprobs: int | None = None  # None = no log-probs wanted
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0

    @property
    def may_call(self) -> bool:
        return bool(self.tools) and self.tool_choice != "none"

    @property
    def tool_names(self) -> tuple[str, ...]:
        return tuple(str(tool["name"]) for tool in self.tools)


@dataclass(slots=True)
class Shown:
    """What is known of a turn only once its model is there."""

    form: ToolFormat | None = None
    max_tokens: int = 0
    spell: Callable[[int], tuple[str, list[int]]] | None = None


def prepare(turn: Turn, seed: int, ready: Ready, shown: Shown) -> Prepared:
    """Render, check the length, compile the grammar. Raises ApiProblem. Runs on the engine's thread."""
    from pinetune.sampling.live import Order
    from pinetune.serving.engine import Prepared
    from pinetune.serving.spelling import spelling

    form = format_of(template_text(ready))
    shown.form = form if turn.may_call else None
    shown.spell = spelling(ready.loaded.tokenizer) if turn.top_logprobs is not None else None
    prompt = render(turn, ready, form)
    shown.max_tokens = _max_tokens(turn, len(prompt.token_ids), ready.loaded.context_length or UNKNOWN_CONTEXT)
    share = EFFORT_SHARE[turn.effort]
    params = SamplingParams(
        max_tokens=shown.max_tokens,
        temperature=turn.temperature,
        top_p=turn.top_p,
        stop=turn.stops,
        thinking_budget=None if share is None else int(share * shown.max_tokens),
    )
    _check_bias(turn, ready.batch.vocab_size)
    order = Order(
        prompt=prompt,
        params=params,
        seeds=tuple(seed if i == 0 else derive_seed(seed, "sample", i) for i in range(turn.n)),
        new_matcher=_matcher(turn, ready, form),
        top_logprobs=turn.top_logprobs or 0,
        logit_bias=turn.logit_bias,
        frequency_penalty=turn.frequency_penalty,
        presence_penalty=turn.presence_penalty,
    )
    return Prepared(order, turn.stops, _marks(ready, form) if turn.may_call else frozenset())


def count_tokens(turn: Turn, ready: Ready) -> int:
    """Tokens of the conversation as the model is shown it."""
    return len(render(turn, ready, format_of(template_text(ready))).token_ids)


def render(turn: Turn, ready: Ready, form: ToolFormat) -> Prompt:
    """The conversation in the model's chat template; a template that knows no tools is told of them in words."""
    chat, template = ready.loaded.chat, template_text(ready)
    knows_tools, knows_calls = "tools" in template, "tool_calls" in template
    messages = [_plain(message, form if not knows_calls else None) for message in turn.messages]
    tools = turn.tools if turn.may_call else ()
    if tools and not knows_tools:
        messages = _told(messages, form.instruction(tools))
    wrapped = tuple({"type": "function", "function": dict(tool)} for tool in tools) if knows_tools else ()
    try:
        return chat.render(Row(index=0, messages=tuple(messages), item={}, tools=wrapped))
    except DataError as error:
        said = str(error).removeprefix("row 0: ").replace(f" of {chat.source} ", " of this model ")  # no path of this machine is shown
        raise ApiProblem(400, said, code="invalid_value", param="messages") from error


def template_text(ready: Ready) -> str:
    """The chat template; all of them where the tokenizer has several with names."""
    template = ready.loaded.tokenizer.chat_template
    return template if isinstance(template, str) else " ".join(template.values())


def _plain(message: Message, write_calls: ToolFormat | None) -> dict[str, Any]:
    plain: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.name:
        plain["name"] = message.name
    if message.call_id:
        plain["tool_call_id"] = message.call_id
    if message.reasoning:
        plain["reasoning_content"] = message.reasoning
    if message.calls and write_calls is not None:
        plain["content"] = "\n".join([*([message.text] if message.text else []), *(write_calls.write(call) for call in message.calls)])
    elif message.calls:
        plain["tool_calls"] = [_templated(call) for call in message.calls]
    return plain


def _templated(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": arguments_of(call)}}


def _told(messages: Sequence[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    if messages and messages[0]["role"] in ("system", "developer"):
        first = {**messages[0], "content": f"{messages[0]['content']}\n\n{text}"}
        return [first, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


def _max_tokens(turn: Turn, prompt: int, context: int) -> int:
    room = context - prompt
    if room < 1 or (turn.max_tokens is not None and turn.max_tokens > room):
        wanted = "" if turn.max_tokens is None else f" ({prompt} in the messages, {turn.max_tokens} in {turn.max_tokens_name})"
        raise ApiProblem(
            400,
            f"This model's maximum context length is {context} tokens. However, your request needs "
            f"{prompt + (turn.max_tokens or 1)} tokens{wanted}. Shorten the messages or lower {turn.max_tokens_name}.",
            code="context_length_exceeded",
            param="messages" if room < 1 or turn.max_tokens is None else turn.max_tokens_name,
        )
    return min(room, DEFAULT_MAX_TOKENS) if turn.max_tokens is None else turn.max_tokens


def _check_bias(turn: Turn, vocab_size: int) -> None:
    for token in turn.logit_bias:
        if not 0 <= token < vocab_size:
            raise ApiProblem(400, f"{token} is no token of this model, which has {vocab_size}", code="invalid_value", param="logit_bias")


def _matcher(turn: Turn, ready: Ready, form: ToolFormat) -> Callable[[], Any] | None:
    """The grammar of the answer: calls where they are required, the schema where there is one, else free text."""
    from pinetune.sampling.grammar import WHITESPACE

    try:
        if turn.may_call and (turn.tool_choice == "required" or turn.schema is not None):
            answer = None if turn.tool_choice == "required" else turn.schema
            literal = _literal(ready)
            grammar = form.grammar(turn.tools, literal, parallel=turn.parallel, answer=answer, whitespace=WHITESPACE)
            return ready.grammars.compile_lark(grammar)
        return ready.grammars.compile(turn.schema) if turn.schema is not None else None
    except JobError as error:
        param = "tools" if turn.may_call else "response_format"
        raise ApiProblem(400, str(error).removeprefix("response_format: "), code="invalid_json_schema", param=param) from error


def _literal(ready: Ready) -> Callable[[str], str]:
    special = {str(token) for token in ready.loaded.tokenizer.added_tokens_decoder.values() if token.special}

    def write(mark: str) -> str:
        return f"<[{ready.loaded.tokenizer.get_vocab()[mark]}]>" if mark in special else json.dumps(mark)

    return write


def _marks(ready: Ready, form: ToolFormat) -> frozenset[int]:
    vocabulary = ready.loaded.tokenizer.get_vocab()
    return frozenset(vocabulary[mark] for mark in (form.begin, form.end) if mark in vocabulary)


def choose(turn: Turn, mode: Literal["none", "auto", "required"], only: Sequence[str] | None = None) -> Turn:
    """The turn under a tool_choice; `only` names the tools that may be called. Raises ApiProblem."""
    if only is None and mode != "required":
        return replace(turn, tool_choice=mode)
    if not turn.tools:
        raise ApiProblem(400, "tool_choice is only allowed when tools are given", code="invalid_value", param="tool_choice")
    tools = turn.tools if only is None else tuple(tool for tool in turn.tools if tool["name"] in only)
    if not tools:
        message = f"tool_choice names {', '.join(only or ())}, which is not among the tools ({', '.join(turn.tool_names)})"
        raise ApiProblem(400, message, code="invalid_value", param="tool_choice")
    return replace(turn, tools=tools, tool_choice=mode)


def unique_tools(tools: Sequence[Tool]) -> tuple[Tool, ...]:
    names = [tool["name"] for tool in tools]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ApiProblem(400, f"two tools have the name '{twice}'", code="invalid_value", param="tools")
    return tuple(tools)
