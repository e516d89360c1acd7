"""Pause, resume, cancel, dead children, vanished workers: with real child processes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import child_of, messages, new_job, steps_told, wait_for, wait_until

from pinetune.settings import Settings
from pinetune.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
LONG = {"steps": 12}


def weights(store: Store, name: str) -> bytes:
    return (store.folders.path(store.models.resolve(name).location) / "model.safetensors").read_bytes()


def test_a_paused_job_can_be_asked_and_goes_on_to_the_same_end(store: Store, tiny: str, working: Callable[..., object]) -> None:
    whole, job = new_job(store, own=LONG), new_job(store, own=LONG)
    working()
    wait_until(lambda: store.jobs.get(job.id).step >= 2)
    store.jobs.request_pause(job.id)
    paused = wait_for(store, job, "paused", "succeeded")
    assert paused.status == "paused" and not paused.pause_requested and paused.worker is None
    assert messages(store, job)[-1] == "Fine-tuning job paused"
    newest = store.checkpoints.latest(job.id)
    assert newest is not None and newest.step == paused.step < 12
    assert weights(store, newest.model)
    store.jobs.resume(job.id)
    done = wait_for(store, job, "succeeded", "failed")
    assert done.error is None
    assert steps_told(store, job) == [f"Step {n}/12" for n in range(13)]
    first = store.jobs.get(whole.id)
    assert first.fine_tuned_model and done.fine_tuned_model
    assert weights(store, done.fine_tuned_model) == weights(store, first.fine_tuned_model)
    assert done.trained_tokens == first.trained_tokens


def test_a_killed_child_goes_on_and_a_cancelled_one_ends(
    store: Store, settings: Settings, tiny: str, working: Callable[..., object]
) -> None:
    job = new_job(store, own={**LONG, "steps": 200})
    working()
    wait_until(lambda: store.jobs.get(job.id).step >= 3)
    pid = child_of(settings, job)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: any(m.startswith("The job's process was killed (SIGKILL") for m in messages(store, job)))
    reached = store.jobs.get(job.id).step
    wait_until(lambda: store.jobs.get(job.id).step >= reached + 2)
    assert steps_told(store, job) == [f"Step {n}/200" for n in range(len(steps_told(store, job)))]
    again = child_of(settings, job)
    store.jobs.cancel(job.id)
    wait_until(lambda: not Path(f"/proc/{again}").exists())
    done = store.jobs.get(job.id)
    assert done.status == "cancelled" and done.fine_tuned_model is None
    assert messages(store, job)[-1] == "Fine-tuning job cancelled"
    kept = store.checkpoints.latest(job.id)
    assert kept is not None and weights(store, kept.model)


def test_a_child_killed_while_it_checks_the_job_is_started_again(
    store: Store, settings: Settings, tiny: str, working: Callable[..., object]
) -> None:
    job = new_job(store)
    working()
    first = wait_until(lambda: child_of(settings, job))
    os.kill(first, signal.SIGKILL)
    assert wait_for(store, job, "running", "failed").error is None
    store.jobs.cancel(job.id)


def test_a_worker_told_to_end_gives_its_job_back(store: Store, tiny: str, working: Callable[..., threading.Event]) -> None:
    job = new_job(store, own=LONG)
    stopping = working()
    wait_until(lambda: store.jobs.get(job.id).step >= 2)
    stopping.set()
    back = wait_for(store, job, "queued")
    assert back.worker is None and back.attempts == 0
    assert messages(store, job)[-1] == "The worker stopped, moving job to queued state"
    working()
    assert wait_for(store, job, "succeeded", "failed").error is None
    assert steps_told(store, job) == [f"Step {n}/12" for n in range(13)]


def test_beside_a_running_job_others_are_checked_queued_and_cancelled(
    store: Store, settings: Settings, tiny: str, working: Callable[..., object]
) -> None:
    long = new_job(store, own={**LONG, "steps": 2000})
    working()
    wait_until(lambda: store.jobs.get(long.id).step >= 1)
    bad, good = new_job(store, valid=b'{"messages": 3}\n'), new_job(store)
    failed = wait_for(store, bad, "failed", "queued")
    assert failed.error is not None and failed.error["code"] == "invalid_validation_file"
    assert failed.error["message"].startswith("my valid.jsonl:1: messages: a number")
    wait_for(store, good, "queued")
    assert store.jobs.get(long.id).status == "running"
    assert store.jobs.cancel(good.id).status == "cancelled"
    pid = child_of(settings, long)
    held = store.jobs.get(long.id).worker
    assert held is not None and store.leases.abandon(held) == [long.id]  # as if the worker had vanished: another may hold the job now
    wait_until(lambda: not Path(f"/proc/{pid}").exists())  # and the one that lost it stops at once
    store.jobs.cancel(long.id)
    assert messages(store, long)[-1] == "Fine-tuning job cancelled"
