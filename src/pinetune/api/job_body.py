"""The body of a new job: everything about it that can be answered at once is answered here; rows are the worker's to read."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from pinetune.api.bodies import check
from pinetune.api.context import Context
from pinetune.api.grader_check import LOCAL, check_grader
from pinetune.errors import NotFound
from pinetune.store import NewEvent, NewJob
from pinetune.wire.errors import ApiProblem
from pinetune.wire.jobs import CreateJob

# What the worker reads; the rest stands in columns of its own.
WORKERS_KEYS = ("model", "training_file", "validation_file", "method", "suffix", "seed", "metadata", "pinetune")
NO_TEXT = frozenset(":/\\")  # in a suffix they would shift the segments of the model's name


def new_job(data: dict[str, Any], here: Context, project: str) -> tuple[NewJob, list[NewEvent]]:
    """The job to store and the warnings to begin it with. Raises ApiProblem 400 whose param is the field at fault."""
    body = check(data, CreateJob)
    method = _method(data, body)
    _check_model(body.model, here, project)
    _check_suffix(body.suffix)
    _check_options(body, here)
    files = {"training_file": body.training_file, "validation_file": body.validation_file, "pinetune.test_file": body.pinetune.test_file}
    for param, id in files.items():
        if id is not None:
            _check_file(id, param, here, project)
    seed = secrets.randbelow(2**31) if body.seed is None else body.seed
    kept = {**data, "method": method, "seed": seed}
    new = NewJob(
        project=project,
        model=body.model,
        method=method["type"],
        body={key: kept[key] for key in WORKERS_KEYS if kept.get(key) is not None},
        training_file=body.training_file,
        validation_file=body.validation_file,
        test_file=body.pinetune.test_file,
        seed=seed,
        suffix=body.suffix,
        metadata=body.metadata,
        integrations=[entry.model_dump(exclude_none=True) for entry in body.integrations or []],
    )
    return new, _warnings(body, method["type"])


def _method(data: Mapping[str, Any], body: CreateJob) -> dict[str, Any]:
    """`{"type": t, t: settings}`, with the legacy `hyperparameters` put where they belong."""
    kind = body.method.type if body.method else "supervised"
    given = dict((data.get("method") or {}).get(kind) or {})
    if kind == "reinforcement":
        if body.method is None or body.method.reinforcement is None:
            text = "method.reinforcement is missing; give it with a grader"
            raise ApiProblem(400, text, code="missing_required_parameter", param="method.reinforcement")
        if body.hyperparameters is not None:
            text = "hyperparameters has no effect on a reinforcement job; set method.reinforcement.hyperparameters"
            raise ApiProblem(400, text, code="invalid_value", param="hyperparameters")
    elif body.hyperparameters is not None:
        if given.get("hyperparameters") is not None:
            text = f"hyperparameters and method.{kind}.hyperparameters are both given; leave the first, which is deprecated, out"
            raise ApiProblem(400, text, code="invalid_value", param="hyperparameters")
        given["hyperparameters"] = dict(data["hyperparameters"])
    return {"type": kind, kind: given}


def _check_model(model: str, here: Context, project: str) -> None:
    try:
        here.store.models.resolve(model, project)
    except NotFound:
        text = f"Model {model} is not available for fine-tuning or does not exist; GET /v1/models lists those that do"
        raise ApiProblem(400, text, code="model_not_available", param="model") from None


def _check_file(id: str, param: str, here: Context, project: str) -> None:
    try:
        file = here.store.files.get(id, project)
    except NotFound:
        raise ApiProblem(400, f"{param}: file {id} does not exist", code="file_not_found", param=param) from None
    if file.purpose != "fine-tune":
        text = f"{param}: file {id} has purpose '{file.purpose}'; upload it with purpose 'fine-tune'"
        raise ApiProblem(400, text, code="invalid_file_purpose", param=param)
    if file.bytes == 0:
        raise ApiProblem(400, f"{param}: file {id} is empty", code="invalid_file", param=param)


def _check_suffix(suffix: str | None) -> None:
    if suffix is None:
        return
    if suffix != suffix.strip() or not suffix.isprintable() or NO_TEXT & set(suffix):
        text = "suffix must be printable, without ':', '/' or '\\', and neither begin nor end with a space"
        raise ApiProblem(400, text, code="invalid_value", param="suffix")


def _check_options(body: CreateJob, here: Context) -> None:
    own = body.pinetune
    for name, target in own.judge_aliases.items():
        if target.startswith(LOCAL):
            text = f"pinetune.judge_aliases.{name}: {target!r} names a folder of the server; ask its operator for an alias"
            raise ApiProblem(400, text, code="invalid_value", param=f"pinetune.judge_aliases.{name}")
    if own.unsafe_python_graders and not here.settings.unsafe_python_graders:
        text = "pinetune.unsafe_python_graders: only this server's operator can allow that (PINETUNE_UNSAFE_PYTHON_GRADERS)"
        raise ApiProblem(400, text, code="invalid_value", param="pinetune.unsafe_python_graders")
    if body.method is not None and body.method.reinforcement is not None and body.method.type == "reinforcement":
        unsafe = here.settings.unsafe_python_graders
        check_grader(body.method.reinforcement.grader, "method.reinforcement.grader", unsafe_python=unsafe)


def _warnings(body: CreateJob, kind: str) -> list[NewEvent]:
    found = []
    if kind == "reinforcement" and body.validation_file is None:
        found.append(NewEvent("No validation file: there will be no held-out reward, and no choice of the best step", level="warn"))
    if body.integrations:
        found.append(NewEvent("Integrations are kept with the job, and nothing is sent to them from here", level="warn"))
    return found
