"""What a preflight found: a verdict a part, findings in plain words, and the figures behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Verdict = Literal["ok", "look", "stop"]  # go on; read this first; the job would fail or teach nothing
ORDER: dict[Verdict, int] = {"ok": 0, "look": 1, "stop": 2}


@dataclass(frozen=True, slots=True)
class Pair:
    """Two rows that are alike, by file and line (from 1)."""

    file: str
    line: int
    other_file: str
    other_line: int
    alike: float = 1.0  # 1 = the same text
    what: str = ""  # what both hold, cut


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know. `kind` is a word for programs ("near_duplicates"); `pairs` and `lines` say where."""

    verdict: Verdict
    kind: str
    text: str
    pairs: tuple[Pair, ...] = ()
    lines: tuple[tuple[str, int], ...] = ()  # (file, line)


@dataclass(frozen=True, slots=True)
class Part:
    """One question: data, grader, learnability, cost."""

    name: str
    findings: tuple[Finding, ...]
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        return worst([finding.verdict for finding in self.findings])

    def finding(self, kind: str) -> Finding | None:
        return next((finding for finding in self.findings if finding.kind == kind), None)


@dataclass(frozen=True, slots=True)
class PreflightReport:
    """The parts in the order data, grader, learnability, cost; those that were not asked for are missing."""

    parts: tuple[Part, ...]

    @property
    def verdict(self) -> Verdict:
        return worst([part.verdict for part in self.parts])

    def part(self, name: str) -> Part:
        """Raises KeyError where the part was not checked."""
        for part in self.parts:
            if part.name == name:
                return part
        raise KeyError(name)

    def as_json(self) -> dict[str, Any]:
        return {"verdict": self.verdict, "parts": [{"verdict": part.verdict, **asdict(part)} for part in self.parts]}


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    return max(verdicts, key=ORDER.__getitem__, default="ok")
