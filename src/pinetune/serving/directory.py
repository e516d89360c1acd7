"""What serving asks of whoever mounts it: which models there are, and where answers are kept.

`project` is the caller's project, "" where there are none; nothing of one project is shown to another. Both are called from
worker threads, several at a time, and may block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Kind = Literal["chat.completion", "response"]
Order = Literal["asc", "desc"]


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


@dataclass(frozen=True, slots=True)
class Kept:
    """A stored chat completion or response."""

    id: str
    kind: Kind
    created: int  # unix seconds
    model: str
    body: Mapping[str, Any]  # the reply as it was sent
    input: Sequence[Mapping[str, Any]]  # the request's messages or items, those of earlier responses not repeated
    request: Mapping[str, Any] = field(default_factory=dict)  # the request's other parameters
    metadata: Mapping[str, str] | None = None
    previous_id: str | None = None  # the response this one continues


@dataclass(frozen=True, slots=True)
class KeptPage:
    items: Sequence[Kept]
    has_more: bool


class Memory(Protocol):
    def save(self, kept: Kept, project: str = "") -> None:
        """Add, or replace the one with this id (a background response goes on, metadata are changed)."""
        ...

    def get(self, kind: Kind, record_id: str, project: str = "") -> Kept | None: ...

    def list(
        self,
        kind: Kind,
        project: str = "",
        *,
        model: str | None = None,
        metadata: Mapping[str, str] | None = None,
        after: str | None = None,
        limit: int = 20,
        order: Order = "asc",
    ) -> KeptPage:
        """Those of this model and with all of these metadata, where given, in order of creation, from behind `after` on."""
        ...

    def delete(self, kind: Kind, record_id: str, project: str = "") -> bool: ...
