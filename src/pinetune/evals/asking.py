"""A model of an eval run is asked over HTTP, by chat completions or by responses; the answer comes back as one record.

The `openai` client does the retries: exponential backoff with jitter, `Retry-After` honoured.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pinetune.evals.places import Place
from pinetune.records import Completion, Message

if TYPE_CHECKING:
    from openai import OpenAI

SECONDS = 600.0  # for a whole answer: models that think take minutes
RETRIES = 5
NO_KEY = "none"  # the client wants one; servers of one's own mostly do not
Api = Literal["completions", "responses"]
USAGE = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one row: a completion as graders see it, and what it cost. Or `error`, (code, message)."""

    completion: Completion
    model: str = ""
    finish: str = "stop"
    usage: Mapping[str, int] = field(default_factory=dict)
    error: tuple[str, str] | None = None


class Asker:
    """One model at one place. Called from many threads; close it after the last answer, or to end those in flight."""

    def __init__(
        self, place: Place, api: Api, params: Mapping[str, Any], *, seconds: float = SECONDS, retries: int = RETRIES, own: bool = False
    ) -> None:
        """`params`: the data source's sampling_params. `own`: our server, which knows a seed in responses too."""
        self._place, self._api, self._own = place, api, own
        self._params = {name: value for name, value in params.items() if value is not None}
        self._seconds, self._retries = seconds, retries
        self._lock = threading.Lock()
        self._made: OpenAI | None = None

    def ask(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = (), *, seed: int | None = None) -> Answer:
        """`tools`: the row's own, used where the sampling parameters name none. `seed` takes the place of theirs (`eval_run.seed_of`).
        Never raises for a server that fails.
        """
        import openai

        try:
            return self._chat(messages, tools, seed) if self._api == "completions" else self._responses(messages, tools, seed)
        except openai.APIStatusError as error:
            return self._failed(error.code or f"http_{error.status_code}", f"answered {error.status_code}: {_words(error)}")
        except openai.APITimeoutError:
            return self._failed("timeout", f"gave no answer within {self._seconds:g} s")
        except openai.APIConnectionError as error:
            return self._failed("unreachable", f"cannot be reached: {_words(error.__cause__ or error)}")
        except (openai.OpenAIError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            return self._failed("unreadable_answer", f"gave an answer that cannot be read: {_words(error)}")

    def close(self) -> None:
        with self._lock:
            if self._made is not None:
                self._made.close()
                self._made = None

    def _client(self) -> OpenAI:
        with self._lock:
            if self._made is None:
                from openai import DefaultHttpxClient, OpenAI

                # Ours is on this machine: a proxy that the environment names must not come between.
                http = DefaultHttpxClient(timeout=self._seconds, trust_env=False) if self._own else None
                self._made = OpenAI(
                    base_url=self._place.base_url,
                    api_key=self._place.key or NO_KEY,
                    timeout=self._seconds,
                    max_retries=self._retries,
                    default_headers=dict(self._place.headers),
                    http_client=http,
                )
            return self._made

    def _chat(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], seed: int | None) -> Answer:
        params = self._for_row(tools, seed)
        several = params.pop("pinetune", None)
        if several is not None:
            params["extra_body"] = {"pinetune": several}
        create: Any = self._client().chat.completions.create
        body = create(model=self._place.model, messages=list(messages), **params).to_dict(mode="json")
        choices = body["choices"]
        message = choices[0]["message"]
        usage = body.get("usage") or {}
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
        counts = _counts(usage.get("prompt_tokens"), usage.get("completion_tokens"), cached)
        return self._answer(
            messages, message.get("content"), message.get("tool_calls") or [], choices, counts, str(body.get("model") or "")
        )

    def _responses(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], seed: int | None) -> Answer:
        params = self._for_row([_flat_tool(tool) for tool in tools], seed)
        sent, effort, several = params.pop("seed", None), params.pop("reasoning_effort", None), params.pop("pinetune", None)
        if "max_completion_tokens" in params:
            params["max_output_tokens"] = params.pop("max_completion_tokens")
        if effort is not None:
            params["reasoning"] = {"effort": effort}
        extra = {"seed": sent if self._own else None, "pinetune": several}
        params["extra_body"] = {name: value for name, value in extra.items() if value is not None}
        create: Any = self._client().responses.create
        body = create(model=self._place.model, input=[_item(message) for message in messages], store=False, **params).to_dict(mode="json")
        if body.get("error"):
            return self._failed(str(body["error"].get("code") or "failed"), f"failed: {body['error'].get('message')}")
        texts = [part.get("text", "") for item in body["output"] if item.get("type") == "message" for part in item.get("content", [])]
        calls = [_call(item) for item in body["output"] if item.get("type") == "function_call"]
        cut = body.get("status") == "incomplete"
        finish = "length" if cut else "tool_calls" if calls else "stop"
        text = "".join(text or "" for text in texts)
        choices = [{"index": 0, "message": {"role": "assistant", "content": text, "tool_calls": calls or None}, "finish_reason": finish}]
        usage = body.get("usage") or {}
        cached = (usage.get("input_tokens_details") or {}).get("cached_tokens")
        counts = _counts(usage.get("input_tokens"), usage.get("output_tokens"), cached)
        return self._answer(messages, text, calls, choices, counts, str(body.get("model") or ""), _summary(body["output"]))

    def _for_row(self, tools: Sequence[Mapping[str, Any]], seed: int | None) -> dict[str, Any]:
        return {**({"tools": list(tools)} if tools else {}), **self._params, **({} if seed is None else {"seed": seed})}

    def _answer(
        self,
        messages: Sequence[Message],
        text: str | None,
        calls: Sequence[Mapping[str, Any]],
        choices: Sequence[Mapping[str, Any]],
        usage: Mapping[str, int],
        model: str,
        summary: str | None = None,
    ) -> Answer:
        finish = str(choices[0].get("finish_reason") or "stop")
        given: dict[str, Any] = {"model": model or self._place.model, "input": list(messages), "choices": list(choices)}
        given |= {"input_tools": self._params.get("tools") or [], "output_reasoning_summary": summary}
        completion = Completion((), (), (), "length" if finish == "length" else "stop", text or "", tool_calls=tuple(calls), given=given)
        return Answer(completion, model or self._place.model, finish, usage)

    def _failed(self, code: str, said: str) -> Answer:
        message = f"{self._place.model} at {self._place.shown} {said}"
        if len(self._place.key) > 3:
            message = message.replace(self._place.key, "[hidden]")
        return Answer(Completion((), (), (), "stop", ""), self._place.model, error=(code, message))


def _counts(prompt: Any, completion: Any, cached: Any) -> dict[str, int]:
    """Tokens as the server counts them; 0 where it does not."""
    numbers = [value if isinstance(value, int) and value > 0 else 0 for value in (prompt, completion, cached)]
    return dict(zip(USAGE, (numbers[0], numbers[1], numbers[0] + numbers[1], numbers[2]), strict=True))


def _item(message: Message) -> dict[str, Any]:
    """A chat message as an input item of responses: content parts are called otherwise there."""
    content = message.get("content")
    if not isinstance(content, list):
        return dict(message)
    written = "output_text" if message.get("role") == "assistant" else "input_text"
    parts = []
    for part in content:
        if part.get("type") == "text":
            parts.append({"type": written, "text": part["text"]})
        elif part.get("type") == "image_url":
            image = part["image_url"]
            parts.append({"type": "input_image", "image_url": image["url"], "detail": image.get("detail") or "auto"})
        else:
            parts.append(dict(part))
    return {**message, "content": parts}


def _flat_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Chat completions nest a function's fields, responses do not."""
    inner = tool.get("function")
    return {"type": "function", **inner} if isinstance(inner, Mapping) else dict(tool)


def _call(item: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": item.get("name"), "arguments": item.get("arguments", "{}")}
    return {"id": item.get("call_id"), "type": "function", "function": function}


def _summary(output: Sequence[Mapping[str, Any]]) -> str | None:
    parts = [part.get("text", "") for item in output if item.get("type") == "reasoning" for part in item.get("summary") or []]
    return "\n".join(parts) or None


def _words(error: BaseException) -> str:
    """The server's own words, in one line."""
    body = getattr(error, "body", None)
    said = body.get("message") if isinstance(body, Mapping) else None
    return " ".join(str(said or error).split())[:500]
