"""The API's process stays light: no torch, no transformers, and polars only for who searches rollouts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from api_server import GRADER, prepare

PROGRAM = """
import sys
from pathlib import Path
from starlette.testclient import TestClient
from pinetune.api.app import create_app
from pinetune.settings import Settings
from pinetune.store import Store

settings = Settings.read({}, home=Path(sys.argv[1]))
grader = GRADER
with Store.open(settings) as store, TestClient(create_app(settings, store), base_url="http://localhost") as client:
    file = client.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("a.jsonl", b"{}")}).json()["id"]
    method = {"type": "reinforcement", "reinforcement": {"grader": grader}}
    job = client.post("/v1/fine_tuning/jobs", json={"model": "pinetune-mini", "training_file": file, "method": method})
    assert job.status_code == 200, job.text
    assert client.get(f"/v1/fine_tuning/jobs/{job.json()['id']}").status_code == 200
    ran = client.post("/v1/fine_tuning/alpha/graders/run", json={"grader": grader, "model_sample": "x", "item": {"reference_answer": "x"}})
    assert ran.json()["reward"] == 1.0
    assert client.get("/metrics").status_code == client.get("/openapi.json").status_code == 200
print([m for m in ("torch", "transformers", "peft", "polars", "matplotlib", "scipy", "openai") if m in sys.modules])
"""


@pytest.mark.slow
def test_a_working_api_loads_nothing_heavy(tmp_path: Path) -> None:
    prepare(tmp_path)
    program = PROGRAM.replace("GRADER", repr(GRADER))
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
