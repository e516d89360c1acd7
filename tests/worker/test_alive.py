"""Signs of life: what a killed worker held is given back when the next one starts in its home."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import new_job

from pinetune.settings import Settings
from pinetune.store import DEFAULT_PROJECT, Store
from pinetune.worker import alive
from pinetune.worker.run import Pace, run_worker

HOLDER = """
import sys, time
from pathlib import Path
from pinetune.worker.alive import living
with living(Path(sys.argv[1]), sys.argv[2]):
    print("holds", flush=True)
    time.sleep(600)
"""


class Holder:
    """A process that lives under a name, until it is killed."""

    def __init__(self, home: Path, name: str) -> None:
        self._process = subprocess.Popen([sys.executable, "-c", HOLDER, str(home), name], stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"holds\n"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture
def holders() -> Iterator[list[Holder]]:
    made: list[Holder] = []
    yield made
    for holder in made:
        holder.kill()


def mourned(home: Path) -> list[str]:
    names: list[str] = []
    alive.mourn(home, names.append)
    return names


def test_who_was_killed_is_mourned_once_and_who_lives_is_not(tmp_path: Path, holders: list[Holder]) -> None:
    holders += [Holder(tmp_path, name) for name in ("w1", "w2", "w2", "w3")]
    assert mourned(tmp_path) == []
    for holder in holders[:2]:
        holder.kill()
    assert mourned(tmp_path) == ["w1"]  # another w2 lives
    assert mourned(tmp_path) == []
    with alive.living(tmp_path, "w4"):
        assert mourned(tmp_path) == []
    assert mourned(tmp_path) == []
    holders[2].kill()
    assert mourned(tmp_path) == ["w2"]


@pytest.mark.slow
def test_a_new_worker_takes_over_at_once(store: Store, settings: Settings, holders: list[Holder]) -> None:
    job = new_job(store)
    evaluation = store.evals.create(DEFAULT_PROJECT, {"testing_criteria": [], "data_source_config": {"type": "custom", "schema": {}}})
    run = store.eval_runs.create(evaluation.id, DEFAULT_PROJECT, {"data_source": {}})
    holders.append(Holder(settings.home, "killed"))
    assert store.leases.claim("killed", 3600) is not None and store.eval_runs.claim("killed", 3600) is not None
    holders[0].kill()
    stopping = threading.Event()
    stopping.set()  # it looks after the dead, and ends
    run_worker(settings, stopping, name="new", pace=Pace())
    assert store.jobs.get(job.id).worker is None
    found = store.eval_runs.get(run.id)
    assert found.status == "queued"
