"""`pinetune grader run` and `validate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pinetune.cli.grader import grader_app
from pinetune.demo.grader import gene_grader_definition
from pinetune.errors import GraderError, UserError


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "grader.json").write_text(json.dumps(gene_grader_definition()))
    (tmp_path / "job.json").write_text(json.dumps({"model": "m", "method": {"reinforcement": {"grader": gene_grader_definition()}}}))
    (tmp_path / "item.json").write_text('{"reference_answer": "TSC2"}')
    (tmp_path / "answer.txt").write_text('{"genes": ["TSC1", "TSC2"]}')
    (tmp_path / "broken.json").write_text('{\n"type": }')
    (tmp_path / "list.json").write_text("[]")
    return tmp_path


def call(files: Path, *arguments: str) -> Any:
    return CliRunner().invoke(grader_app, [str(files / word) if (files / word).exists() else word for word in arguments])


@pytest.mark.parametrize("grader", ["grader.json", "job.json"])
def test_run_prints_the_reward(files: Path, grader: str) -> None:
    result = call(files, "run", grader, "--answer-file", "answer.txt", "--item", "item.json")
    assert result.exit_code == 0
    assert result.output.startswith("gene_ranking: reward 0.7 (")


def test_run_as_json(files: Path) -> None:
    result = call(files, "run", "grader.json", "--answer", '{"genes": ["TSC2"]}', "--item", "item.json", "--json")
    body = json.loads(result.output)
    assert (result.exit_code, body["name"], body["status"], body["value"]) == (0, "gene_ranking", "ok", 1.0)


def test_run_that_could_not_grade_shows_why_and_exits_1(files: Path) -> None:
    result = call(files, "run", "grader.json", "--answer", '{"genes": ["TSC2"]}')
    assert result.exit_code == 1
    assert result.output.startswith("gene_ranking: could not grade (python_grader_runtime_error)\nTraceback")
    assert result.output.endswith("KeyError: 'reference_answer'\n")
    assert json.loads(call(files, "run", "grader.json", "--answer", '{"genes": []}', "--json").output)["value"] is None


def test_validate(files: Path) -> None:
    result = call(files, "validate", "grader.json")
    said = "  python (62 lines): part of Pinetune, runs in a child process with limits"
    assert (result.exit_code, result.output) == (0, f"{files / 'grader.json'}: grader gene_ranking is valid\n{said}\n")


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        (("run", "grader.json"), UserError, "give the answer with either --answer TEXT or --answer-file FILE"),
        (("run", "grader.json", "--answer", "x", "--answer-file", "answer.txt"), UserError, "give the answer with either"),
        (("run", "absent.json", "--answer", "x"), GraderError, "absent.json: No such file or directory"),
        (("run", "broken.json", "--answer", "x"), GraderError, "broken.json:2: not valid JSON: Expecting value"),
        (("run", "grader.json", "--answer", "x", "--item", "list.json"), GraderError, "list.json: an item must be one JSON object"),
        (("validate", "item.json"), GraderError, "grader.type: is missing"),
    ],
)
def test_bad_calls(files: Path, arguments: tuple[str, ...], kind: type[Exception], said: str) -> None:
    result = call(files, *arguments)
    assert isinstance(result.exception, kind)
    assert said in str(result.exception)
