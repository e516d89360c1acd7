"""Power, McNemar, the flattery of a choice, folds: exact values on small inputs, simulation where there are none."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import pytest

from pinetune.data.answers import answer_keys
from pinetune.errors import DataError
from pinetune.evals.evaluate import build_report
from pinetune.evals.folds import make_folds, pool
from pinetune.evals.mcnemar import mcnemar, sign_test
from pinetune.evals.power import detectable_share, rows_needed, smallest_difference
from pinetune.evals.selection import Selection, optimism, selection
from pinetune.evals.statistics import paired_difference
from pinetune.records import Completion, EvalReport, Grade, Group, Prompt, Rollout, Row
from pinetune.reports.write import write_report
from pinetune.runs.folder import RunFolder


def test_detectable_share_is_the_formula_with_t_quantiles() -> None:
    # n = 5: t_0.975,4 = 2.776445, t_0.8,4 = 0.940965; sd of the difference at rate 0.2 and correlation 0.5 is sqrt(0.16)
    assert detectable_share(5, 0.2) == pytest.approx((2.776445 + 0.940965) * 0.4 / math.sqrt(5), abs=1e-5)
    # many rows: 1.959964 + 0.841621
    assert detectable_share(10**8) * 10**4 == pytest.approx(2.801585 * 0.5, abs=1e-4)
    assert detectable_share(2) == 1.0 and detectable_share(1) == 1.0


@pytest.mark.parametrize("difference", [0.02, 0.1, 0.3])
def test_rows_needed_is_the_first_number_that_shows_it(difference: float) -> None:
    rows = rows_needed(difference, 0.4)
    assert detectable_share(rows, 0.4) <= difference < detectable_share(rows - 1, 0.4)


def test_rows_needed_refuses_no_difference() -> None:
    with pytest.raises(ValueError, match="above 0"):
        rows_needed(0.0)


def test_smallest_difference_from_the_scatter_of_the_rows() -> None:
    a, b = [0.0] * 4, [1.0, 0.0, 1.0, 0.0]
    # differences 1 0 1 0: sd (n - 1) is sqrt(1/3), of the mean sqrt(1/12); t_0.975,3 = 3.182446, t_0.8,3 = 0.978472
    assert smallest_difference(a, b) == pytest.approx((3.182446 + 0.978472) * math.sqrt(1 / 12), abs=1e-5)
    # the same rows as two clusters of equal rows: two facts, t_0.975,1 = 12.706205, t_0.8,1 = 1.376382, sd of the mean 0.5
    assert smallest_difference(a, b, ["x", "y", "x", "y"]) == pytest.approx((12.706205 + 1.376382) * 0.5, abs=1e-4)
    assert smallest_difference([1.0, 0.0], [1.0, 0.0]) == 0.0
    assert smallest_difference([1.0], [0.0]) == math.inf


@pytest.mark.slow
def test_the_smallest_difference_is_found_four_times_in_five() -> None:
    import numpy as np

    rng = np.random.default_rng(3)
    n, correlation, rate = 120, 0.5, 0.4
    gain = detectable_share(n, rate, correlation)
    better = rate + gain
    share = correlation * math.sqrt(rate * (1 - rate) * better * (1 - better)) / (rate - rate * better)  # gives that correlation
    found, trials = 0, 1000
    for _ in range(trials):
        shared = rng.random(n) < share  # rows on which both models draw the same luck
        first, own = rng.random(n), rng.random(n)
        second = np.where(shared, first, own)
        a, b = (first < rate).astype(float), (second < better).astype(float)
        found += paired_difference(a.tolist(), b.tolist()).p_value <= 0.05
    assert 0.72 <= found / trials <= 0.88


def test_mcnemar_by_hand() -> None:
    result = mcnemar([0, 0, 0, 1, 1, 0], [1, 1, 1, 1, 0, 0])
    assert (result.gained, result.lost, result.same) == (3, 1, 2)
    assert result.p_value == 2 * (1 + 4) / 16
    assert sign_test(0, 0) == sign_test(3, 3) == 1.0
    assert sign_test(6, 0) == 2 / 64
    assert sign_test(2000, 1000) < 1e-70  # far beyond what floats can count to


def test_mcnemar_agrees_with_the_paired_test_and_refuses_other_values() -> None:
    a, b = [float(i % 3 == 0) for i in range(60)], [float(i % 2 == 0) for i in range(60)]
    assert mcnemar(a, b).p_value == paired_difference(a, b).p_value
    with pytest.raises(ValueError, match="0 and 1"):
        mcnemar([0.5], [1.0])
    with pytest.raises(ValueError, match="one length"):
        mcnemar([0], [1, 1])


def test_optimism_of_identical_checkpoints_is_none_and_of_noise_is_what_theory_says() -> None:
    import numpy as np

    values = [float(i % 2) for i in range(50)]
    assert optimism([values]) == 0.0
    assert optimism([values, values, values]) == pytest.approx(0.0, abs=0.005)  # they win and lose together
    rng = np.random.default_rng(1)
    n, k = 200, 8
    noise = rng.normal(0.5, 0.3, (k, n))
    noise += 0.5 - noise.mean(axis=1, keepdims=True)  # eight checkpoints of exactly one skill, with independent luck on each row
    # the expected largest of eight standard normals is 1.4236; the standard error of each mean is 0.3 / sqrt(200)
    assert optimism(noise.tolist()) == pytest.approx(1.4236 * 0.3 / math.sqrt(n), rel=0.1)


def test_a_clear_winner_is_hardly_flattered() -> None:
    weak, strong = [float(i % 10 == 0) for i in range(100)], [float(i % 10 != 0) for i in range(100)]
    assert optimism([weak, strong, weak]) == pytest.approx(0.0, abs=0.002)


def group(index: int, gene: str, value: float, prompt: str = "q") -> Group:
    row = Row(index, ({"role": "user", "content": f"{prompt}{index}"},), {"reference_answer": gene}, line=index + 1)
    return Group(row, Prompt((1,)), (Rollout(index, 0, 0, Completion((1,), (-0.5,), (False,), "stop", "x"), Grade("ok", value)),))


def report(step: int, values: list[float]) -> EvalReport:
    return build_report(step, f"step {step}", [group(i, f"g{i // 2}", value) for i, value in enumerate(values)], None, 1.0)


def test_selection_reads_reports_and_speaks_only_where_there_was_a_choice() -> None:
    reports = [report(0, [0.0, 1.0] * 10), report(5, [1.0, 0.0] * 10), report(10, [0.0, 0.0, 1.0, 1.0] * 5)]
    found = selection(reports, "reference_answer")
    assert (found.tried, found.n) == (3, 20)
    assert found.flattery == optimism([[0.0, 1.0] * 10, [1.0, 0.0] * 10, [0.0, 0.0, 1.0, 1.0] * 5], [i // 2 for i in range(20)])
    assert "best of 3 that were tried on these 20 rows" in found.words()
    assert selection(reports[:1], None).words() == "" == Selection(0, 0.0, 0).words()


def rows_of(*answers: object) -> list[Row]:
    return [Row(i, ({"role": "user", "content": f"q{i}"},), {"answer": answer}, line=i + 1) for i, answer in enumerate(answers)]


def test_folds_hold_every_row_out_once_and_no_answer_on_both_sides() -> None:
    rows = rows_of(*[f"g{i % 7}" for i in range(30)], ["g0", "g1"])  # the last row joins two answers
    folds = make_folds(rows, 3)
    assert sorted(row.index for fold in folds for row in fold.held_out) == list(range(31))
    for fold in folds:
        seen = [frozenset().union(*(answer_keys(row.item["answer"]) for row in part)) for part in (fold.train, fold.held_out)]
        assert seen[0] & seen[1] == frozenset()
        assert len(fold.train) + len(fold.held_out) == 31
        assert [row.index for row in fold.train] == sorted(row.index for row in fold.train)
    assert sorted(len(fold.held_out) for fold in folds) == [8, 11, 12]  # groups of 11 (g0 and g1 joined), 5, 4, 4, 4, ... dealt evenly


def test_folds_do_not_depend_on_the_order_of_the_rows() -> None:
    rows = rows_of(*[f"g{i}" for i in range(12)])
    forth = {frozenset(str(r.item["answer"]) for r in fold.held_out) for fold in make_folds(rows, 4)}
    back = {frozenset(str(r.item["answer"]) for r in fold.held_out) for fold in make_folds(rows[::-1], 4)}
    assert forth == back and [len(held) for held in forth] == [3, 3, 3, 3]
    assert forth != {frozenset(str(r.item["answer"]) for r in fold.held_out) for fold in make_folds(rows, 4, seed=2)}


def test_answers_that_must_recur_are_dealt_by_prompt() -> None:
    rows = rows_of(*["yes", "no"] * 6)
    twins = [Row(12 + row.index, row.messages, {"answer": "yes"}, line=13 + row.index) for row in rows[:4]]
    folds = make_folds([*rows, *twins], 4, by_answer=False)
    held = [{row.messages[0]["content"] for row in fold.held_out} for fold in folds]
    assert sorted(prompt for of_fold in held for prompt in of_fold) == sorted(f"q{i}" for i in range(12))  # none in two folds
    assert [len(fold.held_out) for fold in folds] == [4, 4, 4, 4]


def test_too_many_folds_are_refused_with_the_number_that_works() -> None:
    with pytest.raises(
        DataError, match=r"rows.jsonl: 2 different answers \(answer\) cannot make 3 folds .*most 2; or, .*allow_answer_overlap"
    ):
        make_folds(rows_of("a", "b", "a"), 3, file="rows.jsonl")
    with pytest.raises(DataError, match="at least 2 folds"):
        make_folds(rows_of("a", "b"), 1)


def test_pooled_folds_are_one_report_over_all_rows() -> None:
    first, second = report(0, [1.0, 0.0]), report(0, [1.0, 1.0, 1.0, 0.0])
    pooled = pool([first, second], "folds")
    assert (pooled.reward.value, pooled.reward.n, pooled.name) == (4 / 6, 6, "folds")
    assert [g.row.index for g in pooled.groups] == [0, 1, 2, 3, 4, 5]
    assert Counter(json.dumps(dict(g.row.item)) for g in pooled.groups)[json.dumps({"reference_answer": "g0"})] == 4


def test_the_report_says_what_its_rows_can_show_and_what_the_choice_adds(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for step, values in ((0, [0.0, 1.0] * 10), (5, [1.0, 0.0] * 10), (10, [0.0, 0.0, 1.0, 1.0] * 5)):
        run.write_eval(report(step, values))
    base, tuned = report(0, [0.0, 1.0] * 10), report(5, [1.0, 0.0] * 10)
    told = {"base": base, "tuned": tuned, "model": "m", "seconds": 1.0, "cluster_by_answer": False}
    summary = write_report(run, **told)
    assert summary["smallest_difference"] == smallest_difference([0.0, 1.0] * 10, [1.0, 0.0] * 10)
    assert summary["choice_of_step"]["tried"] == 3
    assert summary["choice_of_step"]["flattery_of_reward"] == selection([run.read_eval(s) for s in (0, 5, 10)], None, False).flattery
    page = (tmp_path / "report.html").read_text()
    assert "flatters the tuned model by up to about 0." in page and "80% power" in page
    assert write_report(run, **told, step_chosen_on_these_rows=False)["choice_of_step"] is None


@pytest.mark.slow
def test_intervals_cover_what_the_results_page_says() -> None:
    from benchmarks.coverage import RATES, SIZES, exact, simulate, simulate_difference

    for n in SIZES:
        for rate in RATES:
            assert 0.93 <= exact(rate, n).covered <= 0.9704
            assert 0.93 <= simulate("0/1", rate, n, True, 1500, seed=1).covered <= 0.982  # 97.5% at n = 50 and a rate of 0.1, less noise
    # The bootstrap of ranked rewards: 300 trials with fewer draws tell 95% to 2.5 points.
    monkey = pytest.MonkeyPatch()
    monkey.setattr("pinetune.evals.statistics.RESAMPLES", 800)
    try:
        assert 0.92 <= simulate("ranked", 0.6, 100, True, 300, seed=2).covered <= 0.98
        monkey.setattr("pinetune.evals.statistics.FLIPS", 800)
        level = simulate_difference("0/1", (0.3, 0.3), 50, True, 300, seed=3)  # nothing differs: p <= 0.05 is wrong
        assert 0.92 <= level.covered <= 0.98 and 0.005 <= level.significant <= 0.07
    finally:
        monkey.undo()
