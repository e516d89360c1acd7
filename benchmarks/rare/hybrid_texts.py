"""The hybrid job's texts: the ranker's candidates with their evidence as a prompt, and the reasoning its base is warmed up on.

    A boy or man, infantile onset.
    Present: a Chronic diarrhea; b Recurrent fever
    Absent: Hepatomegaly
    Candidates:
     1=ADA2 b a
     2=PGM3 a
    ...
    fit: 1=ADA2 2=PGM3 3=CD40LG 4=IL10 5=STAT1
    own: 7=IL7R 2=PGM3 12=RAG1 1=ADA2 5=STAT1
    ...

    <think>
    own: 7=IL7R 2=PGM3 12=RAG1 1=ADA2 5=STAT1
    fit: 1=ADA2 2=PGM3 3=CD40LG 4=IL10 5=STAT1
    order: 2=PGM3 1=ADA2 5=STAT1 7=IL7R 12=RAG1
    </think>
    {"genes": ["PGM3", "ADA2", "STAT1", "IL7R", "RAG1"], "explanation": "PGM3 leads on own, fit."}

The candidates stand in the ranker's order with the findings they match; then the five that each aspect of the evidence favours most.
The reasoning looks at some aspects and orders the candidates by how many of those lists name them (ties: as they first appear). It is
the same procedure whichever aspects are looked at, and the warm-up picks them blindly: mostly one, any.

What did not work (bases of two million parameters, minutes of training each). Eight digits a candidate, and sorting by sums of them:
genes were copied, sums not compared (the right candidate in 2 of 10 places). Lists of bare numbers: votes were counted (97% right), but
the gene behind a number was guessed. Lists of bare genes: copied (99%), but votes among 4,875 names were not counted. With number and
gene always together, a vote is among twenty numbers, and a gene is what always follows its number.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence

from aspects import ASPECTS, Candidate
from tables import RealCase, age_in_words, labels

INSTRUCTION = 'Rank the genes that could cause this, most likely first. Answer as JSON: {"genes": [...], "explanation": "..."}'
NUM_ANSWERED = 5
NUM_FAVOURED = 5  # candidates an aspect's list names
MOST_MATCHES_SHOWN = 3
MOST_SHOWN = 10  # findings of a case that are shown; all count in the evidence
MOST_ABSENT = 3
LETTERS = "abcdefghijklmnopqrst"
# Aspects looked at -> share of the warm-up texts.
LOOKED_AT = {1: 0.55, 2: 0.25, 3: 0.12, 4: 0.06, 5: 0.02}

PERSON = {"female": "A girl or woman", "male": "A boy or man"}


def prompt_text(case: RealCase, ranked: Sequence[Candidate]) -> str:
    """What the model is shown."""
    onset = f", {age_in_words(case.onset)}" if case.onset else ""
    present = "; ".join(f"{letter} {labels()[term]}" for letter, term in zip(LETTERS[:MOST_SHOWN], case.present, strict=False))
    lines = [f"{PERSON.get(case.sex, 'A person')}{onset}.", f"Present: {present}"]
    if case.excluded:
        lines.append(f"Absent: {'; '.join(labels()[term] for term in case.excluded[:MOST_ABSENT])}")
    lines += ["Candidates:", *candidate_lines(ranked), *(list_line(ranked, name) for name in ASPECTS), INSTRUCTION]
    return "\n".join(lines)


def candidate_lines(ranked: Sequence[Candidate]) -> list[str]:
    lines = []
    for i, candidate in enumerate(ranked):
        shown = [LETTERS[finding] for finding in candidate.matched if finding < MOST_SHOWN][:MOST_MATCHES_SHOWN]
        lines.append(" ".join((named(ranked, [i]), *shown)))
    return lines


def named(ranked: Sequence[Candidate], places: Sequence[int]) -> str:
    return "".join(f" {i + 1}={ranked[i].gene}" for i in places)


def favoured(ranked: Sequence[Candidate], name: str) -> list[int]:
    """Places, from 0, of the candidates with the aspect's highest digits; ties in the ranker's order."""
    column = list(ASPECTS).index(name)
    return sorted(range(len(ranked)), key=lambda i: -ranked[i].digits[column])[:NUM_FAVOURED]


def list_line(ranked: Sequence[Candidate], name: str) -> str:
    return f"{name}:{named(ranked, favoured(ranked, name))}"


def voted(ranked: Sequence[Candidate], picked: Sequence[str]) -> list[int]:
    """Places of the NUM_ANSWERED candidates that most of the picked aspects' lists name; ties as they first appear."""
    votes = Counter(i for name in picked for i in favoured(ranked, name))  # keeps the order of appearance
    return [i for i, _ in votes.most_common(NUM_ANSWERED)]


def reasoning_text(ranked: Sequence[Candidate], picked: Sequence[str]) -> str:
    """The whole reply of a reasoner that looks at the aspects `picked`, in that order."""
    order = voted(ranked, picked)
    genes = [ranked[i].gene for i in order]
    lines = [list_line(ranked, name) for name in picked] + [f"order:{named(ranked, order)}"]
    answer = json.dumps({"genes": genes, "explanation": f"{genes[0]} leads on {', '.join(picked)}."})
    return "\n".join(("<think>", *lines, "</think>", answer))


def pick(rng: random.Random, most: int = max(LOOKED_AT)) -> list[str]:
    """Aspects of a warm-up text, in any order."""
    num = min(most, rng.choices(list(LOOKED_AT), weights=list(LOOKED_AT.values()))[0])
    return rng.sample(list(ASPECTS), num)


def made_up(genes: Sequence[str], terms: Sequence[str], rng: random.Random, num: int = 20) -> tuple[RealCase, list[Candidate]]:
    """A case of no patient: random findings, random genes, random digits. All it can teach is how to read and to add."""
    present = tuple(rng.sample(terms, rng.randint(2, 12)))
    excluded = tuple(rng.sample(terms, rng.choice((0, 0, 1, 2, 4))))
    onset = rng.choice(("", f"P{rng.randint(1, 60)}Y", f"P{rng.randint(1, 11)}M", "Infantile onset", "Congenital onset", "Neonatal onset"))
    case = RealCase("", "", rng.choice(("female", "male")), onset, present, excluded)
    merit = [rng.gauss(0, 1) for _ in range(num)]
    columns = {name: scaled([rng.random() * one + rng.gauss(0, 1) for one in merit]) for name in ASPECTS}
    columns["fit"].sort(reverse=True)
    columns["sought"] = [rng.choices((0, 3, 6, 9), weights=(10, 3, 2, 1))[0] if excluded else 0 for _ in merit]
    chosen = rng.sample(genes, num)
    candidates = []
    for i, gene in enumerate(chosen):
        matched = tuple(sorted(rng.sample(range(len(present)), rng.randint(0, min(4, len(present))))))
        candidates.append(Candidate(gene, tuple(columns[name][i] for name in ASPECTS), matched))
    return case, candidates


def scaled(values: Sequence[float]) -> list[int]:
    low, high = min(values), max(values)
    return [round(9 * (value - low) / (high - low)) for value in values]
