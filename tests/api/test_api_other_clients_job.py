"""Each official client takes a whole job through a real service: rows, events, a pause, a checkpoint asked, results, the tuned model asked.

The installed client's own job is tests/e2e/test_service_path.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from service_process import Service
from test_api_other_clients import NODE, PYTHONS, SCRIPTS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("served") / "home") as running:
        yield running


@pytest.mark.parametrize("python", PYTHONS[1:])
def test_python_clients_take_a_job_through(served: Service, python: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "PYTHON"))}
    done = subprocess.run([python, str(SCRIPTS / "job.py"), served.url], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("passed ")


@pytest.mark.skipif(not NODE, reason="PINETUNE_TEST_OPENAI_NODE names no folder with the Node client")
def test_the_node_client_takes_a_job_through(served: Service, tmp_path: Path) -> None:
    shutil.copy(SCRIPTS / "job.mjs", tmp_path)
    (tmp_path / "node_modules").symlink_to(Path(NODE) / "node_modules")
    done = subprocess.run(["node", str(tmp_path / "job.mjs"), served.url], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "passed\n"
