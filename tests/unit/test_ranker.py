"""The classical ranker, by hand on a toy ontology, and its published figures on the real tables where they are present."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pinetune.demo.ranker import PhenotypeRanker

# root - a - a1, a2
#      \ b
PARENTS = {"a": ["root"], "b": ["root"], "a1": ["a"], "a2": ["a"]}
PROFILES = {"P1": {"a1"}, "P2": {"a2"}, "P3": {"b"}, "P4": {"a1", "b"}}
LN2 = math.log(2)
LN4_3 = math.log(4 / 3)
DATA = Path(__file__).parents[3] / "shared" / "data"


def test_information_content_counts_profiles_that_hold_the_term_or_a_descendant() -> None:
    information = PhenotypeRanker(PROFILES, PARENTS).information
    assert information == pytest.approx({"root": 0.0, "a": LN4_3, "a1": LN2, "a2": math.log(4), "b": LN2})


def test_a_relative_counts_as_much_as_the_most_specific_common_ancestor() -> None:
    ranker = PhenotypeRanker(PROFILES, PARENTS)
    assert ranker.profile_scores(["a1"]) == pytest.approx([LN2, LN4_3, 0.0, LN2])
    assert ranker.profile_scores(["a2"]) == pytest.approx([LN4_3, math.log(4), 0.0, LN4_3])
    assert ranker.profile_scores(["a"]) == pytest.approx([LN4_3, LN4_3, 0.0, LN4_3])


def test_the_score_is_the_mean_over_distinct_findings_and_an_unknown_finding_matches_nothing() -> None:
    ranker = PhenotypeRanker(PROFILES, PARENTS)
    assert ranker.profile_scores(["a1", "b"]) == pytest.approx([LN2 / 2, LN4_3 / 2, LN2 / 2, LN2])
    assert ranker.profile_scores(["a1", "a1", "b"]) == pytest.approx([LN2 / 2, LN4_3 / 2, LN2 / 2, LN2])
    assert ranker.profile_scores(["a1", "no such term"]) == pytest.approx([LN2 / 2, LN4_3 / 2, 0.0, LN2 / 2])
    assert ranker.profile_scores([]).tolist() == [0.0, 0.0, 0.0, 0.0]


def test_a_gene_takes_its_best_profile_not_the_sum() -> None:
    ranker = PhenotypeRanker(PROFILES, PARENTS, genes={"P1": ["G1"], "P3": ["G1"], "P2": ["G2"], "P4": ["G3", "G4"]})
    assert ranker.genes == ("G1", "G2", "G3", "G4")
    assert [gene for gene, _ in ranker.rank(["a1", "b"])] == ["G3", "G4", "G1", "G2"]
    assert ranker.scores(["a1", "b"]) == pytest.approx([LN2 / 2, LN4_3 / 2, LN2, LN2])


def test_a_profile_without_genes_is_not_ranked_but_counts_for_rarity() -> None:
    ranker = PhenotypeRanker(PROFILES, PARENTS, genes={"P2": ["G2"]})
    assert ranker.rank(["a2"]) == [("G2", pytest.approx(math.log(4)))]


def test_without_an_ontology_it_is_overlap_weighted_by_information_content() -> None:
    ranker = PhenotypeRanker(PROFILES)
    assert ranker.profile_scores(["a1", "a2"]) == pytest.approx([LN2 / 2, math.log(4) / 2, 0.0, LN2 / 2])
    assert ranker.rank(["a1"])[:2] == [("P1", pytest.approx(LN2)), ("P4", pytest.approx(LN2))]  # a tie: by name


def test_ties_are_ordered_by_name_and_quoted_at_the_middle_of_their_places() -> None:
    ranker = PhenotypeRanker({"C": {"x"}, "A": {"x"}, "B": {"x"}, "D": {"y"}})
    assert [gene for gene, _ in ranker.rank(["x"])] == ["A", "B", "C", "D"]
    assert [ranker.midrank(gene, ["x"]) for gene in "ABCD"] == [2.0, 2.0, 2.0, 4.0]
    assert ranker.midrank("not in the tables", ["x"]) == math.inf


def test_sums_in_another_order_still_tie() -> None:
    # 0.1 + 0.2 + 0.3 differs from 0.3 + 0.2 + 0.1 in the last bit; both genes hold the same findings.
    profiles = {"A": {"x", "y", "z"}, "B": {"x", "y", "z"}, "C": {"x"}, "D": {"y"}, "E": {"y"}, "F": {"w"}}
    ranker = PhenotypeRanker(profiles)
    assert ranker.scores(["x", "y", "z"]).tolist() == ranker.scores(["z", "y", "x"]).tolist()


def test_excluded_findings_cost_their_information_only_when_asked_and_only_if_held_or_implied() -> None:
    assert PhenotypeRanker(PROFILES, PARENTS).profile_scores(["b"], ["a"]) == pytest.approx([0.0, 0.0, LN2, LN2])
    ranker = PhenotypeRanker(PROFILES, PARENTS, excluded_weight=0.5)
    assert ranker.profile_scores(["b"], ["a", "no such term"]) == pytest.approx([-LN4_3 / 2, -LN4_3 / 2, LN2, LN2 - LN4_3 / 2])
    assert ranker.profile_scores(["b"], ["a2"]) == pytest.approx([0.0, -math.log(4) / 2, LN2, LN2])


def test_no_profiles_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one profile"):
        PhenotypeRanker({})


def read_gz(name: str) -> list[dict[str, Any]]:
    with gzip.open(DATA / name, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "kb").is_dir(), reason="the real tables (../shared/data/kb, rare) are not on this machine")
def test_the_real_tables_give_the_published_figures() -> None:
    diseases = read_gz("kb/diseases_2023_clean.jsonl.gz")
    ranker = PhenotypeRanker(
        {d["id"]: [term for term, _ in d["terms"]] for d in diseases},
        {t["id"]: t["parents"] for t in read_gz("kb/hp_terms.jsonl.gz")},
        genes={d["id"]: d["genes"] for d in diseases},
    )
    assert len(ranker.genes) == 4875

    def shares(name: str) -> list[float]:
        ranks = np.array([ranker.midrank(c["gene"], [f["id"] for f in c["present"]]) for c in read_gz(name)])
        return [round(100 * float((ranks <= k).mean()), 1) for k in (1, 5, 50)]

    assert shares("rare/demo_valid.jsonl.gz") == [18.0, 33.0, 43.5]
    assert shares("rare/demo_train.jsonl.gz")[0] == 10.2
