"""Ages and onsets as phenopackets write them, in a clinician's words.

Forms: ISO 8601 durations (`P2Y4M`), ranges of them (`P2Y/P4Y`), gestational ages (`gestation P32W2D`) and HPO onset
labels (`Infantile onset`). What is not understood gives None: a label nobody checked may name the disease.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

DURATION = re.compile(
    r"P(?=\d|T\d)(?:(\d+(?:\.\d+)?)Y)?(?:(\d+(?:\.\d+)?)M)?(?:(\d+(?:\.\d+)?)W)?(?:(\d+(?:\.\d+)?)D)?"
    r"(?:T(?:\d+(?:\.\d+)?H)?(?:\d+(?:\.\d+)?M)?(?:\d+(?:\.\d+)?S)?)?"
)
MAX_YEARS = 130
DAYS_PER_MONTH = 30.44
ADOLESCENT_YEARS = 13
ADULT_YEARS = 18

ONSETS = {  # HPO onset class (HP:0003674 and below), lower case, without " onset" -> (when, stage of life)
    "antenatal": ("before birth", "fetus"),
    "embryonal": ("in the embryonic period", "fetus"),
    "fetal": ("during fetal life", "fetus"),
    "late first trimester": ("late in the first trimester of pregnancy", "fetus"),
    "second trimester": ("in the second trimester of pregnancy", "fetus"),
    "third trimester": ("in the third trimester of pregnancy", "fetus"),
    "congenital": ("at birth", "newborn"),
    "neonatal": ("in the neonatal period", "newborn"),
    "infantile": ("in infancy", "infant"),
    "childhood": ("in childhood", "child"),
    "pediatric": ("before adulthood", "child"),
    "juvenile": ("in later childhood or adolescence", "child"),
    "adult": ("in adulthood", "adult"),
    "young adult": ("in young adulthood", "adult"),
    "early young adult": ("in the late teens", "adult"),
    "intermediate young adult": ("in the early twenties", "adult"),
    "late young adult": ("between 25 and 40 years of age", "adult"),
    "middle age": ("in middle age", "adult"),
    "late": ("after the age of 60", "adult"),
}
NOUNS = {  # stage of life -> (female, male, unknown)
    "fetus": ("female fetus", "male fetus", "fetus"),
    "newborn": ("newborn girl", "newborn boy", "newborn"),
    "infant": ("female infant", "male infant", "infant"),
    "child": ("girl", "boy", "child"),
    "adolescent": ("girl", "boy", "adolescent"),
    "adult": ("woman", "man", "adult"),
    "": ("female patient", "male patient", "patient"),
}


@dataclass(frozen=True, slots=True)
class Duration:
    """Whole months and days; `years` and `weeks` are folded into them, weeks only where they stand alone."""

    months: int = 0
    weeks: int = 0
    days: int = 0

    @property
    def in_days(self) -> float:
        return self.months * DAYS_PER_MONTH + self.weeks * 7 + self.days

    @property
    def stage(self) -> str:
        if self.in_days < 28:
            return "newborn"
        if self.months < 12 and self.in_days < 365:
            return "infant"
        if self.months < 12 * ADOLESCENT_YEARS:
            return "child"
        return "adolescent" if self.months < 12 * ADULT_YEARS else "adult"

    def units(self) -> list[tuple[int, str]]:
        """Non-zero (number, unit) pairs as a clinician says them: 18 months, 2 years 4 months, 30 years."""
        years, months = divmod(self.months, 12)
        if self.months < 24 and self.months % 12 and not self.days:
            years, months = 0, self.months
        if years >= ADULT_YEARS:
            return [(years, "year")]
        days = 0 if years >= 2 else self.days
        return [(n, unit) for n, unit in ((years, "year"), (months, "month"), (self.weeks, "week"), (days, "day")) if n]


def parse_duration(text: str) -> Duration | None:
    """An ISO 8601 duration, or None if it is not one or beyond a human life. Hours and less count as zero days.

    >>> parse_duration("P2Y4M"), parse_duration("P0.5Y"), parse_duration("PT5H"), parse_duration("2 years")
    (Duration(months=28, weeks=0, days=0), Duration(months=6, weeks=0, days=0), Duration(months=0, weeks=0, days=0), None)
    """
    match = DURATION.fullmatch(text.strip())
    if match is None or len(text) > 40:
        return None
    years, months, weeks, days = (float(group or 0) for group in match.groups())
    total = years * 12 + months
    whole = math.floor(total + 1e-9)
    rest = weeks * 7 + days + (total - whole) * DAYS_PER_MONTH
    if total > MAX_YEARS * 12 or rest > MAX_YEARS * 365:
        return None
    if not total and not days and weeks.is_integer() and weeks < 52:
        return Duration(weeks=int(weeks))
    if rest >= 365:  # P1200D
        whole, rest = whole + int(rest // DAYS_PER_MONTH), rest % DAYS_PER_MONTH
    return Duration(months=whole, days=math.floor(rest + 1e-6))


def parse_gestation(text: str) -> Duration | None:
    """`gestation P32W2D` as weeks and days, or None."""
    if not text.casefold().startswith("gestation "):
        return None
    match = re.fullmatch(r"P(\d{1,2})W(?:(\d)D)?", text[len("gestation ") :].strip())
    return Duration(weeks=int(match[1]), days=int(match[2] or 0)) if match and 1 <= int(match[1]) <= 45 else None


def onset_words(text: str | None) -> str | None:
    """When something began: "at 7 months of age", "in infancy", "at 32 weeks of gestation"; None if not understood."""
    if not text:
        return None
    if gestation := parse_gestation(text):
        return f"at {_spell(gestation)} of gestation"
    if label := ONSETS.get(_onset_key(text)):
        return label[0]
    if ends := _parse_range(text):
        return f"between {_spell(ends[0])} and {_spell(ends[1])} of age"
    duration = parse_duration(text)
    if duration is None:
        return None
    return f"at {_spell(duration)} of age" if duration.units() else "at birth"


def patient_words(age: str | None, sex: str) -> str:
    """Who the patient is, without article: "2-year-4-month-old girl", "male fetus at 32 weeks of gestation", "patient"."""
    if not age:
        return _noun("", sex)
    if gestation := parse_gestation(age):
        return f"{_noun('fetus', sex)} at {_spell(gestation)} of gestation"
    if label := ONSETS.get(_onset_key(age)):
        stage = label[1]
        return f"{_noun(stage, sex)} {label[0]}" if stage == "fetus" and label[0].startswith(("in the", "late")) else _noun(stage, sex)
    if ends := _parse_range(age):
        return f"{_noun(ends[1].stage, sex)} aged between {_spell(ends[0])} and {_spell(ends[1])}"
    duration = parse_duration(age)
    if duration is None:
        return _noun("", sex)
    if not duration.units():
        return _noun("newborn", sex)
    aged = "-".join(f"{n}-{unit}" for n, unit in duration.units())
    stage = "child" if sex in ("female", "male") and duration.stage in ("newborn", "infant") else duration.stage
    return f"{aged}-old {_noun(stage, sex)}"


def stage_of_life(age: str | None) -> str:
    """fetus, newborn, infant, child, adolescent, adult, or "" where the age says nothing."""
    if not age:
        return ""
    if parse_gestation(age):
        return "fetus"
    if label := ONSETS.get(_onset_key(age)):
        return label[1]
    if ends := _parse_range(age):
        return ends[1].stage
    duration = parse_duration(age)
    return duration.stage if duration else ""


def is_understood(text: str | None) -> bool:
    """False for a text that is there but says nothing to us."""
    return not text or onset_words(text) is not None


def with_article(noun: str) -> str:
    """
    >>> with_article("8-year-old boy"), with_article("infant"), with_article("2-day-old boy")
    ('an 8-year-old boy', 'an infant', 'a 2-day-old boy')
    """
    number = re.match(r"\d+", noun)
    vowel = (number[0].startswith("8") or number[0] in ("11", "18")) if number else noun[:1].casefold() in tuple("aeio")
    return f"{'an' if vowel else 'a'} {noun}"


def _parse_range(text: str) -> tuple[Duration, Duration] | None:
    first, slash, second = text.partition("/")
    if not slash:
        return None
    low, high = parse_duration(first), parse_duration(second)
    return (low, high) if low and high and high.units() else None


def _spell(duration: Duration) -> str:
    *units, last = [f"{n} {unit}{'s' * (n != 1)}" for n, unit in duration.units()] or ["birth"]
    return f"{', '.join(units)} and {last}" if units else last


def _noun(stage: str, sex: str) -> str:
    female, male, unknown = NOUNS[stage]
    return {"female": female, "male": male}.get(sex, unknown)


def _onset_key(text: str) -> str:
    return " ".join(text.casefold().split()).removesuffix(" onset")
