"""Each official client asks the bundled miniature through the API: chat completions and responses, whole and streamed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_server import Service, listening, prepare, service_on
from test_api_other_clients import NODE, PYTHONS, SCRIPTS

from pinetune.settings import Settings
from pinetune.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def answering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The API with serving behind it, on one store."""
    from pinetune.serving.process import create_process_app

    home = tmp_path_factory.mktemp("answering")
    prepare(home)
    with (
        Store.open(Settings.read({}, home=home)) as store,
        listening(create_process_app(store, "s3cret")) as models,
        service_on(home, models, "s3cret") as service,
    ):
        yield service


@pytest.mark.parametrize("python", PYTHONS)
def test_python_clients_ask(answering: Service, python: str) -> None:
    command = [python, str(SCRIPTS / "answers.py"), f"{answering.url}/v1"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "PYTHON"))}
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("passed ")


@pytest.mark.skipif(not NODE, reason="PINETUNE_TEST_OPENAI_NODE names no folder with the Node client")
def test_the_node_client_asks(answering: Service, tmp_path: Path) -> None:
    shutil.copy(SCRIPTS / "answers.mjs", tmp_path)
    (tmp_path / "node_modules").symlink_to(Path(NODE) / "node_modules")
    command = ["node", str(tmp_path / "answers.mjs"), f"{answering.url}/v1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "passed\n"
