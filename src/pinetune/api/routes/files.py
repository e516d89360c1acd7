"""`/v1/files`: whole files in one request, streamed to the store as they come."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import anyio
from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from pinetune.api.auth import Who
from pinetune.api.bodies import check
from pinetune.api.context import Context, Here
from pinetune.api.multipart import Part, nested, parts, pull
from pinetune.store.files import Staged
from pinetune.store.rows import File
from pinetune.wire.errors import ApiProblem
from pinetune.wire.files import MAX_FILENAME, FileDeleted, FileForm, FileObject
from pinetune.wire.lists import CursorList, cursor_list

routes = APIRouter(tags=["files"])
FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"enum": ["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]},
                        "expires_after[anchor]": {"enum": ["created_at"]},
                        "expires_after[seconds]": {"type": "integer", "minimum": 3600, "maximum": 2_592_000},
                    },
                }
            }
        },
    }
}


@routes.post("/files", operation_id="createFile", openapi_extra=FORM)
async def create_file(request: Request, here: Here, who: Who) -> FileObject:
    """Upload a file. Rows of a dataset are checked when a job is created with it, not here."""
    refuse_long(request, here.settings.max_file_bytes)
    file = await anyio.to_thread.run_sync(_receive, request, here, who.project, limiter=here.uploads)
    return show(file)


@routes.get("/files", operation_id="listFiles")
def list_files(
    here: Here,
    who: Who,
    purpose: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
    after: str | None = None,
) -> CursorList[FileObject]:
    """Files of the project, newest first."""
    page = here.store.files.list(who.project, purpose=purpose, after=after, limit=limit, order=order)
    return cursor_list([show(file) for file in page.items], page.has_more)


@routes.get("/files/{file_id}", operation_id="retrieveFile")
def retrieve_file(file_id: str, here: Here, who: Who) -> FileObject:
    """Facts about a file."""
    return show(here.store.files.get(file_id, who.project))


@routes.delete("/files/{file_id}", operation_id="deleteFile")
def delete_file(file_id: str, here: Here, who: Who) -> FileDeleted:
    """Delete a file; refused while a job that has not ended needs it."""
    here.store.files.delete(file_id, who.project)
    return FileDeleted(id=file_id)


@routes.get("/files/{file_id}/content", operation_id="downloadFile", response_class=StreamingResponse)
def download_file(file_id: str, here: Here, who: Who) -> StreamingResponse:
    """The bytes of a file."""
    file = here.store.files.get(file_id, who.project)
    headers = {"Content-Length": str(file.bytes), "X-Content-Type-Options": "nosniff"}
    chunks = here.store.files.chunks(file_id, who.project)
    return StreamingResponse(chunks, media_type="application/octet-stream", headers=headers)


def show(file: File) -> FileObject:
    return FileObject(
        id=file.id,
        bytes=file.bytes,
        created_at=int(file.created_at),
        expires_at=None if file.expires_at is None else int(file.expires_at),
        filename=file.filename,
        purpose=file.purpose,
        status=file.status,
        status_details=file.status_details,
    )


def refuse_long(request: Request, limit: int) -> None:
    """Answer before the bytes come, where their number is told; a MiB is left for the other fields."""
    told = request.headers.get("content-length", "")
    if told.isdigit() and int(told) > limit + (1 << 20):
        raise ApiProblem(413, f"The file is larger than {limit:,} bytes, the most that is allowed", code="file_too_large", param="file")


def checked_filename(name: str, purpose: str) -> str:
    """The name as it is shown from now on. It is never part of a path."""
    if not name or len(name) > MAX_FILENAME or not name.isprintable():
        text = f"The file's name must have 1 to {MAX_FILENAME} printable characters"
        raise ApiProblem(400, text, code="invalid_value", param="file")
    if purpose == "fine-tune" and not name.lower().endswith(".jsonl"):
        text = f"Invalid file format for fine-tune: {name!r} must be a .jsonl file, one JSON object a line"
        raise ApiProblem(400, text, code="invalid_file_format", param="file")
    return name


def _receive(request: Request, here: Context, project: str) -> File:
    """In a thread: fields and file in any order. Nothing remains of a body that is wrong."""
    fields: dict[str, str] = {}
    staged: Staged | None = None
    filename = ""
    try:
        for part in parts(request.headers.get("content-type", ""), pull(request)):
            if part.name == "file":
                if staged is not None:
                    raise ApiProblem(400, "The body has more than one file", code="invalid_value", param="file")
                filename, staged = _stage(part, here, fields)
            elif part.filename is None:
                fields[part.name] = part.text()
        form = _form(fields)
        if staged is None:
            raise ApiProblem(400, "'file' is a required property", code="missing_required_parameter", param="file")
        filename = checked_filename(filename, form.purpose)
        expires = form.expires_after.seconds if form.expires_after else None
        kept, staged = staged, None
        return here.store.files.keep(kept, project, form.purpose, filename, expires_after=expires)
    finally:
        if staged is not None:
            here.store.files.discard(staged)


def _stage(part: Part, here: Context, fields: dict[str, str]) -> tuple[str, Staged]:
    if part.filename is None:
        text = "'file' must be a file: a part with a filename"
        raise ApiProblem(400, text, code="invalid_value", param="file")
    if "purpose" in fields:  # clients send it first: a wrong one is answered before the bytes are written
        checked_filename(part.filename, _form(fields).purpose)
    return part.filename, here.store.files.stage(part.chunks, here.settings.max_file_bytes)


def _form(fields: dict[str, str]) -> FileForm:
    known = {name: value for name, value in nested(fields).items() if name in FileForm.model_fields}
    return check(known, FileForm)
