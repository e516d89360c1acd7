"""What a bundle is made from, gathered from the store's job or from a run folder: plain values, and paths of weights and report.

Paths of this machine stand in a run folder's events and in an adapter's config; what leaves here says nothing about the machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pinetune.errors import NotFound, UserError
from pinetune.graders.verdict import hide_headers
from pinetune.runs import files
from pinetune.runs.folder import RunFolder
from pinetune.runs.provenance import provenance
from pinetune.store import Job, Store
from pinetune.store.states import FINAL

Json = dict[str, Any]
ROLES = ("training_file", "validation_file", "test_file")


@dataclass(frozen=True, slots=True)
class Subject:
    """A job that ended. `weights` None = they are not in reach (an imported or failed job)."""

    id: str
    status: str
    model: str  # what it was trained from
    name: str  # what it is called
    method: str
    body: Json
    config: Json  # every "auto" as the number it became
    seed: int
    provenance: Json
    events: list[Json]
    metrics: list[Json]
    checkpoints: list[Json] = field(default_factory=list)
    summary: Json | None = None
    held_out: list[Json] = field(default_factory=list)  # reports without their rows
    trained_tokens: int | None = None
    results: Mapping[str, bytes] = field(default_factory=dict)  # file name -> CSV
    report: Path | None = None
    charts: tuple[Path, ...] = ()
    weights: Path | None = None
    adapter: Path | None = None
    private: tuple[str, ...] = ()  # texts that name places on this machine

    @property
    def grader(self) -> Json | None:
        found = ((self.body.get("method") or {}).get("reinforcement") or {}).get("grader")
        return dict(found) if isinstance(found, Mapping) else None

    def plain(self, text: str) -> str:
        """The text without places on this machine."""
        for place in self.private:
            text = text.replace(place, ".")
        return text


def from_run(folder: Path) -> Subject:
    """A run folder of `pinetune run`. Raises UserError when it is none or has not finished."""
    run = RunFolder(folder if (folder / "job.json").is_file() else folder / "run")
    if not run.exists():
        raise UserError(f"{folder}: no run folder; give the id of a job, or the folder that `pinetune run` wrote")
    if not run.model.is_dir():
        raise UserError(f"{folder} has no finished weights; let the job run to its end: the same `pinetune run` command goes on")
    job = run.read_job()
    body = hide_headers(job["body"])
    return Subject(
        id=folder.resolve().name,
        status="succeeded",
        model=_public_name(str(body["model"])),
        name=str(body.get("suffix") or folder.resolve().name),
        method=str((body.get("method") or {}).get("type", "supervised")),
        body={**body, "model": _public_name(str(body["model"])), **_file_names(body)},
        config=job["resolved"],
        seed=int(job["resolved"]["seed"]),
        provenance=run.read_provenance() if run.provenance_file.exists() else {},
        events=run.read_events(),
        metrics=run.read_metrics(),
        weights=run.model,
        adapter=run.adapter if run.adapter.is_dir() else None,
        **_evidence(run),
    )


def from_store(store: Store, job_id: str) -> Subject:
    """A job of the store; its run folder adds the evidence where it is on this machine. Raises UserError while it has not ended."""
    try:
        job = store.jobs.get(job_id)
    except NotFound:
        raise UserError(f"no job {job_id} here; give the id of a job of this store (--home), or a run folder") from None
    if job.status not in FINAL:
        raise UserError(f"{job.id} is {job.status}; export it when it has ended")
    run = RunFolder(job.folder) if job.folder is not None and Path(job.folder).is_dir() else None
    weights, adapter = _weights(store, job, run)
    shown = {key: value for key, value in job.body.items() if key != "imported"}
    return Subject(
        id=job.id,
        status=job.status,
        model=job.model,
        name=job.fine_tuned_model or job.tuned_name,
        method=job.method,
        body=hide_headers(shown),
        config={**(job.hyperparameters or {}), **(run.read_job()["resolved"] if run and run.exists() else {})},
        seed=job.seed,
        provenance=_provenance(store, job),
        events=[_event(event) for event in _all_events(store, job.id)],
        metrics=[{"step": metric.step, **metric.data} for metric in store.events.metrics(job.id)],
        checkpoints=[_checkpoint(one) for one in store.checkpoints.list(job.id, limit=1000, order="asc").items],
        trained_tokens=job.trained_tokens,
        results=_results(store, job),
        weights=weights,
        adapter=adapter,
        **(_evidence(run) if run is not None else {}),
    )


def _evidence(run: RunFolder) -> Json:
    reports = []
    for path in sorted(run.evals.glob("final-*.json")):
        reports.append({name: value for name, value in files.read_json(path).items() if name != "groups"})
    return {
        "summary": run.read_summary() if run.summary_file.exists() else None,
        "held_out": reports,
        "report": run.report_file if run.report_file.is_file() else None,
        "charts": tuple(sorted(run.charts.glob("*.png"))),
        "private": (str(run.path.resolve()), str(run.path)),
    }


def _weights(store: Store, job: Job, run: RunFolder | None) -> tuple[Path | None, Path | None]:
    """The merged weights and the adapter, as far as each is there."""
    merged = run.model if run is not None and run.model.is_dir() else None
    if job.fine_tuned_model is None:
        return None, None
    try:
        model = store.models.get(job.fine_tuned_model)
        folder = store.folders.path(model.location)
    except NotFound:
        return merged, None
    return (merged, folder) if model.kind == "adapter" else (folder, None)


def _provenance(store: Store, job: Job) -> Json:
    """Hashes from the store's rows: the files need not be read, nor be there any more."""
    described = {}
    for role, id in zip(ROLES, (job.training_file, job.validation_file, job.test_file), strict=True):
        if id is None:
            continue
        try:
            file = store.files.get(id)
            described[role] = {"id": id, "name": file.filename, "bytes": file.bytes, "sha256": file.sha256}
        except NotFound:
            described[role] = {"id": id, "name": None, "bytes": None, "sha256": None}
    grader = ((job.body.get("method") or {}).get("reinforcement") or {}).get("grader") or {}
    return {**provenance(model=job.model, data_files={}, grader=grader, seed=job.seed), "data_files": described}


def _results(store: Store, job: Job) -> dict[str, bytes]:
    found = {}
    for number, id in enumerate(job.result_files):
        try:
            found["results.csv" if not number else f"results-{number + 1}.csv"] = b"".join(store.files.chunks(id))
        except NotFound:
            continue
    return found


def _event(event: Any) -> Json:
    return {name: getattr(event, name) for name in ("id", "created_at", "level", "type", "message", "data")}


def _checkpoint(checkpoint: Any) -> Json:
    return {name: value for name, value in asdict(checkpoint).items() if name in ("id", "created_at", "step", "model", "metrics")}


def _all_events(store: Store, job_id: str) -> list[Any]:
    found: list[Any] = []
    while events := store.events.since(job_id, found[-1].position if found else 0):
        found += events
    return found


def _file_names(body: Mapping[str, Any]) -> dict[str, str]:
    """Names of files, never their folders."""
    return {role: Path(str(body[role])).name for role in ROLES if body.get(role)}


def _public_name(model: str) -> str:
    """A hub id or a registered name as it is; of a folder its last part."""
    return Path(model).name if model.startswith((".", "/", "~")) or Path(model).expanduser().exists() else model


def as_json(value: Any) -> str:
    return json.dumps(files.finite(value), indent=2, ensure_ascii=False) + "\n"
