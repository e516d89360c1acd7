"""The process that holds one job's model: checks the job, says so, waits for "go", trains, writes the finished weights.

    python -m pinetune.worker.child (check|run) JOB_FOLDER

With "check" it loads no weights and ends when it has said what it found.
It hears lines on standard input ("go", "stop") and says JSON lines on standard output;
whatever a library prints goes to the log. When its input closes, the worker is gone, and it
ends at once: nothing may write to a job nobody holds.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pinetune.errors import BudgetSpent, PinetuneError
from pinetune.records import EvalReport, Group, StepReport
from pinetune.runs.recorder import FolderRecorder
from pinetune.worker.failures import describe
from pinetune.worker.folder import JobFolder, is_disk_full, patiently_locked

if TYPE_CHECKING:
    from pinetune.loop.methods import MethodJob


class Orders:
    """What the worker asked for so far, read by a thread."""

    def __init__(self, source: int) -> None:
        """`source`: a file descriptor."""
        self.go = threading.Event()
        self.stop = threading.Event()
        threading.Thread(target=self._listen, args=(source,), daemon=True).start()

    def _listen(self, source: int) -> None:
        heard = b""
        while piece := os.read(source, 4096):  # not sys.stdin: a thread inside its lock would break the interpreter's end
            *lines, heard = (heard + piece).split(b"\n")
            for line in lines:
                {b"go": self.go, b"stop": self.stop}[line].set()
        os.killpg(0, signal.SIGKILL)  # our own group: graders' processes end with us


class ChildRecorder(FolderRecorder):
    """Writes the run folder, stops when told to, and tells the worker that there is something new to read."""

    def __init__(self, folder: JobFolder, orders: Orders, say: Callable[[Mapping[str, Any]], None]) -> None:
        super().__init__(folder.run)
        self._orders = orders
        self._say = say
        self.warning = ""

    def event(self, level: Literal["info", "warn", "error"], message: str, data: Mapping[str, Any] | None = None) -> None:
        if level == "warn":
            self.warning = message
        super().event(level, message, data)
        self._say({"said": "recorded"})

    def step(self, report: StepReport, groups: Sequence[Group]) -> None:
        super().step(report, groups)
        self._say({"said": "recorded"})

    def evaluation(self, report: EvalReport) -> None:
        super().evaluation(report)
        self._say({"said": "recorded"})

    def stop_requested(self) -> bool:
        return self._orders.stop.is_set()


def main() -> int:
    mode, folder = sys.argv[1], JobFolder(sys.argv[2])
    words = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # libraries print; the pipe is for our words alone
    orders = Orders(0)

    def say(word: Mapping[str, Any]) -> None:
        words.write(json.dumps(word) + "\n")

    try:
        say(_check(folder) if mode == "check" else _work(folder, orders, say))
    except PinetuneError as error:
        say({"said": "failed", **describe(error, _names(folder))})
        return 1
    except BaseException:
        traceback.print_exc()
        raise
    return 0


def _check(folder: JobFolder) -> dict[str, Any]:
    from pinetune.loop.methods import method_of

    body = folder.read_body()
    _, check = method_of(body["raw"])
    return {"said": "checked", "warnings": check(body["raw"], folder.path, body["source"])}


def _work(folder: JobFolder, orders: Orders, say: Callable[[Mapping[str, Any]], None]) -> dict[str, Any]:
    """Everything, from the body to the last word: finished or stopped."""
    from pinetune.loop.methods import method_of

    body = folder.read_body()
    prepare, _ = method_of(body["raw"])
    job = prepare(body["raw"], folder.path, body["source"])
    try:
        facts = {"hyperparameters": job.hyperparameters(), "settings": job.settings(), "warnings": job.warnings()}
        say({"said": "checked", **facts})
        orders.go.wait()
        with patiently_locked(folder.path):
            return _run(job, folder, ChildRecorder(folder, orders, say))
    except Exception as error:
        if not is_disk_full(error):
            raise
        full = "Paused: the disk that holds the job's folder is full; free some space, then resume the job"
        return {"said": "stopped", "settings": job.settings(), "reason": full}
    finally:
        job.close()


def _run(job: MethodJob, folder: JobFolder, recorder: ChildRecorder) -> dict[str, Any]:
    run = job.open_run(folder.run.path)
    stopped = {"said": "stopped", "settings": job.settings()}
    try:
        state = job.run(run, recorder)
        if state.stop_reason == "stopped":
            warning = recorder.warning.replace("The same command goes on", "Resumed, the job goes on")
            return {**stopped, "reason": "" if recorder.stop_requested() else warning}
        job.finish(run, recorder, state)
    except BudgetSpent as spent:
        return {**stopped, "reason": f"Paused: {spent}"}
    finished = {"said": "finished", "settings": job.settings(), "adapter": job.is_lora, "trained_tokens": state.trained_tokens}
    finished |= {"seconds": state.seconds, "stop_reason": state.stop_reason}
    folder.write_finished(finished)
    return finished


def _names(folder: JobFolder) -> dict[str, str]:
    """Paths of this machine -> what users call the files."""
    try:
        return dict(folder.read_body()["names"])
    except (OSError, KeyError, PinetuneError):
        return {}


if __name__ == "__main__":
    sys.exit(main())
