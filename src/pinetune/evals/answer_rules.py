"""What an answer says, read off its text: when two samples count as the same answer, and what is shown of it.

    rule = open_rule("json:diagnosis")
    rule.read('{"diagnosis": "Marfan syndrome", "why": "..."}')   # Reading(key="marfan syndrome", shown="Marfan syndrome")

A rule is written NAME or NAME:ARGUMENT; one line of RULES is one rule. Texts in which a rule finds nothing read as None: they vote
for nothing.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from pinetune.data.answers import lookup, normalise
from pinetune.errors import UserError
from pinetune.evals.ranking import ranked_list
from pinetune.graders.gallery.numbers import numbers_in
from pinetune.graders.gallery.reading import only_object

# As the gallery's final_answer grader, and the trigger of ReFT's chains of thought ("Therefore, the answer is:").
PHRASES = ("####", "the answer is", "final answer:", "answer:", "\\boxed{")
# "The answer is (C)", "Answer: C", "choice C". The word is read in any case, a bare letter in capitals only: "the answer is a gene".
STATED_CHOICE = re.compile(r"(?i:answer|choice|option)(?i:\s+is)?\s*[:=]?\s*[*_\"'`]*(?:\(([A-Ja-j])\)|([A-J])(?![\w']))")
LONE_CHOICE = re.compile(r"[\s(\[*_\"'`]*([A-Ja-j])[\s)\].:*_\"'`]*")
LEADING_CHOICE = re.compile(r"\s*[(\[*_]*([A-J])[)\].:]")


@dataclass(frozen=True, slots=True)
class Reading:
    """What one text says. Texts with equal keys give the same answer; `shown` is that answer as the model wrote it."""

    key: str
    shown: str


class Rule(Protocol):
    @property
    def name(self) -> str:
        """How the rule was written, its argument included."""
        ...

    def read(self, text: str) -> Reading | None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class TextRule:
    """A rule that needs nothing but the text."""

    name: str
    reader: Callable[[str, str], Reading | None]  # (text, the rule's argument)
    argument: str = ""

    def read(self, text: str) -> Reading | None:
        return self.reader(text, self.argument)

    def close(self) -> None:
        """Nothing is held."""


def whole_text(text: str, _: str) -> Reading | None:
    """The whole answer. An answer that is JSON counts by its value: key order and layout make no difference."""
    if not text.strip():
        return None
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    return Reading(normalise(value), text.strip())


def json_field(text: str, field: str) -> Reading | None:
    """The value at a dotted path of the answer's one JSON object."""
    found = only_object(text)
    value = None if found is None else lookup(found, field)
    if value is None:
        return None
    return Reading(normalise(value), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def first_of_list(text: str, field: str) -> Reading | None:
    """The first entry of the answer's ranked list."""
    listed = ranked_list(text, field or None)
    return Reading(normalise(listed[0]), listed[0].strip()) if listed else None


def stated_number(text: str, phrase: str) -> Reading | None:
    """The first number after the last trigger phrase (`phrase`, else any of PHRASES)."""
    phrases = "|".join(re.escape(one) for one in ((phrase,) if phrase else PHRASES))
    places = list(re.finditer(phrases, text, re.IGNORECASE))
    return _number(numbers_in(text[places[-1].end() :])[:1]) if places else None


def last_number(text: str, _: str) -> Reading | None:
    """The last number of the text, whatever stands before it."""
    return _number(numbers_in(text)[-1:])


def choice(text: str, _: str) -> Reading | None:
    """The letter, A to J, of a multiple-choice answer: as it is stated last, else alone, else in front."""
    stated = STATED_CHOICE.findall(text)
    if stated:
        letter = (stated[-1][0] or stated[-1][1]).upper()
        return Reading(letter, letter)
    lines = text.strip().splitlines() or [""]
    match = LONE_CHOICE.fullmatch(text) or LONE_CHOICE.fullmatch(lines[-1]) or LEADING_CHOICE.match(text)
    return Reading(match[1].upper(), match[1].upper()) if match else None


def number_key(number: float) -> str:
    """Six digits: programs and people round differently, and 0.333333 and 1/3 are one answer."""
    return f"{number:.6g}"


def _number(found: list[float]) -> Reading | None:
    return Reading(number_key(found[0]), f"{found[0]:.12g}") if found else None


# name: (reader, what the argument is: "" none, "[...]" optional, what it does)
RULES: dict[str, tuple[Callable[[str, str], Reading | None], str, str]] = {
    "text": (whole_text, "", "the whole answer, without regard to case and white space"),
    "json": (json_field, "FIELD", "one field of the answer's JSON object"),
    "first": (first_of_list, "[FIELD]", "the first entry of a ranked list"),
    "number": (stated_number, "[PHRASE]", 'the number after a phrase such as "The answer is" or "####"'),
    "last_number": (last_number, "", "the last number in the answer"),
    "choice": (choice, "", "a multiple-choice letter"),
}
# Ranked lists are put together, not counted: see voting.py. Their readings are first entries.
AGGREGATES: dict[str, str] = {
    "borda": "ranked lists put together by Borda points",
    "reciprocal": "ranked lists put together by the sum of 1 / place",
}
PROGRAM = "program"  # runs what it reads: program_rule.py


def open_rule(written: str, *, unsafe_python: bool = False) -> Rule:
    """The rule of a text such as "first" or "json:diagnosis"; close it when done.

    Raises UserError for an unknown rule or a missing argument, MissingToolError where programs cannot be confined on this host and
    `unsafe_python` does not allow it.
    """
    name, _, argument = written.partition(":")
    if name == PROGRAM and not argument:
        from pinetune.evals.program_rule import ProgramRule

        return ProgramRule(unsafe_python=unsafe_python)
    if name in AGGREGATES:
        return TextRule(written, first_of_list, argument)
    if name not in RULES:
        known = [*RULES, *AGGREGATES, PROGRAM]
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        raise UserError(f"rule {written!r}: unknown; {f'did you mean {near[0]!r}? ' if near else ''}known: {', '.join(known)}")
    reader, takes, _ = RULES[name]
    if takes == "FIELD" and not argument:
        raise UserError(f"rule {written!r}: names no field; write {name}:FIELD, as {name}:diagnosis or {name}:answer.code")
    if not takes and argument:
        raise UserError(f"rule {written!r}: {name} takes no argument; write {name}")
    return TextRule(written, reader, argument)
