"""What speaks for a candidate gene, as one digit an aspect: the evidence a model of the hybrid job is shown.

Every aspect is computed from the case's findings and the public tables only, and scaled over the case's candidates to 0..9,
9 = most in favour. Which of them help, and how much, is what the model has to learn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from tables import RealCase, diseases, ranker

NUM_CANDIDATES = 20
UNSTATED = 0.5  # frequency of a finding in a disease where the annotation gives none
NOISE = 0.05  # chance of a finding the disease is not known for
MATCHED = 0.6  # a finding counts as matched from this share of its own information content on
MOST_SOUGHT = 3


@dataclass(frozen=True, slots=True)
class Candidate:
    """A gene of the ranker's list: `digits` in the order of ASPECTS, `matched` = positions of the matched present findings."""

    gene: str
    digits: tuple[int, ...]
    matched: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Evidence:
    """A case against one disease."""

    case: RealCase
    disease: str
    closure: frozenset[str]  # everything the case's findings imply
    score: float  # the ranker's


@cache
def above(term: str) -> frozenset[str]:
    """The term and its ancestors, those that any disease holds."""
    return frozenset(term for term in ranker().ancestors(term) if term in ranker().information)


@cache
def implied(disease: str) -> frozenset[str]:
    return frozenset().union(*(above(term) for term in diseases()[disease]["terms"]))


@cache
def diseases_of() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, row in diseases().items():
        for gene in row["genes"]:
            found.setdefault(gene, []).append(name)
    return found


def weight(terms: frozenset[str]) -> float:
    return sum(ranker().information[term] for term in terms)


def best_match(term: str, held: frozenset[str]) -> float:
    """Information content of the most specific ancestor of `term` among `held`."""
    return max((ranker().information[a] for a in above(term) & held), default=0.0)


def own(evidence: Evidence) -> float:
    """How much of all that the case and the disease imply is shared (simGIC; Pesquita et al., BMC Bioinformatics 2008)."""
    held = implied(evidence.disease)
    return weight(evidence.closure & held) / max(1e-9, weight(evidence.closure | held))


def exact(evidence: Evidence) -> float:
    """Present findings that the disease holds, themselves or as something more special."""
    return sum(term in implied(evidence.disease) for term in evidence.case.present)


def best(evidence: Evidence) -> float:
    """The most telling single match."""
    return max((best_match(term, implied(evidence.disease)) for term in evidence.case.present), default=0.0)


def typical(evidence: Evidence) -> float:
    """How well the case covers the disease's findings, frequent ones first: the ranker's mean, the other way round."""
    terms = diseases()[evidence.disease]["terms"]
    shares = {term: UNSTATED if share is None else share for term, share in terms.items()}
    total = sum(shares.values())
    return sum(share * best_match(term, evidence.closure) for term, share in shares.items()) / total if total else 0.0


def odds(evidence: Evidence) -> float:
    """Mean log-likelihood ratio of the present findings: frequency in the disease against rarity among all diseases.

    A simplification of LIRICAL's (Robinson et al., Am J Hum Genet 2020): no score for relatives, one noise rate.
    """
    terms = diseases()[evidence.disease]["terms"]
    total = 0.0
    for term in evidence.case.present:
        shares = [UNSTATED if share is None else share for held, share in terms.items() if term in above(held)]
        total += math.log(max(0.02, *shares)) + ranker().information[term] if shares else math.log(NOISE)
    return total / max(1, len(evidence.case.present))


def few(evidence: Evidence) -> float:
    """Diseases known for few findings first."""
    return -math.log(max(1, len(diseases()[evidence.disease]["terms"])))


def sought(evidence: Evidence) -> float:
    """Excluded findings that belong to the disease: they speak against it, or show that its authors had it in mind."""
    return min(MOST_SOUGHT, sum(term in implied(evidence.disease) for term in evidence.case.excluded))


ASPECTS: dict[str, Callable[[Evidence], float]] = {
    "fit": lambda evidence: evidence.score,
    "own": own,
    "exact": exact,
    "best": best,
    "typical": typical,
    "odds": odds,
    "few": few,
    "sought": sought,
}


def candidates(case: RealCase, num: int = NUM_CANDIDATES) -> list[Candidate]:
    """The ranker's first `num` genes, each judged by the disease the ranker chose it for (`own` by its best one)."""
    order = list(diseases())
    by_disease = dict(zip(order, ranker().profile_scores(case.present), strict=True))
    closure = frozenset().union(*(above(term) for term in case.present))
    chosen: list[Evidence] = []
    values: list[list[float]] = []
    for gene, score in ranker().rank(case.present)[:num]:
        options = sorted(diseases_of()[gene], key=lambda name: (-by_disease[name], -len(diseases()[name]["terms"]), name))
        evidence = Evidence(case, options[0], closure, score)
        row = [aspect(evidence) for aspect in ASPECTS.values()]
        row[list(ASPECTS).index("own")] = max(own(Evidence(case, name, closure, score)) for name in options)
        chosen.append(evidence)
        values.append(row)
    columns = [_digits(column, name) for name, column in zip(ASPECTS, zip(*values, strict=True), strict=True)]
    genes = [gene for gene, _ in ranker().rank(case.present)[:num]]
    return [
        Candidate(gene, digits, _matched(evidence))
        for gene, digits, evidence in zip(genes, zip(*columns, strict=True), chosen, strict=True)
    ]


def _digits(values: Sequence[float], aspect: str) -> list[int]:
    low, high = min(values), max(values)
    if aspect == "sought":  # a count: its own scale, the same in every case
        return [3 * int(value) for value in values]
    return [round(9 * (value - low) / (high - low)) if high > low else 0 for value in values]


def _matched(evidence: Evidence) -> tuple[int, ...]:
    held = implied(evidence.disease)
    return tuple(
        i
        for i, term in enumerate(evidence.case.present)
        if above(term) and best_match(term, held) >= MATCHED * max(ranker().information[a] for a in above(term))
    )
