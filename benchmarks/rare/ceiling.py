"""What the plain job's base could reach with perfect recall: its two ways of reasoning, run by a program over the same lists.

python benchmarks/rare/ceiling.py
"""

from __future__ import annotations

import json
import random

from plain_texts import holders, reply, telling
from tables import cases, labels

from pinetune.data.case_report import in_sentence

REPEATS = 200  # the careless way is random: its figures are means


def places(present: list[str], gene: str, num: int, rng: random.Random) -> int:
    """Rank of `gene` in the reply that looks up `num` findings (0 = all); 0 = not named."""
    genes = json.loads(reply(present, num, rng).split("</think>\n")[1])["genes"]
    return genes.index(gene) + 1 if gene in genes else 0


def main() -> None:
    rng = random.Random(0)
    pairs = sum(len(listed) for _, listed in holders().values())
    print(f"{len(holders()):,} findings with lists, {pairs:,} finding-gene pairs")
    for name in ("demo_train", "demo_valid"):
        rows = [([in_sentence(labels()[term]) for term in case.present], case.gene) for case in cases(name)]
        looked = sum(len(telling(present)) for present, _ in rows) / len(rows)
        print(f"{name}: {len(rows)} cases, {looked:.1f} telling findings a case, {sum(not telling(p) for p, _ in rows)} cases without one")
        for num, way in ((1, "one finding, random order"), (2, "two findings, random order"), (0, "all findings, sorted")):
            ranks = [places(present, gene, num, rng) for _ in range(REPEATS if num else 1) for present, gene in rows]
            shares = [100 * sum(0 < rank <= k for rank in ranks) / len(ranks) for k in (1, 5, 10)]
            print(f"  {way:28} top-1 {shares[0]:5.1f}  top-5 {shares[1]:5.1f}  top-10 {shares[2]:5.1f}")


if __name__ == "__main__":
    main()
