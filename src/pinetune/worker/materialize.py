"""A stored job becomes a work folder: its files beside each other, its body with paths and a place for the weights.

Nothing a user wrote becomes a path: files come by id from the store, models by name from its registry.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from pinetune.errors import JobError, ModelError, NotFound
from pinetune.models.names import MINIATURE, find_model
from pinetune.store import Job, Store
from pinetune.store.folders import PREFIX
from pinetune.worker.folder import JobFolder, plainly


def materialize(store: Store, job: Job, folder: JobFolder) -> None:
    """Fill `folder`. Raises JobError, ModelError, NotFound (a file that is gone) or StoreFull."""
    with plainly():
        folder.path.mkdir(parents=True, exist_ok=True)
        _fill(store, job, folder)


def _fill(store: Store, job: Job, folder: JobFolder) -> None:
    raw = {name: value for name, value in job.body.items() if value is not None}
    names = {}
    for role, id in (("training_file", job.training_file), ("validation_file", job.validation_file), ("test_file", job.test_file)):
        if id is None:
            continue
        path = folder.data_file(role)
        names[str(path)] = f"{role}:{_copy(store, id, path)}"
        if role != "test_file":
            raw[role] = path.name
    raw["seed"] = job.seed
    own = _own_section(store, raw)
    if job.test_file is not None:
        own["test_file"] = folder.data_file("test_file").name
    raw["pinetune"] = own
    folder.write_body({"raw": raw, "source": locate(store, job.model, job.project), "names": names})


def locate(store: Store, name: str, project: str) -> str:
    """Where the weights of the model `name` are: a folder or a hub id. Raises ModelError."""
    try:
        location = store.models.resolve(name, project).location
    except NotFound:
        if name != MINIATURE:
            raise ModelError(f"The model {name} does not exist here; register it (pinetune models add) or choose {MINIATURE}") from None
        location = MINIATURE
    return str(store.folders.path(location)) if location.startswith(PREFIX) else find_model(location)


def _copy(store: Store, id: str, path: Path) -> str:
    """Put the file beside the job; what its user called it."""
    file = store.files.get(id)
    source = store.files.local_path(id)
    if not path.exists() or path.stat().st_size != file.bytes:
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        shutil.copyfile(source, partial)
        partial.replace(path)
    return "".join(c for c in file.filename if c.isprintable())[:200] or id


def _own_section(store: Store, raw: dict[str, Any]) -> dict[str, Any]:
    """The body's `pinetune` section as a server may take it from anybody."""
    own = dict(raw.get("pinetune") or {})
    own.pop("test_file", None)
    if own.get("unsafe_python_graders") and not store.settings.unsafe_python_graders:
        raise JobError(
            "only the operator of this server may let graders run unconfined (PINETUNE_UNSAFE_PYTHON_GRADERS=1); leave this out",
            "pinetune.unsafe_python_graders",
        )
    # Scripts written for the hosted product know nothing of this switch; the overlap is told as a warning instead.
    own.setdefault("allow_answer_overlap", True)
    return own
