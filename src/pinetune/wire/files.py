"""`/v1/files`: what can be uploaded for what, and how a file is shown."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from pinetune.wire.base import Wire

UploadPurpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
MAX_FILENAME = 255


class ExpiresAfter(Wire):
    """Seconds from one hour to thirty days, counted from the upload."""

    anchor: Literal["created_at"] = "created_at"
    seconds: Annotated[int, Field(ge=3600, le=2_592_000)]


class FileForm(Wire):
    """The text fields of the multipart body, as they are checked; the file itself streams past."""

    purpose: UploadPurpose
    expires_after: ExpiresAfter | None = None


class FileObject(BaseModel):
    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: str  # uploaded, processed, error: clients' `wait_for_processing` polls it
    status_details: str | None


class FileDeleted(BaseModel):
    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True
