"""What a bench run found: plain frozen records, with a JSON form for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

# right: the reference answer.  same: the reference written otherwise.  odd: the reference padded or damaged.
# gaming: an answer that is wrong, or knows nothing of the row.
ProbeKind = Literal["right", "same", "odd", "gaming"]
Level = Literal["bad", "warn", "note"]


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """One probe over the rows: of its variants the one that speaks most against the grader.

    `share` is the share of graded rows that score above the threshold; mean, low and high are None where nothing was graded.
    """

    probe: str
    kind: ProbeKind
    variant: str  # "" where the probe has one form only
    mean: float | None
    low: float | None
    high: float | None
    n: int  # rows graded
    ungraded: int
    share: float
    example: str = ""  # the answer that scored highest (for "same": lowest), cut
    line: int = 0  # its row's line in the file, 0 = not from a file
    reason: str = ""  # why the first ungraded one could not be graded
    drop: float = 0.0  # mean score of the reference answer on the same rows, less this mean
    variants: Mapping[str, float | None] = field(default_factory=dict)  # mean score of every variant


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know about the grader, in plain words. "bad" makes the bench fail."""

    level: Level
    probe: str
    text: str


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One labelled answer on which grader and expert differ."""

    line: int
    label: float
    grade: float
    answer: str


@dataclass(frozen=True, slots=True)
class Agreement:
    """Grader against expert labels. Spearman and kappa are None where one side never varies.

    `missed`: marked answers whose verdict the grader does not share; where experts contradict each other it cannot, and need not.
    """

    n: int
    ungraded: int
    spearman: float | None
    kappa: float | None
    same_verdict: float  # share of answers on which both say pass, or both say fail
    worst: tuple[Disagreement, ...] = ()
    marked: int = 0
    missed: tuple[Disagreement, ...] = ()


@dataclass(frozen=True, slots=True)
class Spread:
    """The same answers graded again and again: (highest - lowest) an answer."""

    answers: int
    repeats: int
    mean: float
    largest: float


@dataclass(frozen=True, slots=True)
class Cost:
    """Latency in seconds a grade; tokens (prompt, completion) and US dollars per 1,000 grades where they are known."""

    median: float
    p95: float
    prompt_tokens: float | None = None
    completion_tokens: float | None = None
    dollars: float | None = None


@dataclass(frozen=True, slots=True)
class BenchReport:
    """The verdict on one grader."""

    grader: str
    rows: int
    threshold: float
    answer_field: str
    form: str  # how the reference answer was written: '{"genes": ["..."]}'; "" where no form scores
    probes: tuple[ProbeResult, ...]
    findings: tuple[Finding, ...]
    cost: Cost
    grades: int
    spread: Spread | None = None
    agreement: Agreement | None = None
    skipped: Mapping[str, str] = field(default_factory=dict)  # probe -> why it has no answers here

    def passed(self) -> bool:
        return not any(finding.level == "bad" for finding in self.findings)

    def probe(self, name: str) -> ProbeResult:
        """Raises KeyError where the probe was not run."""
        for result in self.probes:
            if result.probe == name:
                return result
        raise KeyError(name)

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"passed": self.passed()}
