"""docs/service.md word by word: a new user's first job, on rows of the demo and fewer steps of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from service_process import Service

from pinetune.demo.job import make_demo

PAGE = Path(__file__).parents[2] / "docs" / "service.md"
needs_bubblewrap = pytest.mark.skipif(
    shutil.which("bwrap") is None, reason="bubblewrap is not installed; python graders cannot be confined"
)


@needs_bubblewrap
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_first_job(tmp_path: Path) -> None:
    script = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL))
    assert script.count("127.0.0.1:8000") == 1 and "list_events" in script and "evals.runs.create" in script
    demo = make_demo(tmp_path / "demo-run", quick=True)
    own = {**demo.body["pinetune"], "steps": 2, "group_size": 2, "threads": 1}
    method = demo.body["method"]
    method["reinforcement"]["hyperparameters"] = {"batch_size": 2, "eval_interval": 2, "eval_samples": 1}
    demo.job_file.write_text(json.dumps({**demo.body, "method": method, "pinetune": own}))
    with Service(tmp_path / "home") as service:
        script = script.replace("http://127.0.0.1:8000/v1", service.url)
        done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-2000:]
    for said in ("Files validated", "Step 2/2 , train mean reward=", "The job has successfully completed", "\nstep,train_mean_reward,"):
        assert said in done.stdout
    assert re.search(r"completed ResultCounts\(errored=0, failed=\d+, passed=\d+, total=20\) http://\S+/report", done.stdout), done.stdout[
        -500:
    ]
