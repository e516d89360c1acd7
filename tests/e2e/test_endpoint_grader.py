"""A whole job graded by a web service that fails at times: it goes on, leaves out what was not graded, and keeps the key to itself."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console
from score_server import Handler, running
from tiny_models import save_tiny

from pinetune.cli.run import run_job

SECRET = "Bearer sk-never-to-be-kept"


def job(model: Path, url: str) -> dict[str, Any]:
    endpoint = {"type": "endpoint", "url": url, "headers": {"Authorization": SECRET}}
    grader = {"type": "multi", "graders": {"far": endpoint}, "calculate_output": "0.1 + far"}
    return {
        "model": str(model),
        "training_file": "train.jsonl",
        "seed": 7,
        "method": {"type": "reinforcement", "reinforcement": {"grader": grader, "hyperparameters": {"batch_size": 2}}},
        "pinetune": {
            "steps": 2, "group_size": 4, "max_tokens": 8, "learning_rate": 1e-3, "threads": 1, "max_refills": 0, "endpoint_timeout": 30,
        },
    }  # fmt: skip


def worth(answer: str) -> float:
    return len(answer) % 3 / 4


@pytest.mark.slow
def test_a_job_with_a_failing_endpoint(tmp_path: Path) -> None:
    def reply(handler: Handler) -> None:
        if handler.number % 4 == 2:
            handler.say(400, b"cannot read this")
        elif handler.number == 3:
            handler.say(503, b"busy")
        else:
            handler.say(200, json.dumps({"score": worth(handler.body["sample"]["output_text"])}).encode())

    model = save_tiny(tmp_path / "tiny")
    rows = [{"messages": [{"role": "user", "content": f"Say {word}."}], "answer": word} for word in "abcd"]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with running() as server:
        server.replies = [reply]
        run_job(job(model, server.url), tmp_path, tmp_path / "run", Console(file=StringIO()))
        seen = [body for _, body, _ in server.seen]
    found = pl.concat([pl.read_parquet(path) for path in sorted((tmp_path / "run" / "rollouts").glob("*.parquet"))])
    failed, graded = (found.filter(pl.col("grade_status") == status) for status in ("error", "ok"))
    assert (found.height, failed.height) == (16, 4)  # requests 2, 6, 10 and 14 of 17: the 503 was asked again, the 400s were not
    assert (len(seen), len({body["trace_id"] for body in seen})) == (17, 16)
    assert set(failed["grade_error_kind"]) == {"endpoint_grader_server_error"}
    assert failed["grade_value"].null_count() == 4
    assert all("answered 400: 'cannot read this'" in why for why in failed["grade_explanation"])
    assert graded["grade_value"].to_list() == [0.1 + worth(text) for text in graded["answer"]]
    assert {tuple(sorted(body["item"])) for body in seen} == {("answer", "messages")}
    kept = b"".join(path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert SECRET.encode() not in kept
    assert b"Authorization" in kept
