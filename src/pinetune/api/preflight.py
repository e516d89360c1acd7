"""`pinetune check` for the API: in a process of its own, on copies of the job's files, because it computes for minutes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pinetune.api.context import Context
from pinetune.api.job_body import new_job
from pinetune.runs.files import finite
from pinetune.store import NewJob
from pinetune.wire.errors import ApiProblem
from pinetune.wire.preflight import PreflightObject

SECONDS = 300.0  # two files of 50,000 rows are compared in less on one core
ROLES = ("training_file", "validation_file", "test_file")


def check_job(data: dict[str, Any], here: Context, project: str) -> PreflightObject:
    """Data and grader of the job that the body `data` would create. Raises ApiProblem 400 for a body that would create none."""
    new, _ = new_job(data, here, project)
    if new.method != "reinforcement":
        raise ApiProblem(400, "Only reinforcement jobs are checked beforehand", code="invalid_value", param="method.type")
    with tempfile.TemporaryDirectory(prefix="pinetune-preflight-") as folder:
        job_file = _put_together(new, here, Path(folder))
        return _report(_run(job_file, here), folder)


def refuse_stopped(report: PreflightObject) -> None:
    """Raises ApiProblem 400 with what `report` found where its verdict is stop."""
    found = [finding.text for part in report.parts for finding in part.findings if finding.verdict == "stop"]
    if report.verdict == "stop":
        text = f"The job was not created, as its check says stop: {' '.join(found)}"
        raise ApiProblem(400, text[:4000], code="preflight_stop", param="pinetune.preflight")


def _put_together(new: NewJob, here: Context, folder: Path) -> Path:
    """The files under the names of their roles: findings then say the API's words, and nothing a user wrote becomes a path."""
    raw = {**new.body, "pinetune": {**(new.body.get("pinetune") or {})}}
    raw["pinetune"].setdefault("allow_answer_overlap", True)  # as the worker does: a server's job starts, and warns
    for role in ROLES:
        id = getattr(new, role)
        if id is not None:
            shutil.copyfile(here.store.files.local_path(id), folder / role)
            (raw["pinetune"] if role == "test_file" else raw)[role] = role
    job_file = folder / "job.json"
    job_file.write_text(json.dumps(raw), encoding="utf-8")
    return job_file


def _run(job_file: Path, here: Context) -> tuple[int, str, str]:
    """Exit status, output and complaints of `pinetune check`."""
    command = [sys.executable, "-m", "pinetune", "check", str(job_file), "--json", "--no-model"]
    settings = here.settings  # judges' answers are cached in the home folder, and their aliases stand in the store
    environment = {**os.environ, "PINETUNE_HOME": str(settings.home), "PINETUNE_DATABASE_URL": settings.database_url}
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            out, complaints = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with the graders' processes
            text = f"The check took longer than {SECONDS:g} seconds; run `pinetune check` on a machine that has the files"
            raise ApiProblem(400, text, code="preflight_too_long") from None
    return process.returncode, out, complaints


def _report(done: tuple[int, str, str], folder: str) -> PreflightObject:
    status, out, complaints = done
    if status == 2:  # something for the user to mend, said in one line
        text = complaints.replace(f"{folder}/", "").strip().removeprefix("error: ")
        raise ApiProblem(400, " ".join(text.split())[:4000], code="invalid_value")
    if status != 0:
        raise RuntimeError(f"pinetune check ended with status {status}: {complaints[-2000:]}")
    return PreflightObject.model_validate(finite(json.loads(out.replace(f"{folder}/", ""))))
