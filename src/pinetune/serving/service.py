"""The service behind the routes: finds the model, hands the turn to the engine, brings the events back to the caller's loop."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pinetune.serving.directory import Kept, KeptPage, Kind, Memory, ModelDirectory, ServedModel
from pinetune.serving.memory import ProcessMemory
from pinetune.serving.several import Rerankers
from pinetune.serving.turn import Shown, Turn, prepare
from pinetune.wire.errors import ApiProblem

if TYPE_CHECKING:
    from pinetune.serving.engine import Engine, Event, Ticket
    from pinetune.serving.pool import Ready

T = TypeVar("T")


class Service:
    """`rerankers`: the folder in which requests find rerankers by name. `options` go to the engine and its pool (max_waiting,
    memory_bytes, idle_seconds, ...). The engine, and torch with it, starts with the first request that needs a model."""

    def __init__(self, directory: ModelDirectory, memory: Memory | None = None, *, rerankers: Path | None = None, **options: Any) -> None:
        self.directory = directory
        self.rerankers = Rerankers(rerankers)
        self.memory: Memory = memory or ProcessMemory()
        self._options = options
        self._engine: Engine | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}  # background responses by id

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

    # ---- models

    async def model(self, model_id: str, project: str = "") -> ServedModel:
        """Raises ApiProblem 404 as the hosted API words it."""
        served = await asyncio.to_thread(self.directory.resolve, model_id, project)
        if served is None:
            raise no_such_model(model_id)
        return served

    async def models(self, project: str = "") -> Sequence[ServedModel]:
        return await asyncio.to_thread(self.directory.list, project)

    async def delete_model(self, model_id: str, project: str = "") -> bool:
        served = await asyncio.to_thread(self.directory.resolve, model_id, project)
        deleted = await asyncio.to_thread(self.directory.delete, model_id, project)
        if deleted and served is not None and self._engine is not None:
            engine = self._engine
            engine.tell(lambda: engine.pool.forget(served))
        return deleted

    # ---- memory

    async def remember(self, kept: Kept, project: str) -> None:
        await asyncio.to_thread(self.memory.save, kept, project)

    def remember_now(self, kept: Kept, project: str) -> None:
        """For a task that is being cancelled and may not wait."""
        self.memory.save(kept, project)

    async def recall(self, kind: Kind, record_id: str, project: str) -> Kept:
        """Raises ApiProblem 404."""
        kept = await asyncio.to_thread(self.memory.get, kind, record_id, project)
        if kept is None:
            noun = "Response" if kind == "response" else "Chat completion"
            raise ApiProblem(404, f"{noun} with id '{record_id}' not found.", code="not_found", param="id")
        return kept

    async def recall_page(self, project: str, kind: Kind, **wanted: Any) -> KeptPage:
        return await asyncio.to_thread(self.memory.list, kind, project, **wanted)

    async def forget(self, kind: Kind, record_id: str, project: str) -> None:
        await self.recall(kind, record_id, project)
        await asyncio.to_thread(self.memory.delete, kind, record_id, project)

    async def chain(self, response_id: str, project: str) -> list[Kept]:
        """A stored response and those it continues, oldest first. Raises ApiProblem where a link is missing."""
        links: list[Kept] = []
        at: str | None = response_id
        while at is not None:
            kept = await asyncio.to_thread(self.memory.get, "response", at, project)
            if kept is None:
                message = f"Previous response with id '{at}' not found."
                raise ApiProblem(400, message, code="previous_response_not_found", param="previous_response_id")
            links.append(kept)
            at = kept.previous_id
        return links[::-1]

    # ---- background

    def start_background(self, response_id: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[response_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(response_id, None))

    async def stop_background(self, response_id: str) -> None:
        """Nothing happens to one that is over."""
        task = self._tasks.get(response_id)
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    # ---- answers

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


def no_such_model(model_id: str) -> ApiProblem:
    message = f"The model '{model_id}' does not exist or you do not have access to it."
    return ApiProblem(404, message, code="model_not_found", param="model")
