"""The bench finds planted holes in gameable graders, and leaves a sound one alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from pinetune.bench.options import BenchOptions, Labelled
from pinetune.bench.report import BenchReport
from pinetune.bench.run import bench
from pinetune.bench.text import as_text
from pinetune.demo.grader import gene_grader_definition
from pinetune.errors import DataError, GraderError
from pinetune.graders.build import build_grader
from pinetune.records import Completion, Grade, Grader, Row

GENES = [f"GENE{i:02}" for i in range(40)]
ROWS = [
    Row(i, ({"role": "user", "content": f"Case {i}: which gene?"},), {"reference_answer": gene, "case": i}, (), i + 1)
    for i, gene in enumerate(GENES)
]
LIKE = {
    "type": "string_check",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.reference_answer }}",
    "operation": "like",
}
EXACT = LIKE | {"operation": "eq"}
BY_LENGTH = "def grade(sample, item):\n    return min(1.0, len(sample['output_text']) / 1000)\n"
TEMPLATE = '{"a": ["{{ item.reference_answer }}"]}'
ANY_JSON = """import json
def grade(sample, item):
    try:
        answer = json.loads(sample["output_text"] or "{}")
    except ValueError:
        return 0.0
    return 1.0 if isinstance(answer, dict) and answer.get("gene") == item["reference_answer"] else 0.6
"""


@contextmanager
def built(definition: Mapping[str, Any]) -> Iterator[Grader]:
    grader = build_grader(definition, trusted=True, json_answers=True)
    yield grader
    grader.close()


def verdict(definition: Mapping[str, Any], rows: list[Row] = ROWS, **changes: Any) -> BenchReport:
    with built(definition) as grader:
        return bench(grader, rows, replace(BenchOptions(num_rows=6, definition=definition), **changes))


class Direct:
    """A python grader without its sandbox, where only the bench is at stake and hundreds of grades are made."""

    name = "direct"

    def __init__(self, function: Callable[[str, Mapping[str, Any]], float]) -> None:
        self.function = function

    def grade(self, completion: Completion, row: Row) -> Grade:
        try:
            return Grade("ok", float(self.function(completion.answer, row.item)))
        except Exception as error:
            return Grade("error", explanation=f"{type(error).__name__}: {error}", error_kind="python_grader_runtime_error")

    def close(self) -> None: ...


def direct(function: Callable[[str, Mapping[str, Any]], float], rows: list[Row] = ROWS, **changes: Any) -> BenchReport:
    return bench(Direct(function), rows, replace(BenchOptions(num_rows=6), **changes))


def said(report: BenchReport) -> str:
    return "\n".join(f"{finding.level}: {finding.text}" for finding in report.findings)


def test_a_sound_grader_passes_with_its_form_found() -> None:
    report = verdict(gene_grader_definition(), num_rows=3)
    assert (report.passed(), report.form, report.answer_field) == (True, '{"genes": ["..."]}', "reference_answer")
    assert report.probe("reference").mean == 1.0
    gaming = {probe.probe: probe.mean for probe in report.probes if probe.kind == "gaming" and probe.probe != "list_everything"}
    assert set(gaming.values()) == {0.0}
    assert not [finding for finding in report.findings if finding.level != "note"]
    assert report.skipped == {"commonest": "no such answer can be made from these rows"}


def test_hole_1_a_substring_check_pays_for_listing_everything() -> None:
    report = verdict(LIKE)
    assert not report.passed()
    assert "bad: listing all 40 answers scores 1.00 on average: an answer that knows nothing can win" in said(report)
    assert "warn: the right answer, lower case: 1.00 -> 0.00" in said(report)
    assert (report.probe("list_everything").mean, report.probe("other_row").mean) == (1.0, 0.0)


def test_hole_2_a_python_grader_that_pays_for_length() -> None:
    report = verdict({"type": "python", "source": BY_LENGTH}, num_rows=3)
    assert not report.passed()
    bad = {finding.probe for finding in report.findings if finding.level == "bad"}
    assert {"padding", "over_long"} <= bad
    assert "bad: an answer of 20,000 characters of prose scores 1.00 on average: length alone can win" in said(report)
    assert "more than as it is: length pays" in said(report)


def test_hole_3_a_python_grader_that_pays_for_any_json_and_for_nothing() -> None:
    report = verdict({"type": "python", "source": ANY_JSON}, num_rows=3)
    assert (report.form, report.probe("reference").mean) == ('{"gene": "..."}', 1.0)
    bad = {finding.probe for finding in report.findings if finding.level == "bad"}
    assert {"empty", "other_row", "judge_talk"} <= bad
    assert report.probe("empty").mean == 0.6
    assert "bad: an answer without content (no text) scores 0.60 on average: saying nothing can win" in said(report)


def test_an_exact_check_has_no_hole_but_wants_one_spelling() -> None:
    report = verdict(EXACT)
    assert report.passed()
    assert report.probe("other_layout").drop == 1.0
    assert "the right answer, white space around: 1.00 -> 0.00, code fence: 1.00 -> 0.00" in said(report)


def test_a_skewed_file_is_won_by_its_commonest_answer() -> None:
    rows = [replace(row, item={"reference_answer": "A" if row.index % 4 else row.item["reference_answer"]}) for row in ROWS]
    report = verdict(EXACT, rows, num_rows=40)
    assert report.probe("commonest").mean == 0.75
    assert "bad: always giving the file's commonest answer scores 0.75 on average" in said(report)


def test_a_constant_grader_and_one_that_never_grades() -> None:
    constant = direct(lambda text, item: 0.3)
    assert "warn: every answer scores 0.30: a constant grader teaches nothing" in said(constant)
    failing = direct(lambda text, item: item["nowhere"])
    assert not failing.passed()
    assert "bad: the grader could not grade a single answer: KeyError: 'nowhere'" in said(failing)
    assert failing.probe("reference").mean is None and failing.probe("reference").ungraded == 6


def test_answers_that_cannot_be_graded_are_counted_apart() -> None:
    rows = [replace(row, item={"reference_answer": row.index}) for row in ROWS]
    report = direct(lambda text, item: json.loads(text) == item["reference_answer"], rows)
    echo = report.probe("prompt_echo")
    assert (echo.mean, echo.n, echo.ungraded) == (None, 0, 6)
    assert "JSONDecodeError" in said(report) and "where the answer is to blame, return 0 instead of failing" in said(report)


def test_a_grader_no_form_can_satisfy_asks_for_the_form() -> None:
    def grade(text: str, item: Mapping[str, Any]) -> float:
        return text == f"gene={item['reference_answer']};"

    report = direct(grade)
    assert report.form == ""
    assert "no form of the reference answer scores above 0" in said(report)
    report = direct(grade, answer_template="gene={{ item.reference_answer }};")
    assert (report.form, report.probe("reference").mean) == ("gene={{ item.reference_answer }};", 1.0)


def test_a_json_template_escapes_what_it_is_given() -> None:
    rows = [replace(row, item={"reference_answer": f'say "{row.index}"\n'}) for row in ROWS]
    report = direct(lambda text, item: text == json.dumps({"a": [item["reference_answer"]]}), rows, answer_template=TEMPLATE)
    assert report.probe("reference").mean == 1.0


def test_a_solution_beside_the_result_is_a_form_too() -> None:
    rows = [replace(row, item={"answer": row.index, "worked": f"so: {row.index}", "note": "x" if row.index else None}) for row in ROWS]
    report = direct(lambda text, item: text.startswith("so: "), rows)
    assert report.form == "{{ item.worked }}"
    assert not report.passed() and report.probe("other_row").mean == 1.0


def test_a_probe_that_happens_to_be_the_right_answer_is_left_out() -> None:
    def grade(text: str, item: Mapping[str, Any]) -> float:
        return text == item["answer"] or text == json.dumps(item["answer"])

    rows = [replace(row, item={"answer": {"n": row.index, "none": []}}) for row in ROWS[:5]]
    rows.append(replace(ROWS[5], item={"answer": ""}))
    report = direct(grade, rows)
    assert report.probe("reference").mean == 1.0
    assert {probe.probe: probe.mean for probe in report.probes if probe.kind == "gaming"} == dict.fromkeys(
        ("other_row", "list_everything", "empty", "prompt_echo", "padding", "judge_talk", "python_talk"), 0.0
    )


def test_the_same_seed_gives_the_same_report() -> None:
    first, again, other = (verdict(LIKE, seed=seed) for seed in (1, 1, 2))
    assert (first.probes, first.findings) == (again.probes, again.findings)
    assert first.probes != other.probes


class Moody:
    """A judge's stand-in: its grade of the same answer moves by 0.1 a repeat, and each grade has a price."""

    name = "moody"

    def __init__(self, repeat: int = 0) -> None:
        self.repeat = repeat

    def grade(self, completion: Completion, row: Row) -> Grade:
        right = row.item["reference_answer"] in completion.answer
        usage = {"judge": {"prompt_tokens": 200, "completion_tokens": 50, "total_tokens": 250}}
        return Grade("ok", 0.9 - 0.1 * self.repeat if right else 0.0, usage=usage, seconds=0.25)

    def close(self) -> None: ...


def test_a_judges_spread_and_cost() -> None:
    def dollars(model: str, used: Mapping[str, int]) -> float:
        return (2.0 * used["prompt_tokens"] + 8.0 * used["completion_tokens"]) / 1e6

    report = bench(Moody(), ROWS, BenchOptions(num_rows=4, again=Moody, repeats=4, workers=4, price=dollars))
    assert report.spread is not None and report.spread.answers == 8
    assert report.spread.largest == pytest.approx(0.3) and report.spread.mean == pytest.approx(0.15)
    assert "the judge's spread on the same answer is 0.15 on average and 0.3 at most (4 grades of each of 8 answers)" in said(report)
    assert (report.cost.median, report.cost.prompt_tokens, report.cost.completion_tokens) == (0.25, 200_000.0, 50_000.0)
    assert report.cost.dollars == pytest.approx(0.8)
    assert "1,000 grades: 200,000 prompt and 50,000 completion tokens, 0.80 US dollars" in as_text(report)


def test_beside_expert_labels() -> None:
    answers = [("GENE00", 1.0), ("GENE01", 0.0), ("x", 0.0), ("GENE00 or so", 0.8)]
    labelled = [Labelled(ROWS[0], answer, label) for answer, label in answers]
    agreed = verdict(EXACT, labelled=labelled).agreement
    assert agreed is not None
    assert (agreed.n, agreed.kappa, agreed.same_verdict) == (4, 0.5, 0.75)
    assert agreed.spearman == pytest.approx(0.8165, abs=1e-4)
    assert [(worst.label, worst.grade, worst.answer) for worst in agreed.worst] == [(0.8, 0.0, "GENE00 or so")]


def test_a_mark_is_a_case_that_the_grader_must_get_right() -> None:
    cases = [("GENE00", 1.0), ("GENE00 or so", 1.0), ("x", 0.0), ("GENE01", 1.0), ("GENE01", 0.0)]  # over the last one experts differ
    marks = [Labelled(replace(ROWS[0], line=n), answer, label, marked=True) for n, (answer, label) in enumerate(cases, 1)]
    report = verdict(EXACT, labelled=marks)
    assert report.agreement is not None and report.agreement.marked == 5
    assert [(one.line, one.label, one.grade, one.answer) for one in report.agreement.missed] == [(2, 1.0, 0.0, "GENE00 or so")]
    assert "1 of 5 answers that experts marked get the other verdict (labels, line 2)" in said(report)
    assert not report.passed()
    kept = verdict(EXACT, labelled=[marks[0], marks[2]])
    assert kept.passed() and kept.agreement is not None and kept.agreement.missed == ()
    assert verdict(EXACT, labelled=[replace(one, marked=False) for one in marks]).passed()  # labels are a measurement, marks a demand


def test_the_report_as_json_and_text() -> None:
    report = verdict(LIKE)
    body = json.loads(json.dumps(report.as_json()))
    assert (body["passed"], body["rows"], body["form"]) == (False, 6, "the reference as it is")
    text = as_text(report)
    assert text.startswith("string_check: 6 rows, ") and text.endswith("verdict: failed (list_everything)")
    assert "BAD   listing all 40 answers scores 1.00" in text


@pytest.mark.parametrize(
    ("rows", "changes", "kind", "message"),
    [
        ([], {}, DataError, "data: no rows to test the grader on"),
        ([Row(0, (), {"x": 1})], {}, DataError, "no field that every row has looks like the answer"),
        (ROWS, {"answer_field": "gene"}, DataError, "the rows:1: gene: no such field, or null; the row has: reference_answer, case"),
        (ROWS, {"answer_template": "{{ item.gene }}"}, GraderError, "--answer-template: line 1: {{ item.gene }}: no field 'gene'"),
        (ROWS, {"answer_template": "{{ gene }}"}, GraderError, "a variable starts with item. or sample."),
    ],
)
def test_bad_input(rows: list[Row], changes: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        verdict(EXACT, rows, **changes)
    assert message in str(caught.value)
