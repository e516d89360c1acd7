"""`/v1/uploads`: a large file in parts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from pinetune.wire.base import Wire
from pinetune.wire.files import ExpiresAfter, FileObject, UploadPurpose

MAX_UPLOAD_BYTES = 8 << 30
MAX_PART_BYTES = 64 << 20


class CreateUpload(Wire):
    filename: Annotated[str, Field(min_length=1)]
    purpose: UploadPurpose
    bytes: Annotated[int, Field(ge=0, le=MAX_UPLOAD_BYTES)]
    mime_type: Annotated[str, Field(max_length=255)]
    expires_after: ExpiresAfter | None = None


class CompleteUpload(Wire):
    part_ids: Annotated[list[str], Field(max_length=10_000)]
    md5: str | None = None


class UploadObject(BaseModel):
    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: str  # pending, completed, cancelled, expired
    file: FileObject | None = None


class UploadPartObject(BaseModel):
    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str
