"""`/v1/models`: what can be called and trained. Ids may hold slashes and colons."""

from __future__ import annotations

from fastapi import APIRouter

from pinetune.api.auth import Who
from pinetune.api.context import Here
from pinetune.store.rows import Model
from pinetune.wire.errors import ApiProblem
from pinetune.wire.models import ModelDeleted, ModelList, ModelObject

routes = APIRouter(tags=["models"])


@routes.get("/models", operation_id="listModels")
def list_models(here: Here, who: Who) -> ModelList:
    """Base models, the project's tuned models and their checkpoints."""
    return ModelList(data=[_show(model) for model in here.store.models.list(who.project, checkpoints=True)])


@routes.get("/models/{model:path}", operation_id="retrieveModel")
def retrieve_model(model: str, here: Here, who: Who) -> ModelObject:
    """A model by its id or an alias of it."""
    found = here.store.models.resolve(model, who.project)
    return _show(found).model_copy(update={"id": model})


@routes.delete("/models/{model:path}", operation_id="deleteModel")
def delete_model(model: str, here: Here, who: Who) -> ModelDeleted:
    """Delete a tuned model or checkpoint of the project."""
    found = here.store.models.get(model, who.project)
    if found.project != who.project:
        whose = "a base model" if found.project is None else "another project's"
        raise ApiProblem(403, f"{model} is {whose} and cannot be deleted here", code="model_not_deletable", param="model")
    here.store.models.delete(model, who.project)
    return ModelDeleted(id=model)


def _show(model: Model) -> ModelObject:
    return ModelObject(id=model.id, created=int(model.created_at), owned_by=model.owned_by)
