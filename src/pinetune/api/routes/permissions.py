"""`/v1/fine_tuning/checkpoints/{model}/permissions`: let other projects of this server call a tuned model."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from pinetune.api.auth import Who
from pinetune.api.bodies import Body, check
from pinetune.api.context import Here
from pinetune.api.job_view import show_permission
from pinetune.errors import NotFound
from pinetune.wire.document import describe
from pinetune.wire.errors import ApiProblem
from pinetune.wire.jobs import CreatePermissions, PermissionDeleted, PermissionObject
from pinetune.wire.lists import CursorList, cursor_list

routes = APIRouter(prefix="/fine_tuning/checkpoints", tags=["fine-tuning"])
PATH = "/{model:path}/permissions"


@routes.post(PATH, operation_id="createFineTuningCheckpointPermission", openapi_extra=describe(CreatePermissions))
def create_permissions(model: str, body: Body, here: Here, who: Who) -> CursorList[PermissionObject]:
    """Let projects call the model; those that may already stay as they are."""
    asked = check(body, CreatePermissions)
    for project in asked.project_ids:
        try:
            here.store.projects.get(project)
        except NotFound:
            raise ApiProblem(400, f"project_ids: no project {project} here", code="invalid_value", param="project_ids") from None
    return cursor_list([show_permission(item) for item in here.store.checkpoints.permit(model, asked.project_ids, who.project)], False)


@routes.get(PATH, operation_id="listFineTuningCheckpointPermissions")
def list_permissions(
    model: str,
    here: Here,
    who: Who,
    project_id: str | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 10,
    order: Literal["ascending", "descending"] = "descending",
) -> CursorList[PermissionObject]:
    """Who may call the model besides the project itself."""
    direction: Literal["asc", "desc"] = "asc" if order == "ascending" else "desc"
    page = here.store.checkpoints.permissions(model, who.project, project=project_id, after=after, limit=limit, order=direction)
    return cursor_list([show_permission(item) for item in page.items], page.has_more)


@routes.delete(PATH + "/{permission_id}", operation_id="deleteFineTuningCheckpointPermission")
def delete_permission(model: str, permission_id: str, here: Here, who: Who) -> PermissionDeleted:
    """Take a permission back."""
    here.store.checkpoints.forbid(model, permission_id, who.project)
    return PermissionDeleted(id=permission_id)
