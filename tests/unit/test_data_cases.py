"""Ages in words, case reports in prose, and what may never be told."""

from __future__ import annotations

import json
import re

import pytest

from pinetune.data.ages import is_understood, onset_words, parse_duration, patient_words, stage_of_life, with_article
from pinetune.data.case_report import INSTRUCTIONS, CaseFacts, case_messages, case_report, in_sentence, names, without_leaks


@pytest.mark.parametrize(
    ("age", "girl", "unknown", "onset"),
    [
        ("P2Y4M", "2-year-4-month-old girl", "2-year-4-month-old child", "at 2 years and 4 months of age"),
        ("P1Y6M", "18-month-old girl", "18-month-old child", "at 18 months of age"),
        ("P1Y2M3D", "1-year-2-month-3-day-old girl", "1-year-2-month-3-day-old child", "at 1 year, 2 months and 3 days of age"),
        ("P1Y0M", "1-year-old girl", "1-year-old child", "at 1 year of age"),
        ("P0.5Y", "6-month-old girl", "6-month-old infant", "at 6 months of age"),
        ("P0.02Y", "7-day-old girl", "7-day-old newborn", "at 7 days of age"),
        ("P1M9D", "1-month-9-day-old girl", "1-month-9-day-old infant", "at 1 month and 9 days of age"),
        ("P3W", "3-week-old girl", "3-week-old newborn", "at 3 weeks of age"),
        ("P3W2D", "23-day-old girl", "23-day-old newborn", "at 23 days of age"),
        ("P1200D", "3-year-3-month-old girl", "3-year-3-month-old child", "at 3 years and 3 months of age"),
        ("P17Y11M", "17-year-11-month-old girl", "17-year-11-month-old adolescent", "at 17 years and 11 months of age"),
        ("P30Y6M", "30-year-old woman", "30-year-old adult", "at 30 years of age"),
        ("P0D", "newborn girl", "newborn", "at birth"),
        ("PT5H", "newborn girl", "newborn", "at birth"),
        ("P2Y/P4Y", "girl aged between 2 years and 4 years",
         "child aged between 2 years and 4 years", "between 2 years and 4 years of age"),
        ("P0D/P1Y", "girl aged between birth and 1 year", "child aged between birth and 1 year", "between birth and 1 year of age"),
        ("gestation P32W", "female fetus at 32 weeks of gestation", "fetus at 32 weeks of gestation", "at 32 weeks of gestation"),
        ("gestation P16W2D", "female fetus at 16 weeks and 2 days of gestation",
         "fetus at 16 weeks and 2 days of gestation", "at 16 weeks and 2 days of gestation"),
        ("Infantile onset", "female infant", "infant", "in infancy"),
        ("congenital ONSET", "newborn girl", "newborn", "at birth"),
        ("Third trimester onset", "female fetus in the third trimester of pregnancy",
         "fetus in the third trimester of pregnancy", "in the third trimester of pregnancy"),
        ("Antenatal onset", "female fetus", "fetus", "before birth"),
        ("Middle age onset", "woman", "adult", "in middle age"),
    ],
)  # fmt: skip
def test_ages_in_words(age: str, girl: str, unknown: str, onset: str) -> None:
    assert (patient_words(age, "female"), patient_words(age, "unknown"), onset_words(age)) == (girl, unknown, onset)
    assert is_understood(age)


@pytest.mark.parametrize(
    "age", ["P", "PT", "P-1Y", "2 years", "P200Y", "gestation P99W", "Marfan syndrome onset", "P1Y/", "P9" + "9" * 50 + "Y"]
)
def test_what_is_not_understood_is_not_told(age: str) -> None:
    assert not is_understood(age)
    assert onset_words(age) is None
    assert (patient_words(age, "male"), stage_of_life(age)) == ("male patient", "")


def test_a_lifetime_of_ages_has_the_right_noun_and_article() -> None:
    assert parse_duration("P1Y6M") == parse_duration("P18M")
    shown = [with_article(patient_words(f"P{years}Y", "male")) for years in (1, 8, 11, 18, 80, 81, 90)]
    assert shown == [
        "a 1-year-old boy",
        "an 8-year-old boy",
        "an 11-year-old boy",
        "an 18-year-old man",
        "an 80-year-old man",
        "an 81-year-old man",
        "a 90-year-old man",
    ]


@pytest.mark.parametrize(
    ("label", "told"),
    [
        ("Recurrent fever", "recurrent fever"),
        ("EEG abnormality", "EEG abnormality"),
        ("T lymphocytopenia", "T lymphocytopenia"),
        ("Wolff-Parkinson-White syndrome", "Wolff-Parkinson-White syndrome"),
        ("Beta-EEG", "Beta-EEG"),
        ("2-3 toe syndactyly", "2-3 toe syndactyly"),
        ("Babinski sign", "Babinski sign"),
        ("  Soft,\n doughy  skin", "soft, doughy skin"),
        ("", ""),
    ],
)
def test_labels_inside_a_sentence(label: str, told: str) -> None:
    assert in_sentence(label) == told


FACTS = CaseFacts(
    sex="male",
    age="P9Y",
    onset="Infantile onset",
    present=("Chronic diarrhea", "Soft, doughy skin", "Recurrent fever"),
    excluded=("Seizure", "Hepatomegaly"),
    case_id="case-1",
)


def test_a_report_reads_like_a_report() -> None:
    assert case_report(FACTS) == (
        "We evaluated a 9-year-old boy for a suspected monogenic disorder. The first signs were noted in infancy. "
        "The clinical picture comprised chronic diarrhea; soft, doughy skin; and recurrent fever. "
        "There was no evidence of seizure or hepatomegaly."
    )


def test_a_fetus_is_not_seen_in_a_clinic() -> None:
    for i in range(20):
        text = case_report(CaseFacts(age="gestation P21W", onset="gestation P21W", present=("Hydrops fetalis",), case_id=str(i)))
        assert "a fetus at 21 weeks of gestation" in text.replace("A fetus", "a fetus")
        assert "genetics clinic" not in text
        assert "The patient" not in text


def test_wording_is_fixed_by_the_case_and_varies_between_cases() -> None:
    assert case_report(FACTS) == case_report(FACTS)
    texts = {case_report(CaseFacts(sex="male", age="P9Y", present=FACTS.present, case_id=str(i))) for i in range(400)}
    assert len(texts) == 25  # 5 openings x 5 ways to tell the findings
    unnamed = CaseFacts(sex="female", present=("Seizure",))
    assert case_report(unnamed) == case_report(CaseFacts(sex="female", present=("Seizure",)))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 8, 9, 40])
def test_every_finding_is_told_once_and_in_order(count: int) -> None:
    present = tuple(f"Finding p{i}q" for i in range(count))
    excluded = tuple(f"Finding e{i}q" for i in range(count))
    for case in range(15):
        text = case_report(CaseFacts(sex="female", present=present, excluded=excluded, case_id=str(case)))
        assert re.findall(r"finding ([pe]\d+q)", text) == [label.split()[1] for label in (*present, *excluded)]
        assert " were finding p0q." not in text
        assert ("No abnormal findings are recorded." in text) == (count == 0)


def test_the_prompt_is_one_user_message_with_the_instructions() -> None:
    (message,) = case_messages(FACTS)
    assert message["role"] == "user"
    assert message["content"] == f"{case_report(FACTS)}\n\n{INSTRUCTIONS}"
    example = re.search(r"\{.*\}", INSTRUCTIONS)
    assert example is not None
    assert list(json.loads(example[0])) == ["genes", "explanation"]


@pytest.mark.parametrize(
    ("text", "name", "found"),
    [
        ("Reduced ADAMTS13 activity", "ADAMTS13", True),
        ("Reduced adamts13 activity", "ADAMTS13", True),
        ("There was no fever", "WAS", False),
        ("WAS protein absent", "WAS", True),
        ("Hypergalactosemia", "Galactosemia", False),
        ("Severe galactosemia, neonatal", "Galactosemia", True),
        ("Decreased C3 level", "C3", True),
        ("C3a elevated", "C3", False),
        ("anything", "", False),
        ("a(b)c", "(b)", False),
    ],
)
def test_naming_a_gene_or_disease(text: str, name: str, found: bool) -> None:
    assert names(text, name) is found


def test_findings_that_name_the_answer_are_dropped() -> None:
    facts = CaseFacts(present=("Fever", "Low ADAMTS13 activity"), excluded=("Congenital thrombotic purpura", "Seizure"))
    kept, dropped = without_leaks(facts, "ADAMTS13", "Thrombotic purpura")
    assert (kept.present, kept.excluded) == (("Fever",), ("Seizure",))
    assert dropped == ("Low ADAMTS13 activity", "Congenital thrombotic purpura")
    assert without_leaks(facts, "FBN1") == (facts, ())
