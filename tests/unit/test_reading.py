"""Searching a run's answers and marking them, on a run of ten answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_run import rollout, row, write_run

from pinetune.bench.labels import read_labelled
from pinetune.errors import UserError
from pinetune.reading.marks import export, label_of, mark, marks
from pinetune.reading.rollout_ids import RolloutId, parse_id
from pinetune.reading.search import Query, find, search
from pinetune.records import Group, Prompt
from pinetune.runs.folder import RunFolder
from pinetune.runs.provenance import describe_file
from pinetune.runs.rollout_table import write_rollouts


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


def ids(run: Path, **filters: Any) -> list[str]:
    return [str(one.id) for one in search([run], Query(**filters)).rows]


def test_everything_is_found_newest_first(run: Path) -> None:
    found = search([run])
    assert found.total == 10
    assert [str(one.id) for one in found.rows] == [
        "eval-2:5:0", "eval-final-tuned:5:0", "train-2:0:0", "train-2:0:1", "train-2:2:0", "train-2:2:1",
        "train-1:0:0", "train-1:0:1", "train-1:1:0", "train-1:1:1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"text": "ATAXIA"}, ["eval-2:5:0", "train-1:0:1", "train-1:1:1"]),
        ({"text": "a.b"}, ["train-2:0:1"]),  # a point is a point
        ({"text": "(ataxia)"}, ["train-1:0:1"]),
        ({"regex": r"^TSC\d$"}, ["train-2:0:0", "train-1:0:0"]),
        ({"regex": "ataxia"}, ["eval-2:5:0", "train-1:0:1"]),
        ({"prompt": 'Case "1"'}, ["train-1:1:0", "train-1:1:1"]),
        ({"anywhere": 'case "1"'}, ["train-1:1:0", "train-1:1:1"]),
        ({"anywhere": "ATAXIA", "source": "train"}, ["train-1:0:1", "train-1:1:1"]),
        ({"reward_min": 0.5, "reward_max": 0.75}, ["eval-2:5:0", "train-2:2:0", "train-2:2:1", "train-1:1:1"]),
        ({"reward_max": 0.0}, ["eval-final-tuned:5:0", "train-1:0:0"]),
        ({"part": ("format", 0.0, 0.5)}, ["train-1:0:0"]),
        ({"part": ('odd "na.me"', -0.3, 0.0), "step": 1}, ["train-1:0:0", "train-1:0:1", "train-1:1:1"]),
        ({"part": ("absent", 0.0, 1.0)}, []),
        ({"step": 1, "row": 1}, ["train-1:1:0", "train-1:1:1"]),
        ({"step": 7}, []),
        ({"status": "error"}, ["train-1:1:0"]),
        ({"finish": "length"}, ["train-1:1:1"]),
        ({"source": "eval"}, ["eval-2:5:0", "eval-final-tuned:5:0"]),
        ({"report": "final-tuned"}, ["eval-final-tuned:5:0"]),
        ({"source": "train", "sort": "oldest", "limit": 2, "offset": 1}, ["train-1:0:1", "train-1:1:0"]),
        ({"sort": "-reward", "limit": 3}, ["train-1:0:1", "train-2:0:0", "eval-2:5:0"]),
        ({"sort": "reward", "limit": 1, "offset": 9}, ["train-1:1:0"]),  # what has no grade comes last
        ({"sort": "-tokens", "limit": 1}, ["train-1:0:1"]),
    ],
)
def test_filters(run: Path, filters: dict[str, Any], expected: list[str]) -> None:
    assert ids(run, **filters) == expected


def test_an_answer_comes_whole(run: Path) -> None:
    one = find(run, parse_id("train-1:1:1"))
    assert (one.reasoning, one.answer, one.finish, one.reward, one.step) == ("Ataxia?\nfits TSC2", "", "length", 0.5, 1)
    assert one.messages == ({"role": "user", "content": 'case "1"'},) and one.item is None
    assert one.parts == {"format": 1.0, 'odd "na.me"': -0.25}
    failed = find(run, parse_id("train-1:1:0"))
    assert (failed.status, failed.reward, failed.error_kind, failed.explanation) == ("error", None, "other_error", "boom")
    held_out = find(run, parse_id("eval-2:5:0"))
    assert held_out.item == row(5).item and (held_out.prompt_tokens, held_out.completion_tokens) == (1, 3)
    assert [(answer.seed, round(answer.logprob or 0, 9), answer.seconds) for answer in (one, held_out)] == [(0, -0.3, 0.0)] * 2


def test_total_counts_all_that_fit_and_several_runs_are_searched_together(run: Path, tmp_path: Path) -> None:
    assert search([run], Query(text="tsc", limit=1)).total == 4
    other = RunFolder(tmp_path / "other")
    other.rollouts.mkdir(parents=True)
    write_rollouts(other.rollouts / "step-00003.parquet", 3, [Group(row(9), Prompt((1,)), (rollout(row(9), 0, "TSC2", 1.0),))])
    found = search([run, other.path], Query(text="tsc2"))
    assert [(Path(one.run).name, str(one.id)) for one in found.rows] == [
        ("other", "train-3:9:0"), ("run", "train-2:0:0"), ("run", "train-1:0:1"), ("run", "train-1:1:1"),
    ]  # fmt: skip


def test_a_mistake_in_a_query_says_what_to_write(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give a run folder"):
        search([tmp_path / "nothing"])
    with pytest.raises(UserError, match=r"regex '\(': cannot be read"):
        search([run], Query(regex="("))
    with pytest.raises(UserError, match="known: newest"):
        search([run], Query(sort="best"))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="has no answer train-9:0:0"):
        find(run, RolloutId("train", "9", 0, 0))
    for wrong in ("12:3:1", "train-x:0:0", "eval-final"):
        with pytest.raises(UserError, match="train-STEP:ROW:SAMPLE"):
            parse_id(wrong)


def test_a_mark_said_twice_is_kept_once_and_the_newest_word_of_each_expert_stands(run: Path) -> None:
    first = mark(run, "train-1:0:0", "wrong", note="a synonym", by="ada")
    assert mark(run, "train-1:0:0", "wrong", note="a synonym", by="ada") == first
    mark(run, "train-1:0:0", 0.25, by="bob")
    mark(run, "train-1:0:0", "right", by="ada")
    again = mark(run, "train-1:0:0", "wrong", note="a synonym", by="ada")
    assert again.id == first.id and len((run / "marks.jsonl").read_text().splitlines()) == 4
    assert [(one.by, one.label) for one in marks(run)] == [("bob", 0.25), ("ada", 0.0)]
    assert (first.reward, first.answer, first.disagrees) == (0.0, "TSC1", False)
    assert mark(run, "train-2:0:0", "wrong").disagrees and mark(run, "train-1:1:0", "right").disagrees


@pytest.mark.parametrize("verdict", ["maybe", 1.5, "nan", ""])
def test_a_verdict_is_right_wrong_or_a_number(verdict: Any) -> None:
    with pytest.raises(UserError, match="write right, wrong, or a number"):
        label_of(verdict)


def test_marks_become_cases_of_the_grader_bench(run: Path, tmp_path: Path) -> None:
    mark(run, "eval-2:5:0", 0.5, note="half right", by="ada")  # reports keep the row
    out = tmp_path / "labelled.jsonl"
    assert export(run, out) == 1
    mark(run, "train-2:0:1", "right", by="ada")
    with pytest.raises(UserError, match=r"train-2:0:1: its row is not known here; .*--data"):
        export(run, out)
    assert export(run, out, [row(0), row(1)]) == 2
    labelled = read_labelled(out)
    assert [(one.answer, one.label, one.row.item["reference_answer"]) for one in labelled] == [
        ("held-out ataxia", 0.5, "TSC2"), ("a.b", 1.0, "TSC2"),
    ]  # fmt: skip
    assert all(one.marked for one in labelled)
    assert json.loads(out.read_text().splitlines()[0])["mark"] == {
        "rollout": "eval-2:5:0",
        "by": "ada",
        "note": "half right",
        "reward": 0.75,
    }


def test_the_training_file_beside_the_run_gives_the_row_if_it_is_still_the_same(run: Path) -> None:
    data = run.parent / "train.jsonl"
    data.write_text("".join(json.dumps(dict(row(i, "FBN1").item)) + "\n" for i in range(3)))
    RunFolder(run).write_provenance({"data_files": {"training_file": describe_file(data)}})
    assert mark(run, "train-2:2:0", "right").item == row(2, "FBN1").item
    data.write_text(data.read_text() + "\n")
    assert mark(run, "train-2:2:1", "right").item is None


def test_no_marks_says_how_to_make_one(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--verdict wrong"):
        export(run, tmp_path / "out.jsonl")
    assert marks(run) == []
