"""What the hybrid job's reasoning is worth, run by a program on the training cases: each choice of aspects, votes counted right.

    python benchmarks/rare/votes.py

Prints, by the number of aspects looked at, the mean over all choices and the best ones (picked on the same cases, so too high).
"""

from __future__ import annotations

from itertools import permutations

from aspects import ASPECTS, Candidate, candidates
from hybrid_texts import voted
from tables import cases

MOST = 4  # aspects; five already make 6,720 choices
SHOWN = 3


def hits(payable: list[tuple[str, list[Candidate]]], picked: tuple[str, ...]) -> int:
    return sum(ranked[voted(ranked, picked)[0]].gene == gene for gene, ranked in payable)


def main() -> None:
    found = [(case.gene, candidates(case)) for case in cases("demo_train")]
    payable = [(gene, ranked) for gene, ranked in found if gene in {candidate.gene for candidate in ranked}]
    print(f"{len(found)} cases, {len(payable)} with the right gene among the candidates; top-1 in percent of all cases")
    for num in range(1, MOST + 1):
        scored = sorted(((hits(payable, picked), picked) for picked in permutations(ASPECTS, num)), reverse=True)
        mean = sum(score for score, _ in scored) / len(scored)
        best = "; ".join(f"{100 * score / len(found):.1f} {' '.join(picked)}" for score, picked in scored[:SHOWN])
        print(f"{num}: mean {100 * mean / len(found):.1f}, best {best}")


if __name__ == "__main__":
    main()
