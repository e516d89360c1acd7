"""Where judges are and what they may cost: read once (given values over environment over defaults), then passed down.

    PINETUNE_JUDGE_BASE_URL, _API_KEY   the endpoint; else OPENAI_BASE_URL and OPENAI_API_KEY
    PINETUNE_MODEL_ALIASES              JSON object: the name a grader says -> the model that answers ("local:FOLDER" for one here)
    PINETUNE_HOME, _DATABASE_URL        the server whose own aliases (`pinetune models alias`) hold for judges, too
    PINETUNE_JUDGE_CACHE                file of the answers already paid for; default judges.sqlite in PINETUNE_HOME; "off" for none

Keys come from the environment only, never from a file that is kept, and are never printed. A key is sent to the endpoint the
environment names (or OpenAI's own) and nowhere else: a job that names another endpoint must not carry the operator's key there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pinetune.errors import UserError
from pinetune.judges.registered import Registered
from pinetune.settings import Settings

OPENAI_URL = "https://api.openai.com/v1"
LOCAL = "local:"  # before the folder of a model that judges in this process
MINIATURE = "pinetune-mini"
KEY_LIKE = re.compile(r"\b(sk|key)-[A-Za-z0-9_*.-]{6,}")


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars a million tokens."""

    input: float
    output: float
    cached_input: float | None = None  # None = as other input

    def of(self, usage: Mapping[str, int]) -> float:
        """What `usage` costs, in dollars.

        >>> Price(2.0, 8.0, 0.5).of({"prompt_tokens": 1_000_000, "cached_tokens": 400_000, "completion_tokens": 500_000})
        5.4
        """
        cached = usage.get("cached_tokens", 0)
        rate = self.input if self.cached_input is None else self.cached_input
        fresh = usage.get("prompt_tokens", 0) - cached
        return (fresh * self.input + cached * rate + usage.get("completion_tokens", 0) * self.output) / 1e6


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """`base_url` "" = no endpoint is configured: only local judges answer."""

    base_url: str = ""
    api_key: str = field(default="", repr=False)
    aliases: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 60.0  # seconds for a whole answer, a try
    retries: int = 3  # after the first try, of what may pass: no connection, no answer in time, 408, 409, 429, 5xx
    concurrency: int = 16
    cache: Path | None = None  # None = answers are remembered by this process only
    budget_tokens: int | None = None
    budget_usd: float | None = None
    prices: Mapping[str, Price] = field(default_factory=dict)
    registered: Registered | None = None  # the operator's aliases; `aliases` win over them

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None, **given: Any) -> JudgeSettings:
        """Settings from `environ` (default os.environ); each of `given` that is not None wins, aliases add up.

        >>> JudgeSettings.read({"OPENAI_API_KEY": "k", "PINETUNE_JUDGE_CACHE": "off"}).base_url
        'https://api.openai.com/v1'
        """
        env = os.environ if environ is None else environ
        given = {name: value for name, value in given.items() if value is not None}
        key = env.get("PINETUNE_JUDGE_API_KEY") or env.get("OPENAI_API_KEY") or ""
        named = env.get("PINETUNE_JUDGE_BASE_URL") or env.get("OPENAI_BASE_URL") or (OPENAI_URL if key else "")
        known = _checked(named) if named else ""
        url = _checked(given["base_url"], secrets=False) if given.get("base_url") else known
        surroundings = Settings.read(env)
        found: dict[str, Any] = {
            "api_key": key if url == known else "",
            "cache": _cache(env.get("PINETUNE_JUDGE_CACHE"), surroundings.home),
            "registered": Registered.of(surroundings),
            **given,
            "base_url": url,
            "aliases": {**surroundings.model_aliases, **given.get("aliases", {})},
        }
        return cls(**found)

    def resolve(self, model: str) -> str:
        """The model that answers for `model`. Raises StoreError where the operator's aliases cannot be read."""
        known = self.aliases.get(model)
        if known is None and self.registered is not None and not self.is_local(model):
            target = self.registered.target(model)
            known = None if target is None else f"{LOCAL}{target}"
        return known or model

    def place_of(self, local: str) -> str:
        """The folder or hub id of a local judge: what is registered under its name, or the name itself. Raises StoreError."""
        name = local.removeprefix(LOCAL)
        return (self.registered.place(name) if self.registered is not None else None) or name

    def is_local(self, model: str) -> bool:
        """Whether a resolved name is a model in this process."""
        return model.startswith(LOCAL) or model == MINIATURE

    def price(self, model: str) -> Price | None:
        """By the name the grader says or by that of the model which answers; what runs here costs nothing."""
        resolved = self.resolve(model)
        return Price(0, 0) if self.is_local(resolved) else self.prices.get(resolved) or self.prices.get(model)

    def check(self, models: Iterable[str]) -> None:
        """Raise UserError when one of the judges `models` could not be asked at all under these settings."""
        for model in models:
            resolved = self.resolve(model)
            if not self.base_url and not self.is_local(resolved):
                raise UserError(no_endpoint(model))
            if self.budget_usd is not None and self.price(model) is None:
                raise UserError(no_price(resolved))

    def scrub(self, text: str) -> str:
        """`text` without what nobody must read: the key, a password in the URL, anything that looks like a key."""
        secrets = [self.api_key, urlsplit(self.base_url).password or "", *_keys(text)]
        for secret in secrets:
            text = text.replace(secret, "[hidden]") if len(secret) > 3 else text
        return text

    @property
    def place(self) -> str:
        """The endpoint as it may be shown."""
        url = urlsplit(self.base_url)
        return f"{url.scheme}://{url.hostname}{f':{url.port}' if url.port else ''}{url.path}"


def no_endpoint(model: str) -> str:
    return (
        f"judge {model}: no endpoint is configured; set PINETUNE_JUDGE_BASE_URL (OpenAI-compatible, as http://localhost:8000/v1) "
        f'and PINETUNE_JUDGE_API_KEY, or let a local model answer: judge_aliases {{"{model}": "local:FOLDER"}}, '
        f"on a server `pinetune models alias {model} MODEL`"
    )


def no_price(model: str) -> str:
    return (
        f"judge_prices: no price for {model}, so judge_budget_usd cannot be kept; "
        f'add {{"{model}": {{"input": 2.0, "output": 8.0}}}} (US dollars a million tokens)'
    )


def _keys(text: str) -> list[str]:
    return [match.group() for match in KEY_LIKE.finditer(text)]


def _cache(named: str | None, home: Path) -> Path | None:
    if named == "off":
        return None
    return Path(named).expanduser().absolute() if named else home / "judges.sqlite"


def _checked(url: str, *, secrets: bool = True) -> str:
    """`secrets` False: the address will be written into files, so it must not hold a password."""
    parts = urlsplit(url)
    if not secrets and (parts.password or parts.username or parts.query):
        raise UserError("judge_base_url: holds a user, password or query; secrets belong into the environment (PINETUNE_JUDGE_API_KEY)")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError("judge_base_url: not a web address; give one such as http://localhost:8000/v1 (keys do not belong in it)")
    return url.rstrip("/")
