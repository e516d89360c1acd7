"""A case report in prose from the facts of a case, and the prompt built on it.

The wording varies from case to case, fixed by the case id, so that a model learns to read findings and not a form.
Only sex, age, onset and findings ever reach the model: `without_leaks` also drops findings that spell out the answer.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pinetune.data.ages import onset_words, patient_words, stage_of_life, with_article

INSTRUCTIONS = (
    "List all genes in which a variant could cause this patient's condition, from most to least likely, and explain your ranking. "
    "Use official HGNC gene symbols, each at most once. Answer with one JSON object and nothing else: "
    '{"genes": ["most likely gene", "next gene"], "explanation": "which findings point to these genes"}'
)
ANSWER_SCHEMA: Mapping[str, Any] = {  # for `response_format`
    "type": "object",
    "properties": {"genes": {"type": "array", "items": {"type": "string"}}, "explanation": {"type": "string"}},
    "required": ["genes", "explanation"],
    "additionalProperties": False,
}

OPENINGS = (
    "{Patient} was referred for genetic evaluation.",
    "{Patient} was seen in the genetics clinic.",
    "{Patient} was assessed for a suspected genetic disorder.",
    "We evaluated {patient} for a suspected monogenic disorder.",
    "This report concerns {patient}.",
)
FETAL_OPENINGS = (
    "{Patient} was evaluated for a suspected genetic disorder.",
    "This report concerns {patient}.",
    "Genetic evaluation was requested for {patient}.",
)
ONSETS = (
    "The first signs were noted {when}.",
    "Symptoms began {when}.",
    "The condition became apparent {when}.",
    "Onset was {when}.",
)
FIRST_FINDINGS = (
    "Clinical findings included {list}.",
    "The clinical picture comprised {list}.",
    "Examination and work-up showed {list}.",
    "{Pronoun} presented with {list}.",
    "The main findings were {list}.",
)
MORE_FINDINGS = (
    "{Pronoun} also had {list}.",
    "Further findings were {list}.",
    "In addition, the record notes {list}.",
    "Other features included {list}.",
)
NEGATIVES = (
    "There was no evidence of {or_list}.",
    "{Pronoun} had no {or_list}.",
    "Looked for and not found: {list}.",
    "Pertinent negatives: {list}.",
    "{Pronoun} did not have {or_list}.",
)
NO_FINDINGS = "No abnormal findings are recorded."
FINDINGS_PER_SENTENCE = (4, 7)

# HPO labels that open with a name keep its capital inside a sentence.
_NAMES = """
Achilles Alzheimer Arnold Auer Axenfeld Babinski Beau's Beevor's Bell Bence Bowman Brugada Brushfield Budd Burkitt
Caesarean Charcot Cheyne Chiari Clostridium Cobb Collier's Coombs Crohn Crohn's Cushing Dandy Darier's Descemet Duane
Dupuytren Ebstein Epstein Ewing Fanconi Flexner Gottron's Gowers Haemophilus Hashimoto Heberden Heinz Hirschsprung
Hoffmann Hodgkin Horner Howell Kaposi's Kayser Klippel Legg Lester's Leydig Lhermitte's Libman Lisch Madelung
Majocchi's Mallory Marcus Meckel Meniere Michaelis Mobitz Mycobacterium Osgood Paget Parkinson Pelger Peters Pierre
Purkinje Raynaud Rathke Rieger Rokitansky Romberg Scheuermann Schmorl's Schwann Sertoli Sprengel Sylvian Tanner
Tourette Trendelenburg Turner Uhl's Vater Wilms Wolff Wormian Zollinger
"""
PROPER_FIRST_WORDS = frozenset(_NAMES.split())


@dataclass(frozen=True, slots=True)
class CaseFacts:
    """What may be told of a case. Ages in the forms of `data.ages`; findings as HPO labels, in the order to tell them.

    >>> case_report(CaseFacts(sex="female", age="P2Y4M", present=("Optic atrophy",), case_id="c3"))
    'A 2-year-4-month-old girl was assessed for a suspected genetic disorder. The clinical picture comprised optic atrophy.'
    """

    sex: str = "unknown"  # female, male, unknown
    age: str | None = None
    onset: str | None = None
    present: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    case_id: str = ""  # never shown; fixes the wording. Empty = the facts themselves fix it


def case_messages(facts: CaseFacts) -> list[dict[str, str]]:
    """The prompt of a case: one user message (some chat templates refuse a system role) of report and instructions."""
    return [{"role": "user", "content": f"{case_report(facts)}\n\n{INSTRUCTIONS}"}]


def case_report(facts: CaseFacts) -> str:
    """The case as one paragraph of clinical English; the same facts and id always give the same words."""
    rng = _wording(facts)
    stage = stage_of_life(facts.age)
    patient = with_article(patient_words(facts.age, facts.sex))
    openings = FETAL_OPENINGS if stage == "fetus" else OPENINGS
    sentences = [rng.choice(openings).format(patient=patient, Patient=patient[:1].upper() + patient[1:])]
    when = onset_words(facts.onset)
    if when and facts.onset != facts.age:
        sentences.append(rng.choice(ONSETS).format(when=when))
    pronoun = {"female": "She", "male": "He"}.get(facts.sex, "The patient") if stage != "fetus" else "The fetus"
    sentences += _tell(facts.present, FIRST_FINDINGS, MORE_FINDINGS, pronoun, rng) or [NO_FINDINGS]
    sentences += _tell(facts.excluded, NEGATIVES, NEGATIVES, pronoun, rng)
    return " ".join(sentences)


def without_leaks(facts: CaseFacts, gene: str, disease: str = "") -> tuple[CaseFacts, tuple[str, ...]]:
    """The facts without findings that name the gene or the disease, and the labels that were dropped."""
    dropped = tuple(label for label in (*facts.present, *facts.excluded) if names(label, gene) or (disease and names(label, disease)))
    if not dropped:
        return facts, ()
    kept = replace(
        facts,
        present=tuple(label for label in facts.present if label not in dropped),
        excluded=tuple(label for label in facts.excluded if label not in dropped),
    )
    return kept, dropped


def names(text: str, name: str) -> bool:
    """Whether `text` holds `name` as a word. Symbols of capitals alone must match in case: WAS, SET and CAT are genes.

    >>> names("Reduced ADAMTS13 activity", "ADAMTS13"), names("There was no fever", "WAS"), names("Hypergalactosemia", "Galactosemia")
    (True, False, False)
    """
    if not name or name.casefold() not in text.casefold():  # the usual case, without building a pattern
        return False
    exact = name.isupper() and name.isalpha()
    return bool(re.search(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", text, 0 if exact else re.IGNORECASE))


def in_sentence(label: str) -> str:
    """An HPO label as it stands inside a sentence: names, acronyms and single letters keep their capital.

    >>> [in_sentence(label) for label in ("Recurrent fever", "EEG abnormality", "T lymphocytopenia", "Chiari malformation")]
    ['recurrent fever', 'EEG abnormality', 'T lymphocytopenia', 'Chiari malformation']
    """
    label = " ".join(label.split())
    first = label.split(" ", 1)[0]
    stem = first.split("-", 1)[0]
    if stem in PROPER_FIRST_WORDS or len(stem) == 1 or any(c.isupper() or c.isdigit() for c in first[1:]):
        return label
    return label[:1].lower() + label[1:]


def _tell(labels: Sequence[str], first: Sequence[str], more: Sequence[str], pronoun: str, rng: random.Random) -> list[str]:
    """Sentences of 4 to 7 findings each; a sentence form comes back only once all have been used."""
    sentences: list[str] = []
    pool = list(first)
    start = 0
    while start < len(labels):
        size = rng.randint(*FINDINGS_PER_SENTENCE)
        if len(labels) - start - size == 1:  # no sentence for one left-over finding
            size += 1
        chunk = [in_sentence(label) for label in labels[start : start + size]]
        fitting = [template for template in pool if len(chunk) > 1 or " were " not in template]
        template = rng.choice(fitting)
        pool.remove(template)
        if not sentences and first is not more:
            pool = []
        pool = pool or list(more)
        sentences.append(template.format(Pronoun=pronoun, list=_join(chunk, "and"), or_list=_join(chunk, "or")))
        start += size
    return sentences


def _join(items: Sequence[str], last: str) -> str:
    if len(items) < 3 and not any("," in item for item in items):
        return f" {last} ".join(items)
    mark = "; " if any("," in item for item in items) else ", "
    return f"{mark.join(items[:-1])}{mark}{last} {items[-1]}" if len(items) > 1 else items[0]


def _wording(facts: CaseFacts) -> random.Random:
    seed = facts.case_id or repr((facts.sex, facts.age, facts.onset, facts.present, facts.excluded))
    return random.Random(hashlib.sha256(seed.encode("utf-8", "surrogatepass")).digest())
