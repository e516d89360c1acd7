"""An OpenAI-compatible endpoint as a judge. The only file that knows the `openai` client, which does the retries:
exponential backoff with jitter, `Retry-After` honoured.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from pinetune.errors import GradingFailed
from pinetune.graders.ask import AskReply, AskRequest
from pinetune.graders.judge_reply import objects_in
from pinetune.judges.dialect import Dialect
from pinetune.judges.settings import JudgeSettings

if TYPE_CHECKING:
    from openai import OpenAI

logger = logging.getLogger("pinetune.judges")

Usage = Mapping[str, int]

NO_KEY = "none"  # the client wants one; servers of one's own mostly do not
CHARACTERS_PER_TOKEN = 4  # where a server does not say what an answer used
REFUSALS = ("content_filter", "content_policy_violation", "moderation_blocked")


class Endpoint:
    """Called from many threads. Errors name the place, the status and the server's words, never a key."""

    def __init__(self, settings: JudgeSettings) -> None:
        self._settings = settings
        self.identity = settings.base_url
        self._lock = threading.Lock()
        self._made: OpenAI | None = None
        self._dialects: dict[str, Dialect] = {}

    def complete(self, request: AskRequest, pay: Callable[[Usage], None]) -> AskReply:
        """See graders.ask.Ask. `pay` hears what each answer of the server used, also of one that turns out to be of no use."""
        dialect = self._known(request.model)
        while True:
            try:
                completion = self._create(dialect.body(request, request.model))
            except _Refused as refused:
                other = dialect.after_refusal(str(refused), request)
                if other is None:
                    raise GradingFailed("model_grader_server_error", f"the judge at {self._settings.place} answered {refused}") from None
                dialect = other
                continue
            reply = self._reply(completion, request, pay)
            if request.schema is None or objects_in(reply.text):
                self._remember(request.model, replace(dialect, proven=request.schema is not None))
                return reply
            # Prose from a model that spoke JSON when asked like this is its own fault, not that of the way of asking.
            plainer = None if reply.cut or self._known(request.model).proven else dialect.plainer(request)
            if plainer is None:
                return reply
            dialect = plainer

    def embed(self, texts: Sequence[str], model: str, pay: Callable[[Usage], None]) -> list[list[float]]:
        """One vector a text."""
        try:
            answer = self._call(lambda: self._client().embeddings.create(model=model, input=list(texts), encoding_format="float"))
            pay(_usage(answer, sum(map(len, texts)), 0))
            vectors = [list(map(float, entry.embedding)) for entry in sorted(answer.data, key=lambda entry: entry.index)]
        except _Refused as refused:
            raise GradingFailed("model_grader_server_error", f"the embeddings at {self._settings.place} answered {refused}") from None
        except (AttributeError, TypeError, ValueError):
            vectors = []
        if len(vectors) != len(texts):
            raise GradingFailed("model_grader_server_error", f"{self._settings.place} did not answer with one embedding a text")
        return vectors

    def close(self) -> None:
        with self._lock:
            if self._made is not None:
                self._made.close()
                self._made = None

    def _client(self) -> OpenAI:
        with self._lock:
            if self._made is None:
                from openai import OpenAI

                from pinetune.judges.deadline import DeadlineClient

                s, http = self._settings, DeadlineClient(self._settings.timeout)
                self._made = OpenAI(
                    base_url=s.base_url, api_key=s.api_key or NO_KEY, timeout=s.timeout, max_retries=s.retries, http_client=http
                )
            return self._made

    def _create(self, body: dict[str, Any]) -> Any:
        return self._call(lambda: self._client().chat.completions.create(**body))

    def _call(self, send: Any) -> Any:
        """`send()`, with every failure as GradingFailed, but _Refused where asking in another way may help."""
        import openai

        try:
            return send()
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            if error.code in REFUSALS:
                raise self._failed("model_grader_refusal_error", "refused", error) from None
            raise _Refused(self._settings.scrub(f"{error.status_code}: {_words(error)}")) from None
        except openai.APIStatusError as error:
            raise self._failed("model_grader_server_error", f"answered {error.status_code}", error) from None
        except openai.APITimeoutError:
            tries = f" in {self._settings.retries + 1} tries" if self._settings.retries else ""
            text = f"the judge at {self._settings.place} gave no answer within {self._settings.timeout:g} s{tries}"
            raise GradingFailed("model_grader_server_error", text) from None
        except openai.APIConnectionError as error:
            raise self._failed("model_grader_server_error", "cannot be reached", error.__cause__ or error) from None
        except (openai.OpenAIError, ValueError) as error:  # ValueError: a body that claims to be JSON and is not
            raise self._failed("model_grader_server_error", "gave an unreadable answer", error) from None

    def _failed(self, kind: str, what: str, error: BaseException) -> GradingFailed:
        return GradingFailed(kind, self._settings.scrub(f"the judge at {self._settings.place} {what}: {_words(error)}"))

    def _reply(self, completion: Any, request: AskRequest, pay: Callable[[Usage], None]) -> AskReply:
        try:
            choice = completion.choices[0]
            refusal, text = getattr(choice.message, "refusal", None), choice.message.content or ""
            if not isinstance(text, str):
                raise TypeError
        except (AttributeError, TypeError, IndexError):
            _unreadable(self._settings.place)
        usage = _usage(completion, sum(len(str(message["content"])) for message in request.messages), len(text))
        pay(usage)
        if refusal or choice.finish_reason == "content_filter":
            raise GradingFailed("model_grader_refusal_error", f"{request.model} refused to judge: {str(refusal or 'content filter')[:300]}")
        return AskReply(without_thinking(text), request.model, usage, cut=choice.finish_reason == "length")

    def _known(self, model: str) -> Dialect:
        with self._lock:
            return self._dialects.get(model, Dialect())

    def _remember(self, model: str, dialect: Dialect) -> None:
        with self._lock:
            before = self._dialects.get(model, Dialect())
            self._dialects[model] = after = before.joined(dialect)
        if (before.form, before.dropped) != (after.form, after.dropped):
            without = f" and without {', '.join(sorted(after.dropped))}" if after.dropped else ""
            logger.warning("judge %s is asked for JSON by %s%s: its server knows no other way", model, after.form, without)


class _Refused(Exception):
    """A bad request, in the server's words."""


def without_thinking(text: str) -> str:
    """The answer after a leading `<think>...</think>` block; one whose opening stood in the prompt ends before any JSON.

    >>> without_thinking('<think>{"result": 0}?</think> {"result": 1}')
    ' {"result": 1}'
    """
    end = text.find("</think>")
    opened = text.lstrip().startswith("<think>")
    if end >= 0 and (opened or "{" not in text[:end]):
        return text[end + len("</think>") :]
    return text


def _usage(answer: Any, characters_in: int, characters_out: int) -> dict[str, int]:
    """Tokens as the server counts them, or a guess from the length: a budget must hold on servers that do not count."""
    usage = getattr(answer, "usage", None)
    prompt = _count(usage, "prompt_tokens")
    completion = _count(usage, "completion_tokens")
    if not prompt and not completion:
        prompt, completion = -(-characters_in // CHARACTERS_PER_TOKEN), -(-characters_out // CHARACTERS_PER_TOKEN)
    cached = _count(getattr(usage, "prompt_tokens_details", None), "cached_tokens")
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "cached_tokens": min(cached, prompt),
    }


def _count(of: Any, name: str) -> int:
    value = getattr(of, name, 0)
    return value if isinstance(value, int) and value > 0 else 0


def _words(error: BaseException) -> str:
    """The server's own words, in one line."""
    body = getattr(error, "body", None)
    said = body.get("message") if isinstance(body, Mapping) else None
    return " ".join(str(said or error).split())[:300]


def _unreadable(place: str) -> NoReturn:
    raise GradingFailed("model_grader_server_error", f"the judge at {place} gave an answer that is no chat completion")
