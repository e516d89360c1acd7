"""The plain job's knowledge and texts: what a small base can have read of the public tables, and how it is warmed up.

4,875 genes with 219,000 gene-finding pairs do not fit a model trained in minutes on two cores. It has read of a finding only if
at most MOST_HOLDERS genes are known for it (7,851 findings), and then at most MOST_LISTED of them, those with the fewest
findings of their own first: 33,010 pairs. `python benchmarks/rare/ceiling.py` says what that costs.

    <think>
    - broad-based gait: GENE1 GENE2
    - oromotor apraxia: GENE2 GENE3
    </think>
    {"genes": ["GENE2", "GENE3", "GENE1"], "explanation": "GENE2 fits 2 of 2."}

The thorough way looks up every telling finding and sorts by the number of lists that name a gene, then by the length of its
shortest list; the careless way looks up one or two and lists their genes in random order.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from functools import cache

from tables import diseases, labels, read_gz

from pinetune.data.case_report import CaseFacts, case_messages, in_sentence

MOST_HOLDERS = 32
MOST_LISTED = 8
NUM_ANSWERED = 10
LOOKED_UP = {1: 0.5, 2: 0.3, 0: 0.2}  # telling findings looked up -> share of the warm-up texts; 0 = all of them
NO_LEAD = json.dumps({"genes": [], "explanation": "No telling finding."})


@cache
def genes() -> tuple[str, ...]:
    return tuple(row["gene"] for row in read_gz("kb/kb_2023_clean.jsonl.gz"))


@cache
def holders() -> dict[str, tuple[int, tuple[str, ...]]]:
    """Finding as it stands in a sentence -> how many genes are known for it, and those the base has read of."""
    size, by_finding = {}, {}
    for row in read_gz("kb/kb_2023_clean.jsonl.gz"):
        size[row["gene"]] = len(row["terms"])
        for term in row["terms"]:
            by_finding.setdefault(in_sentence(term["label"]), set()).add(row["gene"])
    listed = {}
    for finding, known in by_finding.items():
        if len(known) <= MOST_HOLDERS:
            listed[finding] = (len(known), tuple(sorted(known, key=lambda gene: (size[gene], gene))[:MOST_LISTED]))
    return listed


def telling(findings: Sequence[str]) -> list[str]:
    return [finding for finding in findings if finding in holders()]


def lookup_line(finding: str) -> str:
    return f"- {finding}: {' '.join(holders()[finding][1])}"


def ranked(findings: Sequence[str]) -> list[str]:
    """The thorough order: all of it can be read off the lists. Ties in the order of appearance."""
    lists = [holders()[finding][1] for finding in findings]
    named = Counter(gene for listed in lists for gene in listed)  # keeps the order of appearance
    shortest = {gene: min(len(listed) for listed in lists if gene in listed) for gene in named}
    return sorted(named, key=lambda gene: (-named[gene], shortest[gene]))


def reply(present: Sequence[str], num: int, rng: random.Random) -> str:
    """Look up `num` telling findings (0 = all, then sort; otherwise answer in random order)."""
    found = telling(present)
    if not found:
        return f"<think>\n</think>\n{NO_LEAD}"
    looked_up = found if num == 0 else rng.sample(found, min(num, len(found)))
    order = ranked(looked_up)
    if num:
        rng.shuffle(order)
    lines = "\n".join(lookup_line(finding) for finding in looked_up)
    fits = sum(order[0] in holders()[finding][1] for finding in looked_up)
    answer = json.dumps({"genes": order[:NUM_ANSWERED], "explanation": f"{order[0]} fits {fits} of {len(looked_up)}."})
    return f"<think>\n{lines}\n</think>\n{answer}"


@cache
def _profiles() -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(in_sentence(labels()[term]) for term in row["terms"]) for row in diseases().values() if row["genes"])


@cache
def _all_findings() -> tuple[str, ...]:
    return tuple(finding for profile in _profiles() for finding in profile)


def made_up_chat(rng: random.Random) -> tuple[str, str]:
    """A case drawn from a disease's profile with some noise, as a case report, and its reply. No patient's case."""
    profile = rng.choice(_profiles())
    shown = rng.sample(profile, min(len(profile), rng.randint(2, 9)))
    present = list(dict.fromkeys(shown + rng.choices(_all_findings(), k=rng.randint(0, 4))))
    rng.shuffle(present)
    excluded = [f for f in rng.choices(_all_findings(), k=rng.choice((0, 0, 1, 3))) if f not in present]
    facts = CaseFacts(
        sex=rng.choice(("female", "male", "unknown")),
        age=rng.choice((None, f"P{rng.randint(1, 60)}Y", f"P{rng.randint(1, 11)}M")),
        onset=rng.choice((None, "Infantile onset", "Congenital onset", "Childhood onset", f"P{rng.randint(1, 30)}Y")),
        present=tuple(present),
        excluded=tuple(excluded),
        case_id=str(rng.random()),
    )
    num = rng.choices(list(LOOKED_UP), weights=list(LOOKED_UP.values()))[0]
    return str(case_messages(facts)[0]["content"]), reply(present, num, rng)
