"""What serving asks of whoever mounts it: which models there are, and where answers are kept.

`project` is the caller's project, "" where there are none; nothing of one project is shown to another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Kind = Literal["chat.completion", "response"]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that can be asked. `base` is a folder or hub id with full weights, `adapter` a LoRA folder on top of it."""

    id: str
    base: str
    adapter: str | None = None
    created: int = 0  # unix seconds
    owned_by: str = "pinetune"


class ModelDirectory(Protocol):
    def resolve(self, model_id: str, project: str = "") -> ServedModel | None:
        """The model behind an id or alias; None when there is none. May raise ApiProblem (no permission, not ready)."""
        ...

    def list(self, project: str = "") -> Sequence[ServedModel]: ...

    def delete(self, model_id: str, project: str = "") -> bool:
        """Forget a tuned model; False when there is none. Raises ApiProblem for one that cannot be deleted."""
        ...


class Memory(Protocol):
    """Keeps stored chat completions and responses as JSON objects. Each has an "id" and, in seconds, a "created"."""

    def save(self, kind: Kind, record: Mapping[str, Any], project: str = "") -> None:
        """Add, or replace the one with the same id."""
        ...

    def get(self, kind: Kind, record_id: str, project: str = "") -> dict[str, Any] | None: ...

    def list(self, kind: Kind, project: str = "") -> Sequence[dict[str, Any]]:
        """All records, oldest first."""
        ...

    def delete(self, kind: Kind, record_id: str, project: str = "") -> bool: ...
