"""Where a service keeps its things and listens: read once (flags over environment over defaults), then passed down.

PINETUNE_HOME           folder for everything below; default ~/.pinetune
PINETUNE_DATABASE_URL   default sqlite in the home folder; postgresql://user@host/name for several machines
PINETUNE_FILES_URL      default HOME/files; any fsspec URL (s3://bucket/prefix, memory://name)
PINETUNE_HOST, _PORT    default 127.0.0.1 and 8000
PINETUNE_ORGANIZATION   the organisation's segment in `ft:` names; default "pinetune"
PINETUNE_MODEL_ALIASES  JSON object, name -> model id: scripts that name a hosted model run unchanged
PINETUNE_BUSY_SECONDS   how long a write waits for another process's lock; default 10
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
        )


def _number(name: str, value: Any, low: float, high: float, kind: type[int] | type[float]) -> Any:
    try:
        number = kind(value)
    except ValueError:
        raise UserError(f"PINETUNE_{name.upper()}: {value!r} is not a number; set it to one from {low:g} to {high:g}") from None
    if not low <= number <= high:
        raise UserError(f"PINETUNE_{name.upper()}: {number} is out of range; set it to a number from {low:g} to {high:g}")
    return number


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
