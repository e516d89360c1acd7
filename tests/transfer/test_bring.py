"""An import from a server that plays the hosted product: everything comes, nothing is overwritten, and interrupting it changes nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_server import PATIENCE, listening, prepare
from hosted_double import NUM_EVENTS, NUM_ITEMS, Hosted, dump

from pinetune.api.app import create_app
from pinetune.errors import UserError
from pinetune.settings import Settings
from pinetune.store import Store
from pinetune.transfer.bring import NO_WEIGHTS, bring_over
from pinetune.transfer.endpoint import Endpoint

pytestmark = pytest.mark.slow  # seconds in all, of waiting or of work

ME = "proj_default"


class Quiet:
    """A watch that counts what it hears."""

    def __init__(self) -> None:
        self.heard: dict[str, list[int]] = {}

    def begin(self, kind: str, total: int) -> None:
        self.heard.setdefault(kind, [0, 0])[1] += total

    def advance(self, kind: str) -> None:
        self.heard[kind][0] += 1


class Cut(BaseException):
    """Ends an import where no handler of ours may catch it."""


class Fragile(Endpoint):
    """Allows some requests, then ends."""

    left = 0

    def _keep_pace(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Cut


OPENED: list[Endpoint] = []


def endpoint(url: str, **options: Any) -> Endpoint:
    OPENED.append(Endpoint(url, "none", **{"rate": 0, **options}))
    return OPENED[-1]


@pytest.fixture(autouse=True)
def connections_are_let_go() -> Iterator[None]:
    """Else the collector finds them in the middle of somebody's test, and warnings are errors."""
    yield
    while OPENED:
        OPENED.pop().close()


def shown(url: str) -> dict[str, Any]:
    """All a client sees of what ended, through the API."""
    found: dict[str, Any] = {}
    with httpx.Client(base_url=url, timeout=PATIENCE) as http:

        def read(path: str) -> Any:
            return found.setdefault(path, http.get(path, params={"limit": 1000}).json()["data"])

        for file in read("/files"):
            found[file["id"]] = http.get(f"/files/{file['id']}/content").content
        found["/fine_tuning/jobs"] = [job for job in read("/fine_tuning/jobs") if job["status"] != "running"]
        for job in found["/fine_tuning/jobs"]:
            read(f"/fine_tuning/jobs/{job['id']}/events")
            read(f"/fine_tuning/jobs/{job['id']}/checkpoints")
        for made in read("/evals"):
            for run in read(f"/evals/{made['id']}/runs"):
                run["report_url"] = run["report_url"].removeprefix(url)  # each server names its own
                read(f"/evals/{made['id']}/runs/{run['id']}/output_items")
    return found


def test_everything_that_ended_comes_over(hosted: Hosted, target: Store) -> None:
    watch = Quiet()
    tally = bring_over(endpoint(hosted.url), target, ME, watch)
    counts = {"files": 7, "jobs": 3, "checkpoints": 2, "evals": 1, "runs": 2, "output items": 2 * NUM_ITEMS}
    assert {kind: tally.came[kind] for kind in counts} == counts
    assert tally.came["events"] > NUM_EVENTS
    running = next(job for job in hosted.store.jobs.list().items if job.status == "running")
    tuned = next(job.fine_tuned_model for job in hosted.store.jobs.list().items if job.fine_tuned_model)
    assert tally.skipped == [
        ("model weights", tuned, NO_WEIGHTS),
        ("jobs", running.id, "it has not ended (it is running): import again when it has"),
    ]
    assert watch.heard == {"files": [7, 7], "jobs": [4, 4], "evals": [1, 1], "runs": [2, 2]}
    with listening(create_app(target.settings, target)) as url:
        assert shown(f"{url}/v1") == shown(hosted.url)
    before = dump(target)
    again = bring_over(endpoint(hosted.url), target, ME, Quiet())
    assert sum(again.came.values()) == 0 and again.known["jobs"] == 3 and again.known["runs"] == 2
    assert dump(target) == before


@pytest.mark.slow
@pytest.mark.parametrize("requests", [2, 5])
def test_interrupted_again_and_again_it_ends_with_the_same_rows(hosted: Hosted, target: Store, tmp_path: Path, requests: int) -> None:
    whole = tmp_path / "whole"
    prepare(whole)
    cuts = 0
    while True:
        fragile = Fragile(hosted.url, "none", rate=0)
        fragile.left = requests + cuts  # each attempt gets a little further
        try:
            bring_over(fragile, target, ME, Quiet())
            break
        except Cut:
            cuts += 1
        finally:
            fragile.close()
    assert cuts >= 3
    with Store.open(Settings.read({}, home=whole)) as undisturbed:
        bring_over(endpoint(hosted.url), undisturbed, ME, Quiet())
        assert dump(target) == dump(undisturbed)


def test_only_jobs_brings_the_files_they_name(hosted: Hosted, target: Store) -> None:
    tally = bring_over(endpoint(hosted.url), target, ME, Quiet(), only=["jobs"])
    assert (tally.came["jobs"], tally.came["files"], tally.came["evals"]) == (3, 2, 0)
    assert sorted(file.filename for file in target.files.list().items) == ["step_metrics.csv", "train.jsonl"]


def test_it_waits_as_long_as_it_is_told(hosted: Hosted, target: Store) -> None:
    hosted.faults.planned = {"/evals": [(429, {"retry-after": "90"}), (503, {}), (429, {"retry-after-ms": "250"})]}
    slept: list[float] = []
    said: list[str] = []
    tally = bring_over(
        endpoint(hosted.url, sleep=slept.append, waiting=lambda seconds, why: said.append(why)), target, ME, Quiet(), only=["evals"]
    )
    assert (slept[0], slept[2]) == (90.0, 0.25) and 1.0 <= slept[1] <= 2.0
    assert said == ["429: not now", "503: not now", "429: not now"]
    assert tally.came["runs"] == 2


def test_a_connection_that_breaks_within_a_file_is_tried_again(hosted: Hosted, target: Store) -> None:
    file = next(file for file in hosted.store.files.list().items if file.filename == "train.jsonl")
    slept: list[float] = []
    tries = []

    def take(chunks: Any) -> bytes:
        tries.append(next(chunks))
        if len(tries) == 1:
            chunks.throw(ConnectionResetError("cut"))
        return tries[-1] + b"".join(chunks)

    content = endpoint(hosted.url, sleep=slept.append).download(file.id, take)
    assert (len(tries), len(slept), len(content)) == (2, 1, file.bytes)


def test_the_rate_is_kept(hosted: Hosted, target: Store) -> None:
    clock = [0.0]
    asked_at: list[float] = []

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    paced = endpoint(hosted.url, rate=4.0, sleep=sleep, now=lambda: clock[0])
    for _ in range(3):
        paced.get("/models")
        asked_at.append(clock[0])
    assert asked_at == [0.0, 0.25, 0.5]


def test_what_is_refused_is_left_out_with_its_reason(hosted: Hosted, target: Store) -> None:
    files = hosted.store.files.list(order="asc").items
    hosted.faults.planned = {
        f"/files/{files[0].id}/content": [(404, {})],
        f"/files/{files[1].id}/content": [(400, {})],
        "/evals": [(403, {})],
    }
    tally = bring_over(endpoint(hosted.url), target, ME, Quiet(), only=["files", "evals"])
    assert tally.skipped == [
        ("files", files[0].id, "its content is no longer available"),
        ("files", files[1].id, "the endpoint does not give out content of purpose fine-tune (400: not now)"),
        ("evals", "all", "the endpoint does not list them (403: not now)"),
    ]
    assert bring_over(endpoint(hosted.url), target, ME, Quiet(), only=["files"]).came["files"] == 2


def test_an_object_whose_name_is_taken_here_is_left_out(hosted: Hosted, target: Store) -> None:
    succeeded = next(job for job in hosted.store.jobs.list().items if job.status == "succeeded")
    target.imports.job(replace(succeeded, id="ftjob-mine"))
    tally = bring_over(endpoint(hosted.url), target, ME, Quiet(), only=["jobs"])
    [reason] = [reason for kind, id, reason in tally.skipped if id == succeeded.id]
    assert "a name or number of its own belongs to another object here" in reason
    assert tally.came["jobs"] == 2 and target.jobs.get("ftjob-mine").fine_tuned_model == succeeded.fine_tuned_model


def test_a_wrong_key_or_no_server_is_one_clear_error(hosted: Hosted, target: Store) -> None:
    hosted.faults.planned = {"/files": [(401, {})]}
    with pytest.raises(UserError, match=r"does not accept the API key \(not now\); set --api-key-env"):
        bring_over(endpoint(hosted.url), target, ME, Quiet())
    with pytest.raises(UserError, match=r"did not answer 8 times .*the same command goes on"):
        bring_over(endpoint("http://127.0.0.1:9/v1", sleep=lambda _: None), target, ME, Quiet())
    with pytest.raises(UserError, match="no http address"):
        endpoint("file:///etc/passwd")


COMMAND = [sys.executable, "-m", "pinetune", "import", "openai", "--rate", "0", "--base-url"]


@pytest.mark.slow
def test_kill_9_half_way_and_the_same_command(hosted: Hosted, tmp_path: Path) -> None:
    """Killed while files come, while a job's parts come, and while output items come: at a request that the endpoint keeps waiting."""
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    environment = {**os.environ, "OPENAI_API_KEY": "none"}
    moments = [  # the request at which it dies, and what is in the store then: files, jobs, checkpoints, output items
        ("/content", 2, (2, 0, 0, 0)),
        ("/events", 1, (7, 1, 0, 0)),
        ("/checkpoints", 1, (7, 2, 2, 0)),
        ("/output_items", 1, (7, 3, 2, 100)),
        ("/output_items", 1, (7, 3, 2, NUM_ITEMS)),
        ("/output_items", 1, (7, 3, 2, NUM_ITEMS + 100)),
    ]
    prepare(killed)
    with Store.open(Settings.read({}, home=killed)) as store:
        for part, number, stored in moments:
            hosted.faults.hold(part, number)
            process = subprocess.Popen([*COMMAND, hosted.url, "--home", str(killed)], env=environment, stdout=subprocess.DEVNULL)
            while not hosted.faults.held.wait(0.1):
                assert process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.wait()
            hosted.faults.let_go()
            assert _stored(store) == stored  # half-way indeed
    for home in (killed, whole):
        done = subprocess.run([*COMMAND, hosted.url, "--home", str(home)], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "it has not ended (it is running)" in done.stdout
    with Store.open(Settings.read({}, home=killed)) as one, Store.open(Settings.read({}, home=whole)) as other:
        assert dump(one) == dump(other)
        assert len(dump(one)["jobs"]) == 3


def _stored(store: Store) -> tuple[int, int, int, int]:
    """Files, jobs, checkpoints, output items."""
    jobs = store.jobs.list().items
    runs = [run for made in store.evals.list().items for run in store.eval_runs.list(made.id).items]
    checkpoints = sum(len(store.checkpoints.list(job.id).items) for job in jobs)
    return len(store.files.list().items), len(jobs), checkpoints, sum(len(store.eval_runs.positions(run.id)) for run in runs)


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from pinetune.cli.import_ import import_app

    runner = CliRunner()
    for args, said in [
        (["openai", "--only", "models"], "names something else than files, jobs, evals"),
        (["openai", "--api-key-env", "NOT_SET_ANYWHERE"], "the environment variable NOT_SET_ANYWHERE is not set"),
        (["openai", "--base-url", "http://localhost:9/v1", "--project", "x"], "there is no project 'x' here"),
    ]:
        result = runner.invoke(import_app, [*args, "--home", str(tmp_path)])
        assert isinstance(result.exception, UserError) and said in str(result.exception)


def test_a_summary_for_people(hosted: Hosted, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from pinetune.cli.import_ import import_app

    done = CliRunner().invoke(import_app, ["openai", "--base-url", hosted.url, "--rate", "0", "--home", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "output items" in done.output and f"{2 * NUM_ITEMS}" in done.output
    assert NO_WEIGHTS in done.output
