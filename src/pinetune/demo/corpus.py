"""What the base model reads: the facts of all genes, and warm-up texts in the chat format.

Facts come in both directions and several phrasings. From a finding to its genes the list is always in the table's order:
the reasoning texts recall it that way. From a gene to its findings the order is random.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

from pinetune.demo.cases import Case, case_text, draw_case, findings_text
from pinetune.demo.facts import FactTable
from pinetune.demo.reasoning import MOST_ANSWERED, count, ranked, recall_line, thorough, warm_up

ABOUT_FINDING = (
    "- {line}",
    "- {line}",
    "- no {line}",
    "Genes with {line}",
)
ABOUT_GENE = (
    "{gene} causes {condition}. Findings: {findings}.",
    "{gene}: {findings}.",
)


def finding_facts(table: FactTable, rng: random.Random) -> list[str]:
    """Every finding once, each in a random phrasing."""
    return [rng.choice(ABOUT_FINDING).format(line=recall_line(table, finding)) for finding in table.findings]


def gene_facts(table: FactTable, rng: random.Random) -> list[str]:
    """Every gene once, its findings in random order."""
    texts = []
    for fact in table.facts:
        findings = "; ".join(rng.sample(fact.findings, len(fact.findings)))
        texts.append(rng.choice(ABOUT_GENE).format(gene=fact.gene, condition=fact.condition, findings=findings))
    return texts


def lookups(table: FactTable, rng: random.Random, num_lines: int = 4) -> list[str]:
    """Several findings named and then looked up in turn, each finding of the table once in all."""
    findings = rng.sample(table.findings, len(table.findings))
    texts = []
    for i in range(0, len(findings), num_lines):
        some = findings[i : i + num_lines]
        texts.append(f"Present: {'; '.join(some)}." + "".join(f"\n- {recall_line(table, finding)}" for finding in some))
    return texts


def copying(table: FactTable, rng: random.Random, num: int) -> list[str]:
    """Lists of random genes, then the first of them as JSON: no facts, only the skill."""
    texts = []
    for _ in range(num):
        genes = rng.sample(table.genes, min(rng.randint(1, 8), len(table.genes)))
        texts.append(f"Copy: {' '.join(genes)}\n{json.dumps({'genes': genes[:MOST_ANSWERED]})}")
    return texts


def counting(table: FactTable, rng: random.Random, num: int) -> list[str]:
    """Random genes in several lists, some lists speaking against, then the genes with most points: thoroughness without facts."""
    texts = []
    for _ in range(num):
        pool = rng.sample(table.genes, min(rng.randint(6, 16), len(table.genes)))
        named_for = [sorted(rng.sample(pool, min(rng.randint(1, 5), len(pool)))) for _ in range(rng.randint(2, 6))]
        for genes in rng.sample(named_for, rng.randint(0, min(4, len(named_for)))):
            if pool[0] not in genes:
                genes.append(pool[0])
                genes.sort()
        against = [sorted(rng.sample(pool, min(rng.randint(1, 4), len(pool)))) for _ in range(rng.randint(0, 2))]
        lines = [" ".join(genes) for genes in named_for] + [f"no {' '.join(genes)}" for genes in against]
        answer = json.dumps({"genes": ranked(count(named_for, against))[:MOST_ANSWERED]})
        texts.append("Count:" + "".join(f"\n- {line}" for line in lines) + f"\n{answer}")
    return texts


def random_cases(table: FactTable, rng: random.Random, forbidden: set[Any]) -> Iterator[Case]:
    """Endless cases of any gene, but none whose key is in `forbidden` (the demo's own validation and test cases)."""
    while True:
        case = draw_case(table, rng.choice(table.facts), rng)
        if case.key() not in forbidden:
            yield case


def worked_example(table: FactTable, case: Case) -> str:
    """A textbook's thorough solution, outside of the chat format."""
    return f"Worked example.\n{findings_text(case)}\n{thorough(table, case)}"


def warm_up_chat(table: FactTable, case: Case, rng: random.Random) -> list[dict[str, str]]:
    """The case asked as in the demo and answered by the warm-up mixture."""
    return [{"role": "user", "content": case_text(case)}, {"role": "assistant", "content": warm_up(table, case, rng)}]


def vocabulary_texts(table: FactTable, rng: random.Random, num_chats: int = 400) -> list[str]:
    """Texts the tokenizer is trained on; each gene also as it stands in JSON, often enough to become one token."""
    texts = finding_facts(table, rng) + gene_facts(table, rng) + gene_facts(table, rng)
    texts += [json.dumps({"genes": [gene, gene]}) for gene in table.genes]
    texts += copying(table, rng, 100) + counting(table, rng, 100)
    texts += ["system", "user", "assistant", "tool"] * 2
    cases = random_cases(table, rng, set())
    for _ in range(num_chats):
        texts += [message["content"] for message in warm_up_chat(table, next(cases), rng)]
        texts.append(worked_example(table, next(cases)))
    return texts
