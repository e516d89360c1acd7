"""Where the models of an eval run answer: our own at the serving process, others at OpenAI-compatible endpoints.

    PINETUNE_SERVING_URL, _SERVING_SECRET   the serving process of this server; `pinetune serve` sets both
    PINETUNE_REMOTE_MODELS                  JSON object, name or pattern -> {"base_url", "key", "model"}:
        {"gpt-*": {"base_url": "https://api.openai.com/v1", "key": "OPENAI_API_KEY"},
         "big": {"base_url": "http://gpu-box:8000/v1", "model": "Qwen/Qwen3-32B"}}

`key` names the environment variable that holds the key, so that no key stands in a file or a reply. Only names that are
listed here leave this machine: a misspelt model is an error, never a row sent to somebody else's server.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

from pinetune.errors import UserError

VARIABLE = "PINETUNE_REMOTE_MODELS"
EXAMPLE = '{"gpt-*": {"base_url": "https://api.openai.com/v1", "key": "OPENAI_API_KEY"}}'


@dataclass(frozen=True, slots=True)
class Place:
    """An endpoint for one model. `model` is what it is called there."""

    base_url: str
    model: str
    key: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def shown(self) -> str:
        """The address without what must not be read."""
        url = urlsplit(self.base_url)
        return f"{url.scheme}://{url.hostname}{f':{url.port}' if url.port else ''}{url.path}"


@dataclass(frozen=True, slots=True)
class Places:
    """All endpoints that this process knows."""

    serving_url: str = ""
    serving_secret: str = field(default="", repr=False)
    remote: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None) -> Places:
        """Raises UserError for a variable that cannot be read."""
        env = os.environ if environ is None else environ
        return cls(
            serving_url=env.get("PINETUNE_SERVING_URL", "").rstrip("/"),
            serving_secret=env.get("PINETUNE_SERVING_SECRET", ""),
            remote=_remote(env.get(VARIABLE, "")),
            environ=env,
        )

    def is_remote(self, model: str) -> bool:
        return self._entry(model) is not None

    def at_remote(self, model: str) -> Place | None:
        """The endpoint registered for this name; None where there is none. Raises UserError where its key is not set."""
        entry = self._entry(model)
        if entry is None:
            return None
        variable = entry.get("key", "")
        key = self.environ.get(variable, "") if variable else ""
        if variable and not key:
            raise UserError(f"{VARIABLE}: the key of {model} is to stand in {variable}, which is not set; export it")
        return Place(entry["base_url"].rstrip("/"), entry.get("model") or model, key)

    def at_serving(self, model: str, project: str) -> Place | None:
        """Our own serving process, asked on behalf of `project`; None where this process does not know of any."""
        if not self.serving_url:
            return None
        return Place(f"{self.serving_url}/v1", model, self.serving_secret, {"x-pinetune-project": project})

    def _entry(self, model: str) -> Mapping[str, str] | None:
        if model in self.remote:
            return self.remote[model]
        return next((entry for pattern, entry in self.remote.items() if fnmatchcase(model, pattern)), None)


def _remote(text: str) -> dict[str, dict[str, str]]:
    try:
        found: Any = json.loads(text or "{}")
    except ValueError as error:
        raise UserError(f"{VARIABLE}: not JSON ({error}); write {EXAMPLE}") from None
    if not isinstance(found, dict):
        raise UserError(f"{VARIABLE}: must be a JSON object; write {EXAMPLE}")
    for name, entry in found.items():
        if not isinstance(entry, dict) or not all(isinstance(value, str) for value in entry.values()):
            raise UserError(f"{VARIABLE}: {name}: must be an object of texts; write {EXAMPLE}")
        unknown = sorted(set(entry) - {"base_url", "key", "model"})
        if unknown:
            raise UserError(f"{VARIABLE}: {name}: unknown key {unknown[0]!r}; known: base_url, key, model")
        url = urlsplit(entry.get("base_url", ""))
        if url.scheme not in ("http", "https") or not url.hostname or url.password:
            raise UserError(f"{VARIABLE}: {name}: base_url must be a web address without a password, as http://localhost:8000/v1")
    return found
