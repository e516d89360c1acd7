"""`pinetune vote` and `pinetune rerank` on a tiny model: what they print is what its samples hold, and trained rows are no evidence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_models import save_tiny
from typer.testing import CliRunner

from pinetune.cli.main import app
from pinetune.errors import DataError, UserError

pytestmark = pytest.mark.slow  # seconds in all, of waiting or of work

# The tiny model writes noise; noise with an "e" in it is right.
GRADER = {"type": "string_check", "name": "e", "input": "{{sample.output_text}}", "reference": "e", "operation": "ilike"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("vote")
    save_tiny(home / "model", seed=3)
    (home / "grader.json").write_text(json.dumps(GRADER))
    for name, first in (("train", 0), ("test", 100)):
        rows = [{"messages": [{"role": "user", "content": f"Case {i}"}], "reference_answer": f"gene {i}"} for i in range(first, first + 6)]
        (home / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return home


def run(*args: str) -> str:
    result = CliRunner().invoke(app, list(args), env={"COLUMNS": "200"}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def vote(home: Path, *more: str) -> dict[str, Any]:
    asked = ["--data", str(home / "test.jsonl"), "--grader", str(home / "grader.json"), "--samples", "6", "--max-tokens", "6"]
    return dict(json.loads(run("vote", str(home / "model"), *asked, "--json", *more)))


def test_vote_says_every_way_with_interval_and_n(home: Path) -> None:
    report = vote(home, "--rule", "text", "--rule", "last_number")
    assert list(report["ways"]) == ["greedy", "single sample", "vote text", "vote last_number", "best of n"]
    assert (report["baseline"], report["samples"], len(report["rows"])) == ("greedy", 6, 6)
    rewards = {name: way["reward"]["value"] for name, way in report["ways"].items()}
    assert 0 < rewards["single sample"] < rewards["best of n"] <= 1
    assert all(way["reward"]["n"] == 6 and len(way["reward"]["ci95"]) == 2 for way in report["ways"].values())
    gain = report["against_baseline"]["best of n"]["reward"]["value"]
    assert gain == pytest.approx(rewards["best of n"] - rewards["greedy"])
    assert vote(home, "--rule", "text", "--rule", "last_number") == report  # the seed fixes it


def test_several_ways_on_the_same_rows_are_counted(home: Path) -> None:
    asked = ["--data", str(home / "test.jsonl"), "--grader", str(home / "grader.json"), "--samples", "6", "--max-tokens", "6"]
    luck = "2 ways were tried on these rows, and the best of them is in part the luckiest: count its p 2 times."
    assert luck in run("vote", str(home / "model"), *asked, "--rule", "text", "--rule", "last_number")
    assert "ways were tried" not in run("vote", str(home / "model"), *asked, "--rule", "text")


def test_a_reranker_is_trained_from_fresh_samples_and_refuses_the_rows_it_knows(home: Path) -> None:
    data, out = str(home / "train.jsonl"), str(home / "reranker")
    asked = ["--data", data, "--grader", str(home / "grader.json"), "--samples", "6", "--epochs", "1", "--out", out]
    said = run("rerank", "train", str(home / "model"), *asked, "--held-out", str(home / "test.jsonl"))
    assert "Step 1 kept" in said
    settings = json.loads((home / "reranker" / "reranker.json").read_text())
    assert (settings["samples"], len(settings["rows"]), settings["kept_step"]) == (6, 6, 1)
    report = vote(home, "--reranker", out)
    rewards = {name: way["reward"]["value"] for name, way in report["ways"].items()}
    assert rewards["reranker"] <= rewards["best of n"] and list(rewards)[-2:] == ["reranker", "best of n"]
    with pytest.raises(DataError, match="was trained on 6 of these 6 rows"):
        vote(home, "--reranker", out, "--data", data)
    with pytest.raises(DataError, match="same prompt and same answer"):
        run("rerank", "train", str(home / "model"), *asked, "--held-out", data)


def test_what_is_missing_is_said(home: Path) -> None:
    with pytest.raises(UserError, match="give one: --grader"):
        run("vote", str(home / "model"), "--data", str(home / "test.jsonl"))
    asked = ["--data", str(home / "train.jsonl"), "--grader", str(home / "grader.json"), "--out", str(home / "x")]
    with pytest.raises(UserError, match="sample some: --samples 16"):
        run("rerank", "train", str(home / "model"), *asked, "--samples", "0")
