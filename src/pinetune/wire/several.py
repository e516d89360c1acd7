"""Pinetune's own field of `POST /v1/chat/completions` and `/v1/responses`: several samples, of which one is answered."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from pinetune.wire.base import Wire

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class SeveralOptions(Wire):
    """`rule` says what counts as the same answer (docs/vote.md); `rerank` names a reranker, which then chooses. Else the majority does."""

    samples: Annotated[int, Field(ge=2, le=128)] = 16
    rule: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    vote: bool | None = None  # true is what happens without `rerank`; said aloud it may not go with it
    rerank: Name | None = None


Chosen = dict[str, Any]  # the reply's `pinetune`: samples, share, and rule or rerank with its score
