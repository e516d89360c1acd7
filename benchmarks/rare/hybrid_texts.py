"""The hybrid job's texts: the ranker's candidates with their evidence as a prompt, and the reasoning its base is warmed up on.

    A boy or man, infantile onset.
    Present: a Chronic diarrhea; b Recurrent fever
    Absent: Hepatomegaly
    Candidates:
    b a: fit9 own4 exact7 best9 typical4 odds7 few3 sought9 ADA2
    a: fit9 own4 exact9 best6 typical6 odds9 few5 sought0 PGM3
    ...

    <think>
    own sought
    </think>
    {"genes": ["ADA2", "PGM3"], "explanation": "ADA2 leads on own, sought."}

The reasoning names the aspects it looks at; the answer lists the candidates by the sum of those aspects' digits (ties in the
ranker's order). It is the same procedure whichever aspects it names, and the warm-up names them blindly: mostly one, any.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

from aspects import ASPECTS, Candidate
from tables import RealCase, age_in_words, labels

INSTRUCTION = 'Rank the genes that could cause this, most likely first. Answer as JSON: {"genes": [...], "explanation": "..."}'
NUM_ANSWERED = 10  # the gene grader pays nothing past rank 10
MOST_MATCHES_SHOWN = 5
MOST_SHOWN = 20  # findings of a case; 1 case in 12 has more
MOST_ABSENT = 6
LETTERS = "abcdefghijklmnopqrst"
# Aspects looked at -> share of the warm-up texts.
LOOKED_AT = {1: 0.55, 2: 0.25, 3: 0.12, 4: 0.06, 5: 0.02}

PERSON = {"female": "A girl or woman", "male": "A boy or man"}


def prompt_text(case: RealCase, ranked: Sequence[Candidate]) -> str:
    """What the model is shown."""
    onset = f", {age_in_words(case.onset)}" if case.onset else ""
    present = "; ".join(f"{letter} {labels()[term]}" for letter, term in zip(LETTERS, case.present, strict=False))
    lines = [f"{PERSON.get(case.sex, 'A person')}{onset}.", f"Present: {present}"]
    if case.excluded:
        lines.append(f"Absent: {'; '.join(labels()[term] for term in case.excluded[:MOST_ABSENT])}")
    lines += ["Candidates:", *candidate_lines(ranked), INSTRUCTION]
    return "\n".join(lines)


def candidate_lines(ranked: Sequence[Candidate]) -> list[str]:
    lines = []
    for candidate in ranked:
        digits = " ".join(f"{name}{digit}" for name, digit in zip(ASPECTS, candidate.digits, strict=True))
        shown = [LETTERS[i] for i in candidate.matched if i < len(LETTERS)][:MOST_MATCHES_SHOWN]
        lines.append(f"{' '.join(shown)}: {digits} {candidate.gene}")
    return lines


def points(candidate: Candidate, picked: Sequence[str]) -> int:
    digits = dict(zip(ASPECTS, candidate.digits, strict=True))
    return sum(digits[name] for name in picked)


def reasoning_text(ranked: Sequence[Candidate], picked: Sequence[str]) -> str:
    """The whole reply of a reasoner that looks at the aspects `picked`."""
    order = sorted(ranked, key=lambda candidate: -points(candidate, picked))[:NUM_ANSWERED]
    genes = [candidate.gene for candidate in order]
    answer = json.dumps({"genes": genes, "explanation": f"{genes[0]} leads on {', '.join(picked)}."})
    return f"<think>\n{' '.join(picked)}\n</think>\n{answer}"


def pick(rng: random.Random) -> list[str]:
    """Aspects of a warm-up text, in the order of ASPECTS."""
    num = rng.choices(list(LOOKED_AT), weights=list(LOOKED_AT.values()))[0]
    return sorted(rng.sample(list(ASPECTS), num), key=list(ASPECTS).index)


def made_up(genes: Sequence[str], terms: Sequence[str], rng: random.Random, num: int = 20) -> tuple[RealCase, list[Candidate]]:
    """A case of no patient: random findings, random genes, random digits. All it can teach is how to read and to add."""
    present = tuple(rng.sample(terms, rng.choice((1, 2, 2, 3, 5))))
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
        matched = tuple(sorted(rng.sample(range(len(present)), rng.randint(0, min(2, len(present))))))
        candidates.append(Candidate(gene, tuple(columns[name][i] for name in ASPECTS), matched))
    return case, candidates


def scaled(values: Sequence[float]) -> list[int]:
    low, high = min(values), max(values)
    return [round(9 * (value - low) / (high - low)) for value in values]
