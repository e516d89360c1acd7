"""The whole path through the official client against a live server: upload, train, watch, pause, resume, results, ask the model."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from service_process import Service, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
GRADER = {
    "type": "text_similarity", "name": "like", "evaluation_metric": "fuzzy_match",
    "input": "{{sample.output_text}}", "reference": "{{item.answer}}",
}  # fmt: skip


def upload(client: Any, name: str, words: str) -> str:
    rows = [{"messages": [{"role": "user", "content": f"Which gene fits {word}?"}], "answer": f"Gene {word}"} for word in words]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    return str(client.files.create(file=(name, content), purpose="fine-tune").id)


def events(client: Any, job_id: str) -> list[Any]:
    return list(client.fine_tuning.jobs.list_events(job_id, limit=100))[::-1]


def test_from_files_to_an_answer(tmp_path: Path) -> None:
    from openai import OpenAI

    with Service(tmp_path / "home") as service, OpenAI(base_url=service.url, api_key="none", timeout=240) as client:
        train, valid = upload(client, "train.jsonl", "abcdefgh"), upload(client, "valid.jsonl", "xyz")
        hyperparameters: Any = {"batch_size": 2, "eval_interval": 4, "eval_samples": 1}
        method: Any = {"type": "reinforcement", "reinforcement": {"grader": GRADER, "hyperparameters": hyperparameters}}
        own = {"steps": 12, "group_size": 4, "max_tokens": 32, "thinking_budget": 8, "early_stopping": False, "threads": 1}
        job = client.fine_tuning.jobs.create(
            model="pinetune-mini", training_file=train, validation_file=valid, method=method, seed=1, suffix="path",
            extra_body={"pinetune": own},
        )  # fmt: skip
        assert job.status == "validating_files"

        def now() -> Any:
            return client.fine_tuning.jobs.retrieve(job.id)

        def has_come_to(step: int) -> bool:
            assert now().status != "failed", now().error
            return any(event.message.startswith(f"Step {step}/12") for event in events(client, job.id))

        wait_until(lambda: has_come_to(2), 400)
        assert now().method.reinforcement.hyperparameters.batch_size == 2
        assert now().estimated_finish is not None
        client.fine_tuning.jobs.pause(job.id)
        wait_until(lambda: now().status == "paused", 200)
        newest = client.fine_tuning.jobs.checkpoints.list(job.id).data[0]
        asked: Any = [{"role": "user", "content": "Which gene fits a?"}]
        meanwhile = client.chat.completions.create(model=newest.fine_tuned_model_checkpoint, messages=asked, max_tokens=8)
        assert meanwhile.usage is not None and meanwhile.usage.completion_tokens > 0
        client.fine_tuning.jobs.resume(job.id)
        wait_until(lambda: now().status in ("succeeded", "failed"), 400)
        done = now()
        assert done.status == "succeeded", done.error
        told = [event.message for event in events(client, job.id) if event.type == "metrics"]
        # A job that is paused between a step and its evaluation tells the evaluation alone once it goes on.
        trained = [message.split(" ,")[0] for message in told if "train mean reward" in message]
        assert trained == [f"Step {n}/12" for n in range(1, 13)]
        judged = [message.split(" ,")[0] for message in told if "validation mean reward" in message]
        assert judged == [f"Step {n}/12" for n in (0, 4, 8, 12)]
        table = list(csv.DictReader(io.StringIO(client.files.content(done.result_files[0]).text)))
        assert [line["step"] for line in table] == [str(n) for n in range(1, 13)]
        assert all(line["train_mean_reward"] for line in table)
        steps = [checkpoint.step_number for checkpoint in client.fine_tuning.jobs.checkpoints.list(job.id)]
        assert {4, 8, 12} <= set(steps)
        assert done.fine_tuned_model is not None and done.fine_tuned_model.startswith("ft:pinetune-mini:pinetune:path:")
        answer = client.responses.create(model=done.fine_tuned_model, input=asked, max_output_tokens=64)
        assert answer.usage is not None and answer.usage.output_tokens > 0
        assert answer.model == done.fine_tuned_model
        evaluation = client.evals.retrieve(done.eval_id)
        assert evaluation.name == f"Reinforcement Fine Tuning validation runs for {job.id}"
        assert service.stop() == 0
        assert "Stopping: " in service.log.read_text()
