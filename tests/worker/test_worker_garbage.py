"""Ten thousand rows of garbage as a training file: the job fails with file and lines, briefly, and the worker goes on."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import messages, new_job, wait_for

from pinetune.data.rows import load_rows
from pinetune.errors import DataError
from pinetune.settings import Settings
from pinetune.store import Store
from pinetune.worker.failures import describe

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]  # seconds in all, of waiting or of work

ROWS = 10_000
GARBAGE = {
    "bytes": b"\n".join(random.Random(i).randbytes(40).replace(b"\n", b"") for i in range(ROWS)),
    "words": b"not json\n" * ROWS,
    "empty objects": b"{}\n" * ROWS,
    "deep": (b'{"messages": ' + b"[" * 200 + b"]" * 200 + b"}\n") * ROWS,
    "wrong types": b'{"messages": [{"role": 7, "content": {"x": NaN}}]}\n' * ROWS,
    "lines of other lines": b"\r\r\x00\x0b\x85\n" * ROWS,
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_is_answered_with_lines_and_without_paths(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "training.jsonl"
    path.write_bytes(GARBAGE[kind])
    with pytest.raises(DataError) as refused:
        load_rows(path)
    error = describe(refused.value, {str(path): "training_file:my rows.jsonl"})
    assert (error["code"], error["param"]) == ("invalid_training_file", "training_file")
    lines = (error["message"] or "").splitlines()
    assert lines[0].startswith("my rows.jsonl:1: ") and lines[-1].startswith("my rows.jsonl: ... and ")
    assert len(lines) == 21 and len(error["message"] or "") < 10_000
    assert str(tmp_path) not in (error["message"] or "")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_garbage_fails_its_job_and_nothing_else(store: Store, tiny: str, settings: Settings, working: Callable[..., object]) -> None:
    garbage, sound = new_job(store, train=GARBAGE["bytes"]), new_job(store, own={"steps": 1})
    working()
    done = wait_for(store, garbage, "failed", "queued", "running", "succeeded")
    assert done.status == "failed" and done.error is not None
    assert (done.error["code"], done.error["param"]) == ("invalid_training_file", "training_file")
    assert done.error["message"].startswith("my train.jsonl:1: ") and len(done.error["message"]) <= 4000
    for leak in (str(settings.home), "/site-packages/", "Traceback"):
        assert leak not in done.error["message"] and leak not in "".join(messages(store, garbage))
    assert wait_for(store, sound, "succeeded", "failed").error is None
