"""A classical phenotype-driven gene ranker: the existing tool a tuned model has to beat.

No learning: a gene scores by how well one of its profiles (the findings of one disease) explains the findings of the case,
and a rare shared finding counts for more than a common one. With an ontology, a profile that holds only a relative of the
finding gets the information content of their most specific common ancestor (Resnik, IJCAI 1995, arXiv:cmp-lg/9511007,
averaged over the case's findings as in Köhler et al., Am J Hum Genet 2009, "OSS(Q, D)").
Without one (a flat fact table) the same formula is the overlap weighted by information content.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

# Scores that differ by rounding alone are ties: sums of the same numbers in another order.
DECIMALS = 9
# One vector of a term's scores is 8 bytes a profile: 1,024 of them over 8,407 diseases are 69 MB.
CACHED_TERMS = 1024


class PhenotypeRanker:
    """Ranks genes by how well their profiles explain a case's findings.

    `profiles`: the findings of each profile (a gene, or a disease where `genes` is given), as term ids.
    `parents`: is-a edges of the ontology, child -> parents; None = a flat table where terms have no relatives.
    `genes`: the genes behind each profile; a gene takes its best profile, a profile without genes only informs the
    information content. None = every profile is itself a gene.
    `excluded_weight`: a case's excluded findings that a profile holds cost this many times their information content.
    0 by default: in real case reports exclusions say what the authors looked for, and counting them ranks worse.

    The information content of a term is -ln(share of profiles that hold the term or a descendant of it).

    >>> PhenotypeRanker({"A": {"x", "y"}, "B": {"x"}}).rank(["x", "y"])
    [('A', 0.34657359), ('B', 0.0)]
    """

    def __init__(
        self,
        profiles: Mapping[str, Collection[str]],
        parents: Mapping[str, Collection[str]] | None = None,
        genes: Mapping[str, Collection[str]] | None = None,
        excluded_weight: float = 0.0,
    ) -> None:
        if not profiles:
            raise ValueError("a ranker needs at least one profile")
        self._parents: Mapping[str, Collection[str]] = parents or {}
        self._excluded_weight = excluded_weight
        self._num_profiles = len(profiles)
        self._members = self._count_members(profiles)
        self.information = {term: -math.log(len(held) / self._num_profiles) for term, held in self._members.items()}
        owners = genes if genes is not None else {name: (name,) for name in profiles}
        self.genes: tuple[str, ...] = tuple(sorted({gene for name in profiles for gene in owners.get(name, ())}))
        self._index = {gene: i for i, gene in enumerate(self.genes)}
        links = [(p, self._index[gene]) for p, name in enumerate(profiles) for gene in owners.get(name, ())]
        self._link_profiles = np.array([p for p, _ in links], dtype=np.intp)
        self._link_genes = np.array([g for _, g in links], dtype=np.intp)
        self.term_scores = lru_cache(maxsize=CACHED_TERMS)(self._term_scores)

    def rank(self, present: Collection[str], excluded: Collection[str] = ()) -> list[tuple[str, float]]:
        """All genes with their scores, best first; ties by name, so that the same case gives the same list."""
        scores = self.scores(present, excluded)
        order = np.lexsort((np.arange(len(scores)), -scores))
        return [(self.genes[i], float(scores[i])) for i in order]

    def scores(self, present: Collection[str], excluded: Collection[str] = ()) -> FloatArray:
        """Score of each gene of `self.genes`: the best of its profiles' scores, shape [genes]."""
        by_profile = self.profile_scores(present, excluded)
        best = np.full(len(self.genes), -np.inf)
        np.maximum.at(best, self._link_genes, by_profile[self._link_profiles])
        return best

    def profile_scores(self, present: Collection[str], excluded: Collection[str] = ()) -> FloatArray:
        """Score of each profile in the order given, shape [profiles]: mean over present findings (each counted once)."""
        findings = dict.fromkeys(present)
        total = np.zeros(self._num_profiles)
        for term in findings:
            total += self.term_scores(term)
        if self._excluded_weight:
            for term in dict.fromkeys(excluded):
                held = self._members.get(term)
                if held is not None:
                    total[held] -= self._excluded_weight * self.information[term]
        return np.round(total / max(1, len(findings)), DECIMALS)

    def midrank(self, gene: str, present: Collection[str], excluded: Collection[str] = ()) -> float:
        """Rank of `gene` from 1, ties sharing the middle of their places; infinite for a gene in no profile.

        The figure to quote for the ranker: breaking ties by name would let the alphabet win cases.
        """
        if gene not in self._index:
            return math.inf
        scores = self.scores(present, excluded)
        own = scores[self._index[gene]]
        better, equal = int((scores > own).sum()), int((scores == own).sum())
        return better + (1 + equal) / 2

    def ancestors(self, term: str) -> set[str]:
        """The term itself and everything above it."""
        found, waiting = {term}, [term]
        while waiting:
            new = set(self._parents.get(waiting.pop(), ())) - found
            found |= new
            waiting += new
        return found

    def _count_members(self, profiles: Mapping[str, Collection[str]]) -> dict[str, npt.NDArray[np.intp]]:
        """For each term the profiles that hold it or a descendant."""
        above: dict[str, set[str]] = {}
        members: dict[str, list[int]] = {}
        for p, terms in enumerate(profiles.values()):
            for term in terms:
                if term not in above:
                    above[term] = self.ancestors(term)
            held: Iterable[str] = set().union(*(above[term] for term in terms))
            for term in held:
                members.setdefault(term, []).append(p)
        return {term: np.array(held, dtype=np.intp) for term, held in members.items()}

    def _term_scores(self, term: str) -> FloatArray:
        """Information content of the most specific common ancestor of `term` with each profile, shape [profiles]."""
        scores = np.zeros(self._num_profiles)
        known = [a for a in self.ancestors(term) if a in self._members]
        for ancestor in sorted(known, key=lambda a: self.information[a]):  # the most informative one is written last
            scores[self._members[ancestor]] = self.information[ancestor]
        return scores
