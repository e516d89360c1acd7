"""The service behind the routes: finds the model, hands the turn to the engine, brings the events back to the caller's loop."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import pinetune
from pinetune.serving.directory import Memory, ModelDirectory, ServedModel
from pinetune.serving.memory import ProcessMemory
from pinetune.serving.turn import Shown, Turn, prepare
from pinetune.wire.errors import ApiProblem

if TYPE_CHECKING:
    from pinetune.serving.engine import Engine, Event, Ticket
    from pinetune.serving.pool import Ready

T = TypeVar("T")


class Service:
    """`options` go to the engine and its pool (max_waiting, memory_bytes, idle_seconds, ...). The engine, and torch with it,
    starts with the first request that needs a model."""

    def __init__(self, directory: ModelDirectory, memory: Memory | None = None, **options: Any) -> None:
        self.directory = directory
        self.memory: Memory = memory or ProcessMemory()
        self._options = options
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            from pinetune.serving.engine import Engine

            self._engine = Engine(**self._options)
        return self._engine

    def close(self) -> None:
        """Stop the engine; open requests end with status 503."""
        if self._engine is not None:
            self._engine.close()

    def model(self, model_id: str, project: str = "") -> ServedModel:
        """Raises ApiProblem 404 as the hosted API words it."""
        served = self.directory.resolve(model_id, project)
        if served is None:
            message = f"The model '{model_id}' does not exist or you do not have access to it."
            raise ApiProblem(404, message, code="model_not_found", param="model")
        return served

    def delete_model(self, model_id: str, project: str = "") -> bool:
        served = self.directory.resolve(model_id, project)
        deleted = self.directory.delete(model_id, project)
        if deleted and served is not None and self._engine is not None:
            engine = self._engine
            engine.tell(lambda: engine.pool.forget(served))
        return deleted

    @asynccontextmanager
    async def answer(self, served: ServedModel, turn: Turn) -> AsyncIterator[tuple[Shown, AsyncIterator[Event]]]:
        """The events of a turn as they come. Leaving the block early cancels it."""
        from pinetune.serving.engine import Ticket

        shown = Shown()
        seed = secrets.randbelow(2**31) if turn.seed is None else turn.seed
        mailbox = Mailbox()
        ticket: Ticket = await self._submit(Ticket(served, lambda ready: prepare(turn, seed, ready, shown), mailbox.sink))
        try:
            yield shown, mailbox.events(turn.n)
        finally:
            self.engine.cancel(ticket)

    async def compute(self, served: ServedModel, work: Callable[[Ready], T]) -> T:
        """Something else done on the engine's thread with the model at hand."""
        engine = await self._started()
        return await asyncio.wrap_future(engine.call(served, work))

    async def _submit(self, ticket: Ticket) -> Ticket:
        return (await self._started()).submit(ticket)

    async def _started(self) -> Engine:
        """The engine; the first time its packages are imported beside the event loop, for seconds."""
        if self._engine is None:
            await asyncio.to_thread(_import_engine)
        return self.engine


def _import_engine() -> None:
    import pinetune.serving.engine  # noqa: F401


class Mailbox:
    """Events from the engine's thread, for one reader in an event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Sequence[Event]] = asyncio.Queue()

    def sink(self, events: Sequence[Event]) -> None:
        self._loop.call_soon_threadsafe(self._queue.put_nowait, events)

    async def events(self, samples: int) -> AsyncIterator[Event]:
        """Until every sample is done. Raises the ApiProblem of a request that failed."""
        from pinetune.serving.engine import Done, Failed

        open_samples = samples
        while open_samples:
            for event in await self._queue.get():
                if isinstance(event, Failed):
                    raise event.problem
                yield event
                open_samples -= isinstance(event, Done)


def fingerprint(served: ServedModel) -> str:
    """What the answers depend on besides the request: weights and engine."""
    text = f"{served.base}|{served.adapter}|{pinetune.__version__}"
    return "fp_" + hashlib.sha256(text.encode()).hexdigest()[:10]


def new_id(prefix: str) -> str:
    return f"{prefix}{secrets.token_hex(16)}"


def now() -> int:
    return int(time.time())
