"""Models and who may use them: lists, ids with slashes, deletion, permissions of checkpoints."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from api_server import FakeWorker, Service, job_body
from openai import APIStatusError, BadRequestError, NotFoundError, OpenAI
from openai.types import FileObject


@pytest.fixture
def checkpoint(client: OpenAI, service: Service, rows_file: FileObject, worker_of: Callable[[str], FakeWorker]) -> str:
    """Of a model whose base's id holds a slash."""
    service.store.models.register("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B")
    job = client.fine_tuning.jobs.create(**job_body(rows_file.id, model="Qwen/Qwen3-0.6B", suffix="s"))
    worker = worker_of(job.id)
    worker.start()
    name = worker.checkpoint(3)
    worker.succeed()
    return name


def test_models_with_slashes_and_colons(client: OpenAI, checkpoint: str) -> None:
    assert checkpoint.startswith("ft:Qwen/Qwen3-0.6B:pinetune:s:") and checkpoint.endswith(":ckpt-step-3")
    tuned = checkpoint.removesuffix(":ckpt-step-3")
    assert {"pinetune-mini", "Qwen/Qwen3-0.6B", tuned, checkpoint} <= {model.id for model in client.models.list()}
    assert client.models.retrieve(checkpoint).id == checkpoint
    assert client.models.retrieve("Qwen/Qwen3-0.6B").object == "model"
    gone = client.models.delete(tuned)
    assert (gone.id, gone.deleted) == (tuned, True)
    with pytest.raises(NotFoundError) as missing:
        client.models.retrieve(tuned)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(APIStatusError) as base:
        client.models.delete("pinetune-mini")
    assert base.value.status_code == 403


def test_permissions_go_round(client: OpenAI, service: Service, checkpoint: str) -> None:
    other = service.store.projects.create("other")
    permissions = client.fine_tuning.checkpoints.permissions
    made = permissions.create(checkpoint, project_ids=[other.id, "proj_default"])
    assert [item.project_id for item in made] == [other.id, "proj_default"]
    assert service.store.models.get(checkpoint, other.id).id == checkpoint
    assert [item.project_id for item in permissions.list(checkpoint, limit=1)] == ["proj_default", other.id]
    assert [item.project_id for item in permissions.list(checkpoint, order="ascending")] == [other.id, "proj_default"]
    assert [item.id for item in permissions.list(checkpoint, project_id=other.id)] == [made.data[0].id]
    taken = permissions.delete(made.data[0].id, fine_tuned_model_checkpoint=checkpoint)
    assert (taken.id, taken.deleted) == (made.data[0].id, True)
    with pytest.raises(BadRequestError) as unknown:
        permissions.create(checkpoint, project_ids=["proj_none"])
    assert unknown.value.param == "project_ids"
    with pytest.raises(NotFoundError):
        permissions.delete("cp_none", fine_tuned_model_checkpoint=checkpoint)
    with pytest.raises(NotFoundError):
        permissions.list("pinetune-mini")
