"""A job whose judge costs more than it may: paused with the reason, and callable so far."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import messages, new_job, wait_for
from judge_server import JudgeServer, says, verdict

from pinetune.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
JUDGE = {
    "type": "score_model",
    "name": "judge",
    "model": "gpt-4.1",
    "input": [{"role": "user", "content": "How good is {{sample.output_text}}?"}],
}


def test_a_spent_budget_pauses_the_job(
    store: Store, tiny: str, working: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with JudgeServer(lambda number, body: says(verdict((number * 37 % 101) / 100))) as server:
        monkeypatch.setenv("PINETUNE_JUDGE_BASE_URL", server.url)
        monkeypatch.setenv("PINETUNE_JUDGE_CACHE", str(tmp_path / "judges.sqlite"))
        job = new_job(store, grader=JUDGE, own={"judge_budget_tokens": 15 * 15, "judge_concurrency": 1, "steps": 40})
        working()
        paused = wait_for(store, job, "paused", "failed", "succeeded")
        assert paused.status == "paused" and paused.error is None
        said = messages(store, job)[-1]
        assert said.startswith("Paused: ") and "raise judge_budget_tokens" in said and "The same command" not in said
        assert server.count == 15
        newest = store.checkpoints.latest(job.id)
        assert paused.step == 0 or (newest is not None and newest.step == paused.step)
        store.jobs.set_options(job.id, {"judge_budget_tokens": 15 * 40})
        store.jobs.resume(job.id)
        again = wait_for(store, job, "paused", "failed", "succeeded")
        assert (again.status, server.count) == ("paused", 40)  # of the whole job's: what was spent before counts
