"""The judge that graders ask: cache first, then the budget, then a free place, then the endpoint or the local model.

service = JudgeService(JudgeSettings.read())
build_grader(definition, services=service.services())
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pinetune.errors import GradingFailed, StoreError
from pinetune.graders.ask import AskReply, AskRequest
from pinetune.graders.judge_reply import objects_in
from pinetune.graders.options import Services
from pinetune.judges.account import Account, Spending
from pinetune.judges.cache import AnswerCache
from pinetune.judges.endpoint import Endpoint
from pinetune.judges.local import LocalModels, OpenEmbedder, OpenModel
from pinetune.judges.settings import JudgeSettings, no_endpoint, no_price


class JudgeService:
    """Used from many threads; cheap to make: nothing is opened before the first question."""

    def __init__(self, settings: JudgeSettings, open_model: OpenModel | None = None, open_embedder: OpenEmbedder | None = None) -> None:
        self.settings = settings
        self._endpoint = Endpoint(settings)
        self._local = LocalModels(open_model, open_embedder)
        self._places = threading.BoundedSemaphore(settings.concurrency)
        self._lock = threading.Lock()
        self._cache: AnswerCache | None = None
        self._account: Account | None = None
        self._account_file: Path | None = None
        self._asking = _Turns()
        self._from_cache = 0

    def services(self) -> Services:
        """What `build_grader` takes. Without an endpoint or a local stand-in there are no embeddings to ask for."""
        can_embed = self.settings.base_url or any(map(self.settings.is_local, self.settings.aliases.values()))
        return Services(ask=self.ask, embed=self.embed if can_embed else None)

    def check(self, models: Iterable[str]) -> None:
        """Raise UserError when one of these judges could not be asked at all, or its answers not be kept."""
        asked = list(models)
        self.settings.check(asked)
        if asked:
            self._answers()

    def keep_account(self, path: Path) -> None:
        """Count into this file, and go on from what it holds: the budget is a job's, over all its sessions."""
        with self._lock:
            if self._account is not None:
                self._account.close()
                self._account = None
            self._account_file = path

    def ask(self, request: AskRequest) -> AskReply:
        """See graders.ask.Ask. The same question asked by two threads at once is asked once."""
        resolved = replace(request, model=self._resolve(request.model))
        key = _key(self._identity(resolved, request.model), "chat", asdict(resolved))
        with self._asking.turn(key):
            known = self._answers().get(key)
            if known is not None:
                with self._lock:
                    self._from_cache += 1
                return AskReply(**known, from_cache=True)
            reply = self._complete(resolved, request.model)
            if request.schema is None or objects_in(reply.text):  # what is no JSON may be better the next time
                self._answers().put(key, {"text": reply.text, "model": reply.model, "usage": dict(reply.usage), "cut": reply.cut})
            return reply

    def embed(self, texts: Sequence[str], model: str) -> Sequence[Sequence[float]]:
        """One vector a text, each asked for once ever. Raises as `ask` does."""
        resolved = self._resolve(model)
        if self.settings.is_local(resolved):
            return self._local.embed(texts, resolved)
        if not self.settings.base_url:
            raise GradingFailed("model_grader_server_error", no_endpoint(model))
        keys = {text: _key(self._endpoint.identity, "embedding", {"model": resolved, "text": text}) for text in texts}
        vectors = {text: self._answers().get(key) for text, key in keys.items()}
        missing = [text for text, vector in vectors.items() if vector is None]
        if missing:
            with self._place():
                found = self._endpoint.embed(missing, resolved, self._payer(resolved, model))
            for text, vector in zip(missing, found, strict=True):
                vectors[text] = vector
                self._answers().put(keys[text], vector)
        return [vectors[text] for text in texts]

    def spending(self) -> Spending:
        """What was paid for so far."""
        return self._open_account().spending()

    @property
    def from_cache(self) -> int:
        """Questions of this session that needed nobody."""
        return self._from_cache

    @property
    def was_asked(self) -> bool:
        """Whether anything was asked in this session."""
        return self._account is not None or self._from_cache > 0

    def close(self) -> None:
        """Idempotent."""
        self._endpoint.close()
        with self._lock:
            for thing in (self._cache, self._account):
                if thing is not None:
                    thing.close()
            self._cache = self._account = None

    def _resolve(self, model: str) -> str:
        try:
            return self.settings.resolve(model)
        except StoreError as error:
            raise GradingFailed("model_grader_server_error", f"judge {model}: the server's aliases cannot be read: {error}") from error

    def _identity(self, request: AskRequest, asked: str) -> str:
        if not self.settings.is_local(request.model):
            if not self.settings.base_url:
                raise GradingFailed("model_grader_server_error", no_endpoint(asked))
            return self._endpoint.identity
        return self._local.identity(request.model)

    def _complete(self, request: AskRequest, asked: str) -> AskReply:
        pay = self._payer(request.model, asked)
        with self._place():
            if self.settings.is_local(request.model):
                pay({})
                return self._local.complete(request)
            return self._endpoint.complete(request, pay)

    @contextmanager
    def _place(self) -> Iterator[None]:
        """A place among those who ask at once, if there is budget left."""
        with self._places:
            self._open_account().check()
            yield

    def _payer(self, model: str, asked: str) -> Callable[[Mapping[str, int]], None]:
        price = self.settings.price(asked)
        if price is None and self.settings.budget_usd is not None:
            raise GradingFailed("model_grader_server_error", no_price(model))
        return lambda usage: self._open_account().add(model, usage, price.of(usage) if price else 0.0)

    def _answers(self) -> AnswerCache:
        with self._lock:
            if self._cache is None:
                self._cache = AnswerCache(self.settings.cache)
            return self._cache

    def _open_account(self) -> Account:
        with self._lock:
            if self._account is None:
                self._account = Account(self.settings, self._account_file)
            return self._account


class _Turns:
    """One at a time for each key: who comes second finds the first one's answer in the cache."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[str, tuple[threading.Lock, int]] = {}

    @contextmanager
    def turn(self, key: str) -> Iterator[None]:
        with self._lock:
            lock, waiting = self._locks.get(key, (threading.Lock(), 0))
            self._locks[key] = (lock, waiting + 1)
        try:
            with lock:
                yield
        finally:
            with self._lock:
                lock, waiting = self._locks.pop(key)
                if waiting > 1:
                    self._locks[key] = (lock, waiting - 1)


def _key(identity: str, kind: str, content: Any) -> str:
    text = json.dumps([1, identity, kind, content])  # not sorted: in a schema the order of fields is the order of writing
    return hashlib.sha256(text.encode()).hexdigest()
