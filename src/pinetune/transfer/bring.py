"""Endpoint -> store: files first, then jobs with events, checkpoints and result files, then evals with runs and output items.

Each object is stored as a whole or not at all, and one that is there stays as it is: killed anywhere and started again, an
import ends with the same rows as one that ran through. Lists are brought oldest first, so that they read in the same order.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from pinetune.errors import MoveRefused, NotFound, StoreBusy, StoreError, StoreFull
from pinetune.store import Store
from pinetune.store.states import FINAL
from pinetune.transfer import translate
from pinetune.transfer.endpoint import Endpoint, Refused
from pinetune.transfer.ledger import Ledger
from pinetune.transfer.tally import Tally, Watch
from pinetune.transfer.translate import Unusable

SECTIONS = ("files", "jobs", "evals")
FILES_PAGE = 1000
RESULTS = "fine-tune-results"
LARGEST_RESULT = 64 << 20  # a result file is read whole, to see whether it is base64
NO_WEIGHTS = "weights are not given out by the endpoint: train again from the imported files"
Json = dict[str, Any]


def bring_over(
    endpoint: Endpoint, store: Store, project: str, watch: Watch, *, only: Collection[str] = SECTIONS, tally: Tally | None = None
) -> Tally:
    """Bring the sections `only` into `project`. Raises UserError when the endpoint cannot be reached or the key is wrong.

    What has not ended is skipped: a worker here would run it. `tally` is filled as it goes, for who is interrupted.
    """
    work = _Import(endpoint, store, project, watch, tally or Tally(), Ledger(store.settings.home, f"{endpoint.name} {project}"))
    sections: dict[str, Callable[[], None]] = {"files": work.files, "jobs": work.jobs, "evals": work.evals}
    for name in SECTIONS:
        if name in only:
            sections[name]()
    return work.tally


@dataclass(slots=True)
class _Import:
    endpoint: Endpoint
    store: Store
    project: str
    watch: Watch
    tally: Tally
    ledger: Ledger

    def files(self) -> None:
        self._each("files", "/files", self._file, limit=FILES_PAGE, newest_first=True)

    def jobs(self) -> None:
        self._each("jobs", "/fine_tuning/jobs", self._job, newest_first=True)

    def evals(self) -> None:
        self._each("evals", "/evals", self._eval, order="asc")

    def _each(self, kind: str, path: str, bring: Callable[[Json], None], *, newest_first: bool = False, **query: Any) -> None:
        """Bring a whole list; what cannot be brought is counted with its reason."""
        try:
            found = self.endpoint.list(path, **query)
        except Refused as refused:
            self.tally.skip(kind, "all", f"the endpoint does not list them ({refused})")
            return
        self.watch.begin(kind, len(found))
        for entry in reversed(found) if newest_first else found:
            self._guarded(kind, str(entry.get("id")), lambda entry=entry: bring(entry))  # type: ignore[misc]
            self.watch.advance(kind)

    def _guarded(self, kind: str, id: str, work: Callable[[], None]) -> None:
        try:
            work()
        except (StoreBusy, StoreFull):
            raise
        except (Refused, Unusable, MoveRefused, StoreError) as error:
            self.tally.skip(kind, id[:100], str(error))

    def _file(self, found: Json) -> None:
        record = translate.file_row(found, self.project)
        if _is_there(self.store.files.get, record.id):
            self.tally.count("files", False)
            return

        def take(chunks: Iterator[bytes]) -> bool:
            if record.purpose == RESULTS and record.bytes <= LARGEST_RESULT:
                return self.store.imports.file(record, plain_table(b"".join(chunks)))
            return self.store.imports.file(record, _whole(chunks, record.bytes))

        try:
            self.tally.count("files", self.endpoint.download(record.id, take))
        except Refused as refused:
            raise Refused(_why_no_content(refused, record.purpose), refused.status) from None

    def _job(self, found: Json) -> None:
        record = translate.job_row(found, self.project, self.endpoint.name)
        if record.status not in FINAL:
            raise Unusable(f"it has not ended (it is {record.status}): import again when it has")
        if record.id in self.ledger and _is_there(self.store.jobs.get, record.id):
            self.tally.count("jobs", False)
            return
        new, lost = self.store.imports.job(record), self.tally.num_skipped("files")
        for file in (record.training_file, record.validation_file, record.test_file, *record.result_files):
            if file is not None and not _is_there(self.store.files.get, file):
                self._guarded("files", file, lambda file=file: self._file(self._facts(file)))  # type: ignore[misc]
        self._events(record.id)
        self._checkpoints(record.id)
        if record.fine_tuned_model is not None:
            self.tally.skip("model weights", record.fine_tuned_model, NO_WEIGHTS)
        if self.tally.num_skipped("files") == lost:  # else they are asked for again the next time
            self.ledger.add(record.id)
        self.tally.count("jobs", new)

    def _facts(self, file: str) -> Json:
        """Of a file that a job names and the list did not have. Raises Refused."""
        translate.id_of({"id": file})
        try:
            return self.endpoint.get(f"/files/{file}")
        except Refused as refused:
            raise Refused(f"no longer there ({refused})" if refused.status == 404 else str(refused), refused.status) from None

    def _events(self, job_id: str) -> None:
        """All in one transaction: their positions are counted when they are stored, and they come newest first."""
        events = [translate.new_event(entry) for entry in reversed(self.endpoint.list(f"/fine_tuning/jobs/{job_id}/events"))]
        new = self.store.events.append(job_id, events)
        self.tally.came["events"] += new
        self.tally.known["events"] += len(events) - new

    def _checkpoints(self, job_id: str) -> None:
        for entry in reversed(self.endpoint.list(f"/fine_tuning/jobs/{job_id}/checkpoints")):

            def bring(entry: Json = entry) -> None:
                self.tally.count("checkpoints", self.store.imports.checkpoint(translate.checkpoint_row(entry, job_id)))

            self._guarded("checkpoints", str(entry.get("id")), bring)

    def _eval(self, found: Json) -> None:
        record = translate.eval_row(found, self.project)
        self.tally.count("evals", self.store.imports.eval(record))
        self._each("runs", f"/evals/{record.id}/runs", lambda run: self._run(run, record.id), order="asc")

    def _run(self, found: Json, eval_id: str) -> None:
        record = translate.run_row(found, self.project, eval_id)
        if record.id in self.ledger and _is_there(self.store.eval_runs.get, record.id):
            self.tally.count("runs", False)
            return
        new = self.store.imports.run(record)
        self._items(record.id, eval_id)
        self.ledger.add(record.id)
        self.tally.count("runs", new)

    def _items(self, run_id: str, eval_id: str) -> None:
        """A page at a time; what a killed import stored is where this one goes on."""
        known = len(self.store.eval_runs.positions(run_id))
        last = self.store.eval_runs.items(run_id, order="desc", limit=1).items
        after = last[0].id if last else None
        self.tally.known["output items"] += known
        path = f"/evals/{eval_id}/runs/{run_id}/output_items"
        for page in self.endpoint.pages(path, after=after, order="asc"):
            rows = [translate.item_row(entry, run_id, eval_id, known + index) for index, entry in enumerate(page)]
            self.tally.came["output items"] += self.store.imports.items(rows)
            known += len(rows)


def _is_there(get: Callable[[str], object], id: str) -> bool:
    try:
        get(id)
    except NotFound:
        return False
    return True


def plain_table(content: bytes) -> bytes:
    """A result file as CSV: for some years the hosted API gave it out in base64.

    >>> plain_table(base64.b64encode(b"step,loss\\n1,0.5\\n")), plain_table(b"step,loss\\n")
    (b'step,loss\\n1,0.5\\n', b'step,loss\\n')
    """
    try:
        decoded = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        return content
    return decoded if decoded.startswith(b"step,") else content


def _whole(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """The chunks, and at their end a complaint when there were not `size` bytes (0 = not told): half a file is worse than none."""
    total = 0
    for chunk in chunks:
        total += len(chunk)
        yield chunk
    if size and total != size:
        raise Refused(f"{total:,} bytes came, and {size:,} were announced")


def _why_no_content(refused: Refused, purpose: str) -> str:
    if refused.status == 404:
        return "its content is no longer available"
    if refused.status in (400, 403):
        return f"the endpoint does not give out content of purpose {purpose} ({refused})"
    return str(refused)
