"""What an import did: how many of each kind came, were there, or stayed behind and why; and how far it is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

KINDS = ("files", "jobs", "events", "checkpoints", "evals", "runs", "output items", "model weights")


class Watch(Protocol):
    """Hears how far an import is."""

    def begin(self, kind: str, total: int) -> None: ...

    def advance(self, kind: str) -> None: ...


@dataclass(slots=True)
class Tally:
    """Counts by kind; `skipped` holds (kind, id, reason)."""

    came: Counter[str] = field(default_factory=Counter)
    known: Counter[str] = field(default_factory=Counter)
    skipped: list[tuple[str, str, str]] = field(default_factory=list)

    def count(self, kind: str, new: bool) -> None:
        (self.came if new else self.known)[kind] += 1

    def skip(self, kind: str, id: str, reason: str) -> None:
        self.skipped.append((kind, id, reason))

    def num_skipped(self, kind: str) -> int:
        return sum(of == kind for of, _, _ in self.skipped)

    def reasons(self) -> list[tuple[str, str, list[str]]]:
        """(kind, reason, ids), the kinds in the order of KINDS, the commonest reasons first."""
        found: dict[tuple[str, str], list[str]] = {}
        for kind, id, reason in self.skipped:
            found.setdefault((kind, reason), []).append(id)
        ordered = sorted(found.items(), key=lambda entry: (KINDS.index(entry[0][0]), -len(entry[1])))
        return [(kind, reason, ids) for (kind, reason), ids in ordered]
