"""The fact table of the miniature: which findings are typical of which gene.

`facts.tsv` holds one gene a line: gene symbol, condition, findings (HPO labels) separated by "; ". Everything the demo
shows is derived from it: the cases, what the base model has read, its warm-up texts, and the classical ranker.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from pinetune.errors import DataError

FACTS_FILE = Path(__file__).with_name("facts.tsv")
HEADER = ("gene", "condition", "findings")

# A finding that more genes share than this says little; the reasoning texts write "many" instead of a list.
MOST_LISTED = 8


@dataclass(frozen=True, slots=True)
class Fact:
    """One gene with its typical findings, in the file's order."""

    gene: str
    condition: str
    findings: tuple[str, ...]


@dataclass(frozen=True)
class FactTable:
    """All facts, with the way back from a finding to its genes.

    >>> table = FactTable((Fact("TSC1", "", ("Seizure",)), Fact("NF1", "", ("Seizure", "Scoliosis"))))
    >>> table.genes_with("Seizure")
    ('NF1', 'TSC1')
    """

    facts: tuple[Fact, ...]
    _genes_with: dict[str, tuple[str, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        found: dict[str, list[str]] = {}
        for fact in self.facts:
            for finding in fact.findings:
                found.setdefault(finding, []).append(fact.gene)
        object.__setattr__(self, "_genes_with", {finding: tuple(sorted(genes)) for finding, genes in found.items()})

    @property
    def genes(self) -> tuple[str, ...]:
        return tuple(fact.gene for fact in self.facts)

    @property
    def findings(self) -> tuple[str, ...]:
        """Every finding once, sorted."""
        return tuple(sorted(self._genes_with))

    def genes_with(self, finding: str) -> tuple[str, ...]:
        """The genes a finding is typical of, sorted by symbol; none for a finding the table does not hold."""
        return self._genes_with.get(finding, ())

    def is_telling(self, finding: str) -> bool:
        """True when few enough genes share the finding that naming them says something."""
        return 0 < len(self.genes_with(finding)) <= MOST_LISTED

    def profiles(self) -> dict[str, frozenset[str]]:
        """gene -> its findings: the form the classical ranker takes."""
        return {fact.gene: frozenset(fact.findings) for fact in self.facts}


def read_facts(path: Path) -> FactTable:
    """Read a fact table; DataError names the file and line of every fault."""
    facts: list[Fact] = []
    complaints: list[str] = []
    seen: set[str] = set()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        cells = tuple(line.split("\t"))
        if number == 1:
            if cells != HEADER:
                complaints.append(f"{path}:1: the header must be {' <tab> '.join(HEADER)}")
            continue
        if len(cells) != len(HEADER):
            complaints.append(f"{path}:{number}: expected {len(HEADER)} tab-separated columns, found {len(cells)}")
            continue
        gene, condition, findings = cells[0], cells[1], tuple(part.strip() for part in cells[2].split(";"))
        if gene in seen:
            complaints.append(f"{path}:{number}: gene {gene} occurs twice; merge the lines")
        if len(set(findings)) != len(findings) or "" in findings:
            complaints.append(f"{path}:{number}: findings of {gene} must be non-empty and different from each other")
        seen.add(gene)
        facts.append(Fact(gene, condition, findings))
    if complaints:
        raise DataError(complaints)
    return FactTable(tuple(facts))


@lru_cache(maxsize=1)
def load_facts() -> FactTable:
    """The table that ships with the package."""
    return read_facts(FACTS_FILE)
