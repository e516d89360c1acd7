"""What every route is given: the store, the settings, and who asks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import anyio
from fastapi import Depends, Request

from pinetune.api.limits import Buckets
from pinetune.api.serving_link import ServingLink
from pinetune.settings import Settings
from pinetune.store import Store

if TYPE_CHECKING:
    from pinetune.judges.service import JudgeService

UPLOADS_AT_ONCE = 32  # each holds a thread while its bytes come; others wait, and the rest of the API goes on
GRADERS_AT_ONCE = 8
PREFLIGHTS_AT_ONCE = 2  # each computes for as long as it takes, in a process of its own


@dataclass(slots=True)
class Context:
    """One for each application."""

    settings: Settings
    store: Store
    buckets: Buckets
    serving: ServingLink
    judges: JudgeService | None = None  # opened with the first grader that is run
    uploads: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(UPLOADS_AT_ONCE))
    graders: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(GRADERS_AT_ONCE))
    preflights: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(PREFLIGHTS_AT_ONCE))

    def close(self) -> None:
        """What was opened on the way; the store is its opener's."""
        if self.judges is not None:
            self.judges.close()


async def _context(request: Request) -> Context:
    found: Context = request.app.state.context
    return found


Here = Annotated[Context, Depends(_context)]
