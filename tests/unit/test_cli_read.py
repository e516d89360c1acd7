"""`pinetune read` and its marks from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_run import write_run
from typer.testing import CliRunner

from pinetune.cli.main import app


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


def said(*args: str) -> str:
    result = CliRunner().invoke(app, ["read", *args], env={"COLUMNS": "200"}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_cards_show_question_thinking_answer_grade_and_mark(run: Path) -> None:
    said(str(run), "--mark", "train-1:1:1", "--verdict", "wrong", "--note", "empty", "--by", "ada")
    text = said(str(run), "--row", "1")
    assert [line.rstrip() for line in text.splitlines()] == [
        "train-1:1:0  could not be graded (other_error)  3 tokens",
        '  asked: case "1"',
        "  thought: hm",
        "  answered: no",
        "  grader: boom",
        "",
        "train-1:1:1  reward 0.5  3 tokens, cut off",
        '  asked: case "1"',
        "  thought: Ataxia?",
        "  fits TSC2",
        '  parts: format 1, odd "na.me" -0.25',
        "  marked: train-1:1:1: 0 by ada (graded 0.5): empty",
        "",
        "1 to 2 of 2 answers fit.",
    ]


def test_a_held_out_answer_stands_beside_the_right_one(run: Path) -> None:
    lines = [line.rstrip() for line in said(str(run), "--report", "final-tuned").splitlines()]
    assert lines[lines.index("  answered: final") + 1] == "  right: TSC2"


def test_json_holds_the_answers_and_how_many_fit(run: Path) -> None:
    body = json.loads(said(str(run), "--text", "ataxia", "--limit", "1", "--json"))
    assert (body["total"], [one["id"] for one in body["rows"]]) == (3, ["eval-2:5:0"])


def test_a_mark_of_nobody_named_is_kept(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert said(str(run), "--mark", "eval-2:5:0", "--verdict", "right") == "eval-2:5:0: 1 by nobody named (graded 0.75)\n"


def test_marks_are_listed_and_exported(run: Path, tmp_path: Path) -> None:
    assert said(str(run), "--marks") == "No marks yet.\n"
    said(str(run), "--mark", "eval-2:5:0", "--verdict", "0.25", "--by", "ada")
    assert said(str(run), "--marks") == "eval-2:5:0: 0.25 by ada (graded 0.75)\n1 mark, 1 against the grade.\n"
    assert said(str(run), "--export", str(tmp_path / "cases.jsonl")).startswith("1 labelled answer: ")
    assert json.loads((tmp_path / "cases.jsonl").read_text())["label"] == 0.25


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--status", "bad"], "write ok or error"),
        (["--part", "format"], "--part format: write a name and two numbers, as format,0,0.5"),
        (["--mark", "train-1:0:0"], "add --verdict right, wrong"),
    ],
)
def test_a_wrong_option_says_what_to_write(run: Path, args: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["read", str(run), *args])
    assert result.exit_code != 0 and message in str(result.exception)
