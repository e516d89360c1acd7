"""`/v1/uploads`: begun, filled with parts of up to 64 MiB, completed in the order that the user names."""

from __future__ import annotations

from typing import Any

import anyio
from fastapi import APIRouter, Request

from pinetune.api.auth import Who
from pinetune.api.bodies import Body, check
from pinetune.api.context import Context, Here
from pinetune.api.multipart import parts, pull
from pinetune.api.routes.files import checked_filename, refuse_long, show
from pinetune.errors import NotFound
from pinetune.store.rows import File, Upload, UploadPart
from pinetune.wire.document import describe
from pinetune.wire.errors import ApiProblem
from pinetune.wire.uploads import MAX_PART_BYTES, CompleteUpload, CreateUpload, UploadObject, UploadPartObject

routes = APIRouter(prefix="/uploads", tags=["uploads"])
FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["data"], "properties": {"data": {"type": "string", "format": "binary"}}}
            }
        },
    }
}


@routes.post("", operation_id="createUpload", openapi_extra=describe(CreateUpload))
def create_upload(body: Body, here: Here, who: Who) -> UploadObject:
    """Begin an upload; it is open for an hour."""
    asked = check(body, CreateUpload)
    name = checked_filename(asked.filename, asked.purpose)
    expires = asked.expires_after.seconds if asked.expires_after else None
    return _show(here.store.uploads.create(who.project, name, asked.purpose, asked.bytes, asked.mime_type, expires))


@routes.post("/{upload_id}/parts", operation_id="addUploadPart", openapi_extra=FORM)
async def add_part(upload_id: str, request: Request, here: Here, who: Who) -> UploadPartObject:
    """Add a part; the order is told at the end."""
    refuse_long(request, MAX_PART_BYTES)
    part = await anyio.to_thread.run_sync(_receive, upload_id, request, here, who.project, limiter=here.uploads)
    return UploadPartObject(id=part.id, created_at=int(part.created_at), upload_id=upload_id)


@routes.post("/{upload_id}/complete", operation_id="completeUpload", openapi_extra=describe(CompleteUpload))
async def complete_upload(upload_id: str, body: Body, here: Here, who: Who) -> UploadObject:
    """Join the parts into a file."""
    asked = check(body, CompleteUpload)
    upload, file = await anyio.to_thread.run_sync(_join, upload_id, asked, here, who.project, limiter=here.uploads)
    return _show(upload, file)


@routes.post("/{upload_id}/cancel", operation_id="cancelUpload")
def cancel_upload(upload_id: str, here: Here, who: Who) -> UploadObject:
    """Drop the upload and its parts."""
    return _show(here.store.uploads.cancel(upload_id, who.project))


def _receive(upload_id: str, request: Request, here: Context, project: str) -> UploadPart:
    found: UploadPart | None = None
    here.store.uploads.get(upload_id, project)  # before a byte is read
    for part in parts(request.headers.get("content-type", ""), pull(request)):
        if part.name == "data" and found is None:
            found = here.store.uploads.add_part(upload_id, part.chunks, limit=MAX_PART_BYTES, project=project)
    if found is None:
        raise ApiProblem(400, "'data' is a required property", code="missing_required_parameter", param="data")
    return found


def _join(upload_id: str, asked: CompleteUpload, here: Context, project: str) -> tuple[Upload, File]:
    try:
        return here.store.uploads.complete(upload_id, asked.part_ids, md5=asked.md5, project=project)
    except NotFound as error:
        if error.kind != "upload part":
            raise
        raise ApiProblem(400, f"part_ids: no part {error.id} in this upload", code="invalid_value", param="part_ids") from None


def _show(upload: Upload, file: File | None = None) -> UploadObject:
    return UploadObject(
        id=upload.id,
        bytes=upload.bytes,
        created_at=int(upload.created_at),
        expires_at=int(upload.expires_at),
        filename=upload.filename,
        purpose=upload.purpose,
        status=upload.status,
        file=show(file) if file else None,
    )
