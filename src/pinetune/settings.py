"""Where a service keeps its things and listens: read once (flags over environment over defaults), then passed down.

PINETUNE_HOME           folder for everything below; default ~/.pinetune
PINETUNE_DATABASE_URL   default sqlite in the home folder; postgresql://user@host/name for several machines
PINETUNE_FILES_URL      default HOME/files; any fsspec URL (s3://bucket/prefix, memory://name)
PINETUNE_HOST, _PORT    default 127.0.0.1 and 8000
PINETUNE_ORGANIZATION   the organisation's segment in `ft:` names; default "pinetune"
PINETUNE_MODEL_ALIASES  JSON object, name -> model id: scripts that name a hosted model run unchanged
PINETUNE_BUSY_SECONDS   how long a write waits for another process's lock; default 10
PINETUNE_MAX_FILE_BYTES largest file of one request; default 512 MiB (uploads in parts may reach 8 GiB)
PINETUNE_RATE_LIMIT     requests a minute for each API key; default 6000, 0 = without limit
PINETUNE_UNSAFE_PYTHON_GRADERS  1 = this operator lets python graders run unconfined where they cannot be confined
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pinetune.errors import UserError


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a program of ours needs to know about its surroundings."""

    home: Path
    database_url: str
    files_url: str
    host: str = "127.0.0.1"
    port: int = 8000
    organization: str = "pinetune"
    model_aliases: Mapping[str, str] = field(default_factory=dict)
    busy_seconds: float = 10.0
    max_file_bytes: int = 512 << 20
    rate_limit: int = 6000
    unsafe_python_graders: bool = False

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None, **flags: Any) -> Settings:
        """Settings from `environ` (default os.environ), each overridden by the flag of the same name where it is not None.

        >>> Settings.read({"PINETUNE_HOME": "/srv/pt"}, port=9000).database_url
        'sqlite:////srv/pt/pinetune.db'
        """
        env = os.environ if environ is None else environ
        given = {key: value for key, value in flags.items() if value is not None}
        unknown = set(given) - set(cls.__dataclass_fields__)
        if unknown:
            raise TypeError(f"unknown settings: {', '.join(sorted(unknown))}")

        def pick(name: str, default: Any) -> Any:
            return given.get(name, env.get(f"PINETUNE_{name.upper()}") or default)

        home = Path(pick("home", Path.home() / ".pinetune")).expanduser().absolute()
        return cls(
            home=home,
            database_url=str(pick("database_url", f"sqlite:///{home / 'pinetune.db'}")),
            files_url=str(pick("files_url", home / "files")),
            host=str(pick("host", "127.0.0.1")),
            port=_number("port", pick("port", 8000), 0, 65535, int),
            organization=_segment(str(pick("organization", "pinetune"))),
            model_aliases=_aliases(pick("model_aliases", {})),
            busy_seconds=_number("busy_seconds", pick("busy_seconds", 10.0), 0, 3600, float),
            max_file_bytes=_number("max_file_bytes", pick("max_file_bytes", 512 << 20), 1, 1 << 50, int),
            rate_limit=_number("rate_limit", pick("rate_limit", 6000), 0, 10**9, int),
            unsafe_python_graders=_switch("unsafe_python_graders", pick("unsafe_python_graders", False)),
        )


def _number(name: str, value: Any, low: float, high: float, kind: type[int] | type[float]) -> Any:
    try:
        number = kind(value)
    except ValueError:
        raise UserError(f"PINETUNE_{name.upper()}: {value!r} is not a number; set it to one from {low:g} to {high:g}") from None
    if not low <= number <= high:
        raise UserError(f"PINETUNE_{name.upper()}: {number} is out of range; set it to a number from {low:g} to {high:g}")
    return number


def _switch(name: str, value: Any) -> bool:
    known = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    try:
        return known[str(value).lower()]
    except KeyError:
        raise UserError(f"PINETUNE_{name.upper()}: {value!r} is neither yes nor no; set it to 1 or 0") from None


def _segment(name: str) -> str:
    """A segment of an `ft:` name: a colon in it would shift the others."""
    if ":" in name or not name.strip():
        raise UserError(f"PINETUNE_ORGANIZATION: {name!r} cannot stand in a model name; use a short name without colons")
    return name


def _aliases(value: Any) -> Mapping[str, str]:
    try:
        aliases = json.loads(value) if isinstance(value, str) else value
    except ValueError as error:
        raise UserError(f'PINETUNE_MODEL_ALIASES: not JSON ({error}); write {{"o4-mini": "pinetune-mini"}}') from None
    if not isinstance(aliases, Mapping) or not all(isinstance(k, str) and isinstance(v, str) for k, v in aliases.items()):
        raise UserError('PINETUNE_MODEL_ALIASES: must be a JSON object of names, as {"o4-mini": "pinetune-mini"}')
    return dict(aliases)
