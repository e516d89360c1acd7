"""Controls of a job: graders, prompts, the split of a gain by hand; and all arms on a tiny model."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from tiny_models import save_tiny

from pinetune.errors import JobError
from pinetune.evals.evaluate import build_report, compare
from pinetune.evals.statistics import PairedResult
from pinetune.loop.ablation.controls import FormatGrader, RandomGrader, format_check
from pinetune.loop.ablation.fewshot import Shots, candidates, choice_rows, with_shots
from pinetune.loop.ablation.report import AblationReport, Arm, as_text
from pinetune.loop.ablation.split import split_gain
from pinetune.records import Completion, EvalReport, Grade, Group, Interval, Prompt, Rollout, Row
from pinetune.runs.folder import RunFolder
from pinetune.runs.recorder import FolderRecorder


def completion(text: str, finish: str = "stop", tokens: tuple[int, ...] = (1,)) -> Completion:
    return Completion(tokens, (-0.5,) * len(tokens), (False,) * len(tokens), finish, text)  # type: ignore[arg-type]


def row(index: int, answer: str = "a") -> Row:
    return Row(index, ({"role": "system", "content": "Be short."}, {"role": "user", "content": f"q{index}"}), {"answer": answer})


def test_the_coin_is_fair_and_falls_the_same_way_again() -> None:
    grader = RandomGrader(7)
    values = [grader.grade(completion(f"text {i}"), row(i)).value for i in range(1000)]
    assert values == [RandomGrader(7).grade(completion(f"text {i}"), row(i)).value for i in range(1000)]
    assert set(values) == {0.0, 1.0} and 440 < sum(values) < 560
    assert values != [RandomGrader(8).grade(completion(f"text {i}"), row(i)).value for i in range(1000)]


def test_the_format_comes_from_the_schema_else_from_a_right_answer_else_any_answer_that_ends() -> None:
    schema = {"type": "object", "required": ["genes"], "properties": {"genes": {"type": "array"}, "why": {"type": "string"}}}
    check, asked = format_check(schema, None)
    assert [check(completion(t)) for t in ('{"genes": []}', 'so: {"genes": ["A"], "why": 1}', '{"genes": "A"}', "A")] == [
        True,
        True,
        False,
        False,
    ]
    assert asked == "one JSON object with genes, as response_format says"
    check, asked = format_check(None, '{"code": "F91.8", "sure": true}')
    assert [check(completion(t)) for t in ('{"code": "x", "sure": false}', '{"code": "x", "sure": 1}', '{"code": "x"}')] == [
        True,
        False,
        False,
    ]
    assert asked == "one JSON object with code, sure, as right answers have"
    check, _ = format_check(None, "plain text")
    assert [check(completion("x")), check(completion("x", "length")), check(completion("  "))] == [True, False, False]
    assert FormatGrader(check).grade(completion("x"), row(0)) == Grade("ok", 1.0)


def test_few_shot_prompts_keep_the_system_message_first_and_the_item_untouched() -> None:
    train = [row(i, f"answer {i}") for i in range(10, 13)]
    found = candidates(train, seed=1)
    assert [(shots.name, len(shots.rows)) for shots in found] == [
        ("no example", 0), ("1 example, choice 1", 1), ("1 example, choice 2", 1), ("2 examples, choice 1", 2), ("2 examples, choice 2", 2),
    ]  # fmt: skip
    assert found == candidates(train, seed=1)
    shown = with_shots(row(0), found[3], lambda r: str(r.item["answer"]))
    a, b = found[3].rows
    assert [(m["role"], m["content"]) for m in shown.messages] == [
        ("system", "Be short."), ("user", f"q{a.index}"), ("assistant", f"answer {a.index}"),
        ("user", f"q{b.index}"), ("assistant", f"answer {b.index}"), ("user", "q0"),
    ]  # fmt: skip
    assert shown.item == row(0).item and shown.index == 0
    assert with_shots(row(0), found[0], lambda r: "") == row(0)


def test_a_prompt_is_not_chosen_by_rows_that_it_answers() -> None:
    train, valid = [row(i) for i in range(60)], [row(i) for i in range(100, 170)]
    shots = Shots("2 examples", (train[3], train[55]))
    assert choice_rows(train, valid, shots) == valid[:50]
    assert [one.index for one in choice_rows(train, [], shots)] == [i for i in range(50) if i != 3]
    assert choice_rows(train[:2], [], Shots("all", tuple(train[:2]))) == train[:2]  # nothing else is there


def report(name: str, *answers: tuple[str, float]) -> EvalReport:
    groups = [
        Group(row(i, f"g{i}"), Prompt((1,)), (Rollout(i, 0, 0, completion(text), Grade("ok", value)),))
        for i, (text, value) in enumerate(answers)
    ]
    return build_report(0, name, groups, None, 1.0)


def test_a_gain_splits_into_form_and_capability_by_hand() -> None:
    check, _ = format_check(None, '{"a": "x"}')
    right, wrong, broken = ('{"a": "x"}', 1.0), ('{"a": "y"}', 0.0), ("x", 0.0)
    base = report("base", right, wrong, broken, broken, broken, broken, broken, broken)
    tuned = report("tuned", right, right, right, right, right, right, wrong, broken)
    split = split_gain(base, tuned, check, answer_field=None, cluster_by_answer=True)
    # base: a quarter has the form, half of those are right: 1/8. tuned: 7/8 have it, 6/7 of those are right: 6/8.
    assert (split.base_share, split.tuned_share, split.total.value) == (0.25, 0.875, 0.625)
    assert split.form is not None and split.capability is not None
    assert split.form.value == pytest.approx((0.875 - 0.25) * 0.5)
    assert split.capability.value == pytest.approx(0.625 - 0.3125)
    assert split.form.low < split.form.value < split.form.high and split.form.n == 8
    same = split_gain(base, base, check, answer_field=None, cluster_by_answer=True)
    assert (same.total, same.form, same.capability) == (Interval(0, 0, 0, 8),) * 3


def test_only_better_answers_in_the_same_form_are_capability() -> None:
    check, _ = format_check(None, '{"a": "x"}')
    base, tuned = report("base", *[('{"a": "y"}', 0.2)] * 6), report("tuned", *[('{"a": "x"}', 0.9)] * 6)
    split = split_gain(base, tuned, check, answer_field=None, cluster_by_answer=True)
    assert split.form is not None and split.capability is not None
    assert (split.form.value, split.capability.value) == (0.0, pytest.approx(0.7))


def test_a_gain_over_a_base_that_never_has_the_form_is_not_split() -> None:
    check, asked = format_check(None, '{"a": "x"}')
    base, tuned = report("base", *[("x", 0.0)] * 6), report("tuned", *[('{"a": "x"}', 0.8)] * 6)
    split = split_gain(base, tuned, check, answer_field=None, cluster_by_answer=True)
    assert (split.total.value, split.form, split.capability) == (pytest.approx(0.8), None, None)
    arms = (Arm("base", "base", base.reward), Arm("job", "job", tuned.reward, over_base=compare(base, tuned).reward))
    assert AblationReport(arms, split, asked, "6 test rows").conclusions()[-1] == (
        "The base never writes the form (answers that have it: 0% -> 100%; one JSON object with a, as right answers have), so the gain "
        "cannot be split: what it would earn in that form nobody has seen. The format arm shows what form alone brings."
    )


def arm(name: str, over: float, p: float, under: float, p_under: float) -> Arm:
    interval = lambda value: Interval(value, value - 0.1, value + 0.1, 40)  # noqa: E731
    return Arm(name, name, interval(0.2 + over), {}, PairedResult(interval(over), p), PairedResult(interval(under), p_under))


def test_conclusions_stand_on_paired_tests() -> None:
    base, job = Arm("base", "base", Interval(0.2, 0.1, 0.3, 40)), arm("job", 0.4, 0.0001, 0.0, 1.0)
    found = AblationReport(
        (base, job, arm("random", 0.0, 1.0, 0.4, 0.001), arm("sft", 0.38, 0.001, 0.02, 0.6)), None, "form", "40 test rows"
    )
    said = found.conclusions()
    assert said[0] == "The job's gain over the base is +0.400 [+0.300, +0.500] (p < 0.001)."
    assert "the grader's information matters" in said[1] and "not shown to do worse" in said[2] and len(said) == 3
    nothing = AblationReport((base, arm("job", 0.01, 0.6, 0.0, 1.0), arm("random", 0.0, 1.0, 0.4, 0.001)), None, "form", "40 test rows")
    assert nothing.conclusions()[1] == "That is no shown gain, so there is nothing to explain."
    assert "random" in as_text(found) and "40" in as_text(found)


# Pays for short answers: a policy of random weights learns to stop early in a few steps. The right answer is short, so it is paid, too.
GRADER = "def grade(sample, item):\n    return max(0.0, 1 - len(sample['output_text']) / 40)\n"


def job(folder: Path, **own: Any) -> dict[str, Any]:
    def write(name: str, words: list[str]) -> str:
        rows = [{"messages": [{"role": "user", "content": f"Say {word}."}], "answer": word} for word in words]
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in rows))
        return name

    reinforcement = {"grader": {"type": "python", "name": "short", "source": GRADER}, "hyperparameters": {"eval_interval": 4}}
    return {
        "model": "tiny", "training_file": write("train.jsonl", [f"a{i}" for i in range(8)]),
        "validation_file": write("valid.jsonl", [f"b{i}" for i in range(4)]), "seed": 3,
        "method": {"type": "reinforcement", "reinforcement": reinforcement},
        "pinetune": {
            "steps": 12, "group_size": 8, "max_tokens": 40, "stop": ["e", "a"], "learning_rate": 3e-3, "threads": 1,
            "test_file": write("test.jsonl", [f"c{i}" for i in range(12)]), "unsafe_python_graders": True, **own,
        },
    }  # fmt: skip


@pytest.mark.slow
def test_all_arms_of_a_tiny_job_run_once_and_are_compared(tmp_path: Path) -> None:
    from pinetune.loop.ablation.run import ARMS, ablate

    save_tiny(tmp_path / "tiny")
    body, opened = job(tmp_path), []

    def open_recorder(folder: RunFolder) -> Any:
        opened.append(folder.path.name)
        return nullcontext(FolderRecorder(folder))

    found = ablate(body, tmp_path, tmp_path / "out", open_recorder)
    assert opened == list(ARMS)
    assert [made.name for made in found.arms] == ["base", *ARMS]
    assert all(made.reward is not None and made.reward.n == 12 for made in found.arms)
    learned = found.arm("job")
    assert learned is not None and learned.over_base is not None and learned.over_base.difference.value > 0
    assert found.split is not None and found.split.total.value == pytest.approx(learned.over_base.difference.value)
    for name in ("job", "random", "format"):
        assert (tmp_path / "out" / name / "report.html").is_file() and RunFolder(tmp_path / "out" / name).read_metrics()[-1]["step"] == 12
    assert {row["train_reward_mean"] for row in RunFolder(tmp_path / "out" / "random").read_metrics()[1:]} != {
        row["train_reward_mean"] for row in RunFolder(tmp_path / "out" / "job").read_metrics()[1:]
    }
    assert (tmp_path / "out" / "sft" / "model").is_dir()
    assert RunFolder(tmp_path / "out" / "prompt").read_job()["few_shot"]["tried"] == 7
    assert json.loads((tmp_path / "out" / "ablation.json").read_text())["arms"][1]["reward"]["n"] == 12

    opened.clear()
    again = ablate(body, tmp_path, tmp_path / "out", open_recorder)
    assert opened == [] and again == found
    with pytest.raises(JobError, match="unknown arm 'magic'"):
        ablate(body, tmp_path, tmp_path / "out", open_recorder, ["magic"])
    with pytest.raises(JobError, match="out/job holds another job"):
        ablate({**body, "seed": 4}, tmp_path, tmp_path / "out", open_recorder)
