"""Ranked lists, reports and comparisons on made-up groups small enough to count by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import pytest

from pinetune.demo import gene_grader
from pinetune.errors import GraderError
from pinetune.evals.evaluate import align, build_report, clusters_of, compare, evaluate, grade_answers
from pinetune.evals.ranking import detect, rank_of, ranked_list
from pinetune.records import Completion, Grade, Group, Prompt, Rollout, Row, SamplingParams


def completion(answer: str, tokens: int = 3, finish: str = "stop") -> Completion:
    return Completion(
        token_ids=tuple(range(tokens)),
        logprobs=(-0.5,) * tokens,
        forced=(False,) * tokens,
        finish=finish,  # type: ignore[arg-type]
        answer=answer,
        reasoning="hm",
        reasoning_tokens=1,
    )


def group(index: int, gene: str, *answers: tuple[str, float | None]) -> Group:
    """Each answer with its reward; None = could not be graded."""
    row = Row(index, ({"role": "user", "content": f"case {index}"},), {"reference_answer": gene})
    rollouts = tuple(
        Rollout(index, s, 10 + s, completion(text), Grade("error", explanation="boom") if value is None else Grade("ok", value))
        for s, (text, value) in enumerate(answers)
    )
    return Group(row, Prompt((1, 2)), rollouts)


def genes(*names: str) -> str:
    return json.dumps({"genes": names, "explanation": "because"})


def test_ranked_list_takes_genes_else_the_only_list_of_strings() -> None:
    assert ranked_list(genes("A", "B")) == ("A", "B")
    assert ranked_list('{"codes": ["F91.8"], "why": "text"}') == ("F91.8",)
    assert ranked_list('{"genes": ["A"], "others": ["B"]}') == ("A",)
    assert ranked_list('{"first": ["A"], "second": ["B"]}') is None
    assert ranked_list('{"first": ["A"], "second": ["B"]}', "second") == ("B",)
    assert ranked_list('{"genes": "A", "others": ["B"]}') is None
    assert ranked_list('Sure:\n```json\n{"genes": ["A"]}\n```') == ("A",)
    twice = ('{"genes": ["A"]} {"genes": ["B"]}', '{"genes": ["A"], "genes": ["B"]}')
    for text in ("", "A, B", '["A"]', '{"genes": [1]}', "{", "[" * 100_000, '{"a":' * 100_000, *twice):
        assert ranked_list(text) is None


def test_rank_counts_from_one_and_padding_does_not_pay() -> None:
    assert rank_of(genes("A", "B", "C"), " c\n") == 3
    assert rank_of(genes("A", "B"), "C") is None
    assert rank_of(genes("A", "B", "a"), "B") is None  # a name twice
    long = [f"G{i}" for i in range(51)]
    assert rank_of(genes(*long), "G0") is None and rank_of(genes(*long[:50]), "G49") == 50


def test_ranks_agree_with_the_demo_grader() -> None:
    long = [f"G{i}" for i in range(51)]
    answers = [genes("A", "B"), genes("B", " a "), genes("B", "a", "b"), genes(*long, "A"), genes(*long[:9], "A"), "no", genes()]
    answers += ['Well: {"genes": ["B", "A"]}.', '{"genes": ["A"]} {"genes": ["B"]}', '{"genes": ["A"], "genes": ["A"]}']
    for answer in answers:
        rank = rank_of(answer, "A")
        reward = gene_grader.grade({"output_text": answer}, {"reference_answer": "A"})
        assert reward == (0.7 ** (rank - 1) if rank else 0.0), answer


def test_whether_answers_are_ranked_lists_is_read_off_the_data() -> None:
    listed = [group(0, "A", (genes("A"), 1.0)), group(1, "B", ("no idea", 0.0))]
    prose = [group(0, "A", ("it is A", 1.0))]
    assert detect(listed, "reference_answer") is not None
    assert detect(listed, None) is None
    assert detect(prose, "reference_answer") is None
    assert detect(prose, "reference_answer", "genes") is not None  # told
    number = Group(Row(0, (), {"reference_answer": 4}), Prompt(()), listed[0].rollouts)
    assert detect([number], "reference_answer") is None


def test_report_counts_by_hand() -> None:
    report = build_report(
        20,
        "step 20",
        [
            group(0, "A", (genes("A"), 1.0), (genes("B", "A"), 0.5)),
            group(1, "A", (genes("C", "D", "E", "F", "G", "A"), 0.2), ("oops", None)),
            group(2, "B", (genes("X"), None), (genes("B"), None)),  # left out: nothing graded
            group(3, "C", ("not json", 0.0), (genes("X"), 0.0)),
        ],
        "reference_answer",
        1.5,
    )
    assert (report.step, report.name, report.seconds) == (20, "step 20", 1.5)
    assert report.reward.value == pytest.approx((0.75 + 0.2 + 0.0) / 3) and report.reward.n == 3
    assert report.num_ungraded == 3
    assert {name: round(interval.value, 4) for name, interval in report.metrics.items()} == {
        "top1": round(0.5 / 3, 4),
        "top5": round(1 / 3, 4),
        "topmax": round(2 / 3, 4),
        "mrr": round((0.75 + 1 / 6) / 3, 4),
    }
    assert all(0 <= i.low <= i.value <= i.high <= 1 and i.low < i.high for i in report.metrics.values())
    assert (report.completion_tokens_mean, report.reasoning_tokens_mean, report.truncated_fraction) == (3.0, 1.0, 0.0)


def test_rows_with_one_answer_are_one_cluster_and_the_answer_field_is_found() -> None:
    groups = [group(0, "ACTB", ("", 0.0)), group(1, " actb", ("", 0.0)), group(2, "FLNA", ("", 0.0))]
    assert clusters_of(groups, "reference_answer") == ["actb", "actb", "flna"]
    assert clusters_of(groups, None) == [0, 1, 2]
    assert build_report(0, "base", groups, None, 0.0) == build_report(0, "base", groups, "reference_answer", 0.0)


def test_rows_of_a_closed_set_of_answers_stand_alone() -> None:
    groups = [group(i, "yes" if i % 2 else "no", ("x", float(i % 3 > 0))) for i in range(60)]
    clustered = build_report(0, "base", groups, None, 0.0)
    alone = build_report(0, "base", groups, None, 0.0, cluster_by_answer=False)
    assert alone.reward.value == clustered.reward.value == 40 / 60
    assert alone.reward.high - alone.reward.low < 0.26 < 0.7 < clustered.reward.high - clustered.reward.low
    better = build_report(9, "tuned", [group(i, "yes" if i % 2 else "no", ("x", 1.0)) for i in range(60)], None, 0.0)
    assert compare(alone, better).reward.p_value == 0.5  # two clusters: ++ and -- of four patterns
    assert compare(alone, better, cluster_by_answer=False).reward.p_value < 0.001


def test_nothing_graded_is_an_error_with_the_reason_never_a_zero() -> None:
    with pytest.raises(GraderError, match=r"none of 2 answers could be graded.*\nboom"):
        build_report(0, "base", [group(0, "A", ("x", None)), group(1, "B", ("x", None))], None, 0.0)


def test_compare_pairs_rows_by_index() -> None:
    base = build_report(0, "base", [group(i, f"G{i}", (genes("X"), 0.0)) for i in range(4)], None, 0.0)
    tuned = build_report(9, "tuned", [group(i, f"G{i}", (genes(f"G{i}"), 1.0)) for i in (3, 2, 1, 7)], None, 0.0)
    result = compare(base, tuned)
    assert (result.num_rows, result.num_unpaired) == (3, 2)
    assert result.reward.difference.value == 1.0 and result.reward.p_value == 2 / 8
    assert result.metrics["top1"].difference.value == 1.0 and result.metrics["mrr"].p_value == 2 / 8


def test_compare_reads_lists_even_where_one_side_never_wrote_one() -> None:
    base = build_report(0, "base", [group(0, "A", ("hm", 0.0)), group(1, "B", ("hm", 0.0))], None, 0.0)
    tuned = build_report(9, "tuned", [group(0, "A", (genes("A"), 1.0)), group(1, "B", (genes("B"), 1.0))], None, 0.0)
    assert base.metrics == {}
    aligned, same = align([base, tuned])
    assert aligned.metrics["top1"].value == 0.0 and aligned.reward == base.reward and same is tuned
    assert compare(base, tuned).metrics["top1"].difference.value == 1.0


def test_compare_refuses_what_is_no_pair() -> None:
    base = build_report(0, "base", [group(0, "A", ("", 0.0))], None, 0.0)
    with pytest.raises(ValueError, match="no graded row in common"):
        compare(base, build_report(0, "tuned", [group(1, "A", ("", 0.0))], None, 0.0))
    with pytest.raises(ValueError, match="different data: their rows 0 differ"):
        compare(base, build_report(0, "tuned", [group(0, "B", ("", 0.0))], None, 0.0))


class ExactGrader:
    name = "exact"

    def grade(self, completion: Completion, row: Row) -> Grade:
        return Grade("ok", float(completion.answer == row.item["reference_answer"]))

    def close(self) -> None: ...


class EchoSampler:
    """Answers "A" to every prompt, last prompt first."""

    def sample(
        self, prompts: Sequence[Prompt], num_samples: int, params: SamplingParams, seeds: Sequence[Sequence[int]]
    ) -> Iterator[tuple[int, int, Completion]]:
        for p in reversed(range(len(prompts))):
            for s in range(num_samples):
                yield p, s, completion("A")

    def render(self, row: Row) -> Prompt:
        return Prompt((row.index,))

    def refresh(self) -> None: ...


ROWS = [Row(0, (), {"reference_answer": "A"}), Row(1, (), {"reference_answer": "B"})]


def test_evaluate_runs_the_training_path() -> None:
    seen: list[int] = []
    report = evaluate(
        ROWS, EchoSampler(), ExactGrader(), params=SamplingParams(), num_samples=2, step=5, on_group=lambda g: seen.append(g.row.index)
    )
    assert (report.name, report.step, report.reward.value, report.metrics) == ("step 5", 5, 0.5, {})
    assert [len(g.rollouts) for g in report.groups] == [2, 2] and sorted(seen) == [0, 1]


def test_a_classical_tool_is_graded_like_a_model() -> None:
    report = build_report(0, "ranker", grade_answers(ROWS, ["A", "C"], ExactGrader()), None, 0.0)
    assert report.reward.value == 0.5 and report.completion_tokens_mean == 0.0
    with pytest.raises(ValueError, match="shorter"):
        grade_answers(ROWS, ["A"], ExactGrader())
