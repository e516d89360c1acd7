"""The engine: one thread that owns torch and the tokenizers, and batches everybody's requests together.

    engine = Engine(); ticket = engine.submit(Ticket(model, prepare, sink)); engine.cancel(ticket)

Each tick takes new requests, lets waiting ones join their model's running batch, writes one token for every row of every
model at work, and posts the new text to the requests' sinks. An error inside a request ends that request, one inside a
model's step ends that model's requests; the thread itself goes on.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pinetune.errors import UserError
from pinetune.records import Completion
from pinetune.sampling.live import Order, Written
from pinetune.serving.directory import ServedModel
from pinetune.serving.pool import Pool, Ready
from pinetune.serving.text import Piece, TextStream, TokenInfo
from pinetune.wire.errors import ApiProblem, from_user_error

log = logging.getLogger("pinetune.serving")
PREFILL_TOKENS = 4096  # prompt tokens read in one tick: beyond it running answers would stutter
POLL_SECONDS = 5.0  # how often an idle engine looks for models to unload
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Started:
    """The prompt has been read."""

    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class News:
    """New text of one sample."""

    sample: int
    piece: Piece


@dataclass(frozen=True, slots=True)
class Done:
    """A sample is complete."""

    sample: int
    completion: Completion


@dataclass(frozen=True, slots=True)
class Failed:
    problem: ApiProblem


Event = Started | News | Done | Failed


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a request becomes once its model's tokenizer is at hand."""

    order: Order
    stops: tuple[str, ...] = ()
    keep: frozenset[int] = frozenset()  # special tokens that belong into the text


@dataclass(slots=True, eq=False)
class Ticket:
    """A request on its way. `sink` gets its events, several at a time, from the engine's thread; it must not block."""

    model: ServedModel
    prepare: Callable[[Ready], Prepared]
    sink: Callable[[Sequence[Event]], None]
    prepared: Prepared | None = None
    texts: list[TextStream] = field(default_factory=list)
    open: int = 0  # samples not yet complete
    events: list[Event] = field(default_factory=list)
    ended: bool = False


class Engine:
    """`max_waiting`: requests that may wait for a place in a batch; one more is refused with status 429."""

    def __init__(self, *, max_waiting: int = 256, **pool: Any) -> None:
        self.max_waiting = max_waiting
        self.pool = Pool(busy=self._busy, wake=lambda: self._inbox.put(None), **pool)
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._waiting: deque[Ticket] = deque()
        self._calls: deque[tuple[ServedModel, Callable[[Ready], Any], Future[Any]]] = deque()
        self._live: dict[int, tuple[Ready, dict[int, Ticket]]] = {}  # id of a Ready -> its tickets by id of their order
        self._noisy: dict[int, Ticket] = {}  # tickets with events to post
        self._count = 0  # tickets handed in and not yet joined
        self._counting = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pinetune-engine", daemon=True)
        self._thread.start()

    # ---- from any thread

    def submit(self, ticket: Ticket) -> Ticket:
        """Hand a request in. Raises ApiProblem 429 when too many wait, 503 when the engine is closing."""
        if self._closed.is_set():
            raise ApiProblem(503, "the server is shutting down", code="server_shutdown")
        with self._counting:
            if self._count >= self.max_waiting:
                raise ApiProblem(
                    429,
                    f"{self._count} requests are waiting for a model and no more than {self.max_waiting} may; try again in a moment",
                    code="queue_full",
                    retry_after=2.0,
                )
            self._count += 1
        self._inbox.put(lambda: self._waiting.append(ticket))
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Nobody waits for it any more: its rows leave the batch. A request that is over is left as it is."""
        self._inbox.put(lambda: self._drop(ticket))

    def call(self, model: ServedModel, work: Callable[[Ready], T]) -> Future[T]:
        """Run `work` on the engine's thread once the model is loaded."""
        future: Future[T] = Future()
        self._inbox.put(lambda: self._calls.append((model, work, future)))
        return future

    def tell(self, work: Callable[[], None]) -> None:
        """Run `work` on the engine's thread between two ticks."""
        self._inbox.put(work)

    def close(self) -> None:
        """Stop the thread; requests still open fail with status 503."""
        self._closed.set()
        self._inbox.put(None)
        self._thread.join(timeout=30)

    # ---- on the engine's thread

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self._take_inbox()
                self._answer_calls()
                self._admit()
                for ready, tickets in list(self._live.values()):
                    self._advance(ready, tickets)
                self.pool.tidy()
            except Exception:  # a fault of ours: tell it, and keep serving everybody else
                log.exception("the engine's tick failed")
            self._post()
        self._shut_down()

    def _take_inbox(self) -> None:
        """Everything that has come in; when there is nothing to compute, wait for something to."""
        idle = not self._live
        while True:
            try:
                item = self._inbox.get(block=idle, timeout=POLL_SECONDS) if idle else self._inbox.get_nowait()
            except queue.Empty:
                return
            idle = False
            if item is not None:
                item()

    def _answer_calls(self) -> None:
        for _ in range(len(self._calls)):
            model, work, future = self._calls.popleft()
            try:
                ready = self.pool.get(model)
                if ready is None:
                    self._calls.append((model, work, future))
                    continue
                ready.activate()
                future.set_result(work(ready))
            except Exception as error:
                future.set_exception(_problem(error))

    def _admit(self) -> None:
        """Let waiting requests join their model's batch, in their order, as rows and memory allow."""
        joining: dict[int, tuple[Ready, list[Ticket]]] = {}
        blocked: set[int] = set()
        tokens = 0
        for ticket in list(self._waiting):
            try:
                ready = self.pool.get(ticket.model)
                if ready is None or id(ready) in blocked:
                    continue
                ticket.prepared = ticket.prepared or ticket.prepare(ready)
                order = ticket.prepared.order
                tickets = joining.setdefault(id(ready), (ready, []))[1]
                others = [one.prepared.order for one in tickets if one.prepared]
                tokens += len(order.prompt.token_ids)
                if (tokens > PREFILL_TOKENS and others) or not ready.batch.fits(order, others):
                    blocked.add(id(ready))  # those behind it must not overtake it for ever
                    continue
                tickets.append(ticket)
            except Exception as error:
                self._fail(ticket, error)
            self._leave_queue(ticket)
        for ready, tickets in joining.values():
            if tickets:
                self._join(ready, tickets)

    def _join(self, ready: Ready, tickets: list[Ticket]) -> None:
        _, mine = self._live.setdefault(id(ready), (ready, {}))
        orders = []
        for ticket in tickets:
            assert ticket.prepared is not None
            order = ticket.prepared.order
            orders.append(order)
            mine[id(order)] = ticket
            ticket.open = len(order.seeds)
            chat, thinking = ready.loaded.chat, order.prompt.thinking_open
            ticket.texts = [
                TextStream(chat, thinking_open=thinking, stops=ticket.prepared.stops, keep=ticket.prepared.keep) for _ in order.seeds
            ]
            self._say(ticket, Started(len(order.prompt.token_ids)))
        self._compute(ready, mine, lambda: ready.batch.join(orders))

    def _advance(self, ready: Ready, tickets: dict[int, Ticket]) -> None:
        if tickets:
            self._compute(ready, tickets, ready.batch.step)
        if not tickets:
            self._live.pop(id(ready), None)

    def _compute(self, ready: Ready, tickets: dict[int, Ticket], work: Callable[[], list[Written]]) -> None:
        try:
            if ready.needs_activation:
                ready.activate()
            written = work()
        except Exception as error:
            log.exception("model %s failed", ready.served.id)
            ready.batch.clear()
            for ticket in tickets.values():
                self._fail(ticket, error)
            tickets.clear()
            return
        for one in written:
            self._tell(ready, tickets, one)

    def _tell(self, ready: Ready, tickets: dict[int, Ticket], one: Written) -> None:
        ticket = tickets.get(id(one.order))
        if ticket is None:
            return
        text = ticket.texts[one.sample]
        if one.token not in ready.loaded.chat.stop_ids:
            piece = text.push(TokenInfo(one.token, one.logprob, one.top))
            if piece.reasoning or piece.answer or piece.tokens:
                self._say(ticket, News(one.sample, piece))
        if one.completion is None:
            return
        rest = text.end()
        if rest.reasoning or rest.answer or rest.tokens:
            self._say(ticket, News(one.sample, rest))
        self._say(ticket, Done(one.sample, one.completion))
        ticket.open -= 1
        if ticket.open == 0:
            ticket.ended = True
            del tickets[id(one.order)]

    def _say(self, ticket: Ticket, event: Event) -> None:
        ticket.events.append(event)
        self._noisy[id(ticket)] = ticket

    def _fail(self, ticket: Ticket, error: Exception) -> None:
        ticket.ended = True
        self._say(ticket, Failed(_problem(error)))

    def _post(self) -> None:
        for ticket in self._noisy.values():
            events, ticket.events = ticket.events, []
            try:
                ticket.sink(events)
            except Exception:  # the listener is gone (its event loop was closed): so is the request
                self._drop(ticket)
        self._noisy = {}

    def _leave_queue(self, ticket: Ticket) -> None:
        self._waiting.remove(ticket)
        with self._counting:
            self._count -= 1

    def _drop(self, ticket: Ticket) -> None:
        if ticket.ended:
            return
        ticket.ended = True
        if ticket in self._waiting:
            self._leave_queue(ticket)
        for ready, tickets in self._live.values():
            if ticket.prepared and tickets.pop(id(ticket.prepared.order), None):
                ready.batch.leave(ticket.prepared.order)

    def _busy(self, ready: Ready) -> bool:
        return id(ready) in self._live

    def _shut_down(self) -> None:
        problem = ApiProblem(503, "the server is shutting down", code="server_shutdown")
        self._take_last()
        for ticket in [*self._waiting, *(t for _, tickets in self._live.values() for t in tickets.values())]:
            self._fail(ticket, problem)
        for _, _, future in self._calls:
            future.set_exception(problem)
        self._post()

    def _take_last(self) -> None:
        while not self._inbox.empty():
            item = self._inbox.get_nowait()
            if item is not None:
                item()


def _problem(error: Exception) -> ApiProblem:
    if isinstance(error, ApiProblem):
        return error
    if isinstance(error, UserError):
        return from_user_error(error)
    log.error("a request failed", exc_info=error)
    return ApiProblem(500, f"the model failed while answering: {type(error).__name__}", code="model_error")
