"""/models: list, retrieve, delete. Ids may hold slashes and colons (hub ids, `ft:` names)."""

from __future__ import annotations

from fastapi import APIRouter, Request

from pinetune.serving.directory import ServedModel
from pinetune.serving.http import project_of
from pinetune.serving.service import Service, no_such_model
from pinetune.wire.models import ModelDeleted, ModelList, ModelObject


def add(routes: APIRouter, service: Service) -> None:
    @routes.get("/models", tags=["models"])
    async def list_models(request: Request) -> ModelList:
        """Every model that can be asked."""
        return ModelList(data=[_shown(model) for model in await service.models(project_of(request))])

    @routes.get("/models/{model:path}", tags=["models"])
    async def retrieve_model(request: Request, model: str) -> ModelObject:
        """One model, by id or alias."""
        return _shown(await service.model(model, project_of(request)))

    @routes.delete("/models/{model:path}", tags=["models"])
    async def delete_model(request: Request, model: str) -> ModelDeleted:
        """Delete a tuned model."""
        if not await service.delete_model(model, project_of(request)):
            raise no_such_model(model)
        return ModelDeleted(id=model)


def _shown(model: ServedModel) -> ModelObject:
    return ModelObject(id=model.id, created=model.created, owned_by=model.owned_by)
