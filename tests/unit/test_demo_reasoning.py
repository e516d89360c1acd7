"""The warm-up texts are correct computations: checked by hand on a toy table of three genes."""

from __future__ import annotations

import json
import random
from typing import Any

from pinetune.demo.cases import Case, draw_cases
from pinetune.demo.facts import Fact, FactTable, load_facts
from pinetune.demo.gene_grader import grade
from pinetune.demo.reasoning import careless, ranked, tally, thorough, warm_up

TOY = FactTable(
    (
        Fact("TSC2", "", ("Seizure", "Angiofibroma", "Angiomyolipoma")),
        Fact("NF1", "", ("Seizure", "Scoliosis", "Lisch nodules")),
        Fact("FBN1", "", ("Scoliosis", "Ectopia lentis")),
    )
)
CASE = Case("TSC2", "female", 4, ("Seizure", "Angiofibroma", "Scoliosis", "Fever"), ("Lisch nodules", "Ectopia lentis"))


def test_points_are_findings_for_minus_findings_against() -> None:
    # TSC2: Seizure + Angiofibroma. NF1: Seizure + Scoliosis - Lisch nodules. FBN1: Scoliosis - Ectopia lentis.
    assert tally(TOY, CASE.present, CASE.excluded) == {"NF1": 1, "TSC2": 2, "FBN1": 0}


def test_an_excluded_finding_does_not_bring_in_a_gene() -> None:
    assert tally(TOY, ("Angiofibroma",), ("Ectopia lentis",)) == {"TSC2": 1}


def test_a_thorough_text_looks_up_everything_and_ranks() -> None:
    assert thorough(TOY, CASE) == (
        "<think>\n- Seizure: NF1 TSC2\n- Angiofibroma: TSC2\n- Scoliosis: FBN1 NF1\n- Fever: many\n"
        "- no Lisch nodules: NF1\n- no Ectopia lentis: FBN1\n</think>\n"
        '{"genes": ["TSC2", "NF1", "FBN1"], "explanation": "TSC2 fits 2 of 4 findings."}'
    )


def test_ties_stay_in_the_order_of_recall() -> None:
    assert ranked({"NF1": 1, "TSC2": 2, "FBN1": 1, "APC": 2}) == ["TSC2", "APC", "NF1", "FBN1"]


def test_a_careless_text_stops_early_and_names_genes_as_recalled() -> None:
    assert careless(TOY, CASE, 1) == (
        '<think>\n- Seizure: NF1 TSC2\n</think>\n{"genes": ["NF1", "TSC2"], "explanation": "NF1 fits 1 of 1 findings."}'
    )
    unknown_first = Case("NF1", "male", 4, ("Fever", "Scoliosis", "Seizure", "Angiofibroma"), ("Angiomyolipoma",))
    assert careless(TOY, unknown_first, 2) == (
        "<think>\n- Fever: many\n- Scoliosis: FBN1 NF1\n- Seizure: NF1 TSC2\n</think>\n"
        '{"genes": ["FBN1", "NF1", "TSC2"], "explanation": "FBN1 fits 1 of 3 findings."}'
    )


def test_texts_do_not_depend_on_the_right_gene() -> None:
    liar = Case("FBN1", CASE.sex, CASE.age, CASE.present, CASE.excluded)
    for seed in range(50):
        assert warm_up(TOY, CASE, random.Random(seed)) == warm_up(TOY, liar, random.Random(seed))


def test_thoroughness_is_what_the_demo_has_to_learn() -> None:
    """Thorough texts solve the shipped cases, careless ones do not: the room for learning the demo is about."""
    table = load_facts()
    cases = draw_cases(table, table.genes, 300, "test")
    solved = sum(_score(thorough(table, case), case) == 1.0 for case in cases) / len(cases)
    guessed = sum(_score(careless(table, case, 1), case) == 1.0 for case in cases) / len(cases)
    assert solved > 0.9
    assert guessed < 0.25


def _genes(text: str) -> list[str]:
    genes: list[str] = json.loads(text.split("</think>")[1])["genes"]
    return genes


def _score(text: str, case: Case) -> float:
    sample: dict[str, Any] = {"output_text": text.split("</think>")[1]}
    return grade(sample, {"reference_answer": case.gene})
