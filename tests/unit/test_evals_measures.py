"""The numbers of a run, and two runs row by row: exact values on tiny runs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pinetune.evals.measures import Reading, compare_runs, measure

ID = "exact-0e7a1c52-4a6f-4d5e-9a53-0d8f7c1f2b11"


def item(row: int, score: float | None, answer: str = "x", **fields: Any) -> dict[str, Any]:
    result = {"name": ID, "score": score or 0.0, "passed": score == 1.0} | ({"error": {"code": "c"}} if score is None else {})
    status = "error" if score is None else "pass" if score == 1.0 else "fail"
    sample = {"output": [{"role": "assistant", "content": answer}], "error": None}
    return {"status": status, "datasource_item_id": row, "datasource_item": {"row": row, **fields}, "results": [result], "sample": sample}


def test_a_rows_value_is_the_mean_over_its_graded_samples() -> None:
    found = measure([item(0, 1.0), item(0, 0.0), item(1, 1.0), item(1, None), item(2, None)])
    assert (found.num_rows, found.num_items, found.num_errored) == (3, 5, 2)
    assert set(found.measures) == {"passed", "exact score", "exact passed"}
    for interval in found.measures.values():
        assert (interval.value, interval.n) == (0.75, 2)


def test_ranked_lists_have_their_metrics_beside_the_criteria() -> None:
    answers = [["A", "B"], ["B", "A"], ["C"]]
    items = [item(i, 0.5, json.dumps({"genes": names}), reference_answer="A") for i, names in enumerate(answers)]
    found = measure(items).measures
    assert [round(found[name].value, 3) for name in ("top1", "top5", "topmax", "mrr")] == [0.333, 0.667, 0.667, 0.5]
    alone = measure(items, Reading(cluster_by_answer=False)).measures["top1"]
    assert alone.high < found["top1"].high  # one answer for all: nothing is known of others


def test_runs_are_compared_on_the_rows_that_both_have() -> None:
    first = [item(i, float(i < 4)) for i in range(12)]
    second = [item(i, float(i < 10)) for i in range(11)]
    found = compare_runs(first, second)
    pair = found.measures["passed"]
    assert (found.num_rows, found.num_unpaired, pair.paired.difference.n) == (11, 1, 11)
    assert (pair.first, pair.second) == (4 / 11, 10 / 11)
    assert pair.paired.difference.value == pytest.approx(6 / 11)
    assert pair.paired.p_value == 2 / 2**6
    assert 0 < pair.smallest < 1


def test_runs_of_different_data_are_no_pair() -> None:
    with pytest.raises(ValueError, match="rows 1 differ"):
        compare_runs([item(0, 1.0), item(1, 1.0)], [item(0, 1.0), item(1, 1.0, other=2)])
    with pytest.raises(ValueError, match="no row in common"):
        compare_runs([item(0, 1.0)], [item(1, 1.0)])
    with pytest.raises(ValueError, match="no output items"):
        measure([])
