"""Other official clients: Python 1.x and 2.x in environments of their own, and Node. Each runs the same script against a live server.

PINETUNE_TEST_OPENAI_PYTHONS   python executables with such clients, separated by colons
PINETUNE_TEST_OPENAI_NODE      a folder whose node_modules holds the Node client
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from api_server import Service

SCRIPTS = Path(__file__).parent / "other_clients"
PYTHONS = [sys.executable, *filter(None, os.environ.get("PINETUNE_TEST_OPENAI_PYTHONS", "").split(":"))]
NODE = os.environ.get("PINETUNE_TEST_OPENAI_NODE", "")


@pytest.mark.slow
@pytest.mark.parametrize("python", PYTHONS)
def test_python_clients(service: Service, python: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "PYTHON"))}
    command = [python, str(SCRIPTS / "surface.py"), f"{service.url}/v1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("passed ")


@pytest.mark.slow
@pytest.mark.skipif(not NODE, reason="PINETUNE_TEST_OPENAI_NODE names no folder with the Node client")
def test_the_node_client(service: Service, tmp_path: Path) -> None:
    shutil.copy(SCRIPTS / "surface.mjs", tmp_path)
    (tmp_path / "node_modules").symlink_to(Path(NODE) / "node_modules")
    command = ["node", str(tmp_path / "surface.mjs"), f"{service.url}/v1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "passed\n"
