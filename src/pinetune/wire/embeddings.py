"""The body of `POST /v1/embeddings`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pinetune.wire.base import Wire

Tokens = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class EmbeddingRequest(Wire):
    input: str | Annotated[list[str], Field(max_length=2048)] | Tokens | Annotated[list[Tokens], Field(max_length=2048)]
    model: str
    dimensions: Annotated[int, Field(ge=1)] | None = None
    encoding_format: Literal["float", "base64"] | None = None
    user: str | None = None
