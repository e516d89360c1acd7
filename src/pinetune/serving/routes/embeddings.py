"""/embeddings: the mean of a model's last hidden states, for texts or lists of token ids."""

from __future__ import annotations

import array
import base64
import sys
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request

from pinetune.serving.http import project_of, read_body, unless_gone
from pinetune.serving.service import Service
from pinetune.wire.document import describe
from pinetune.wire.embeddings import EmbeddingRequest
from pinetune.wire.errors import ApiProblem

if TYPE_CHECKING:
    from pinetune.serving.pool import Ready


def add(routes: APIRouter, service: Service) -> None:
    @routes.post("/embeddings", openapi_extra=describe(EmbeddingRequest), tags=["embeddings"])
    async def create_embedding(request: Request) -> dict[str, Any]:
        """A vector of length 1 for each text."""
        body = await read_body(request, EmbeddingRequest)
        served = await service.model(body.model, project_of(request))
        texts = _texts(body)
        done = await unless_gone(request, lambda: service.compute(served, lambda ready: _embed(ready, texts, body.dimensions)))
        vectors, tokens = done
        data = [{"object": "embedding", "index": i, "embedding": _encoded(vector, body)} for i, vector in enumerate(vectors)]
        return {"object": "list", "data": data, "model": body.model, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}


def _texts(body: EmbeddingRequest) -> list[str | list[int]]:
    """The inputs one by one: a text, texts, token ids, or lists of token ids."""
    given: Any = body.input
    texts = [given] if isinstance(given, str) or (given and isinstance(given[0], int)) else list(given)
    if not texts or any(not text for text in texts):
        raise ApiProblem(400, "input must not be empty, nor any text in it", code="invalid_value", param="input")
    return texts


def _embed(ready: Ready, texts: list[str | list[int]], dimensions: int | None) -> tuple[list[list[float]], int]:
    from pinetune.sampling.embed import embed

    size = int(ready.loaded.base.config.get_text_config().hidden_size)
    if dimensions not in (None, size):
        message = f"this model's vectors have {size} dimensions and cannot be shortened; leave dimensions out"
        raise ApiProblem(400, message, code="unsupported_value", param="dimensions")
    tokenizer, limit = ready.loaded.tokenizer, ready.loaded.context_length
    ids = [[int(i) for i in tokenizer.encode(text)] if isinstance(text, str) else text for text in texts]
    for place, one in enumerate(ids):
        if limit and len(one) > limit:
            message = f"This model's maximum context length is {limit} tokens, input {place} has {len(one)}"
            raise ApiProblem(400, message, code="context_length_exceeded", param="input")
        if not one or not all(0 <= token < ready.batch.vocab_size for token in one):
            raise ApiProblem(
                400, f"input {place} has no tokens, or some that this model does not know", code="invalid_value", param="input"
            )
    return embed(ready.loaded, ids), sum(map(len, ids))


def _encoded(vector: list[float], body: EmbeddingRequest) -> list[float] | str:
    """As numbers, or as base64 of little-endian float32, which the official client asks for unless told otherwise."""
    if body.encoding_format != "base64":
        return vector
    numbers = array.array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode("ascii")
