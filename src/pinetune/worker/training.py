"""running -> succeeded, failed, paused, or back to the queue: one child after the other until one gets to an end."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Mapping
from typing import Any

from pinetune.errors import StoreError
from pinetune.store import NewEvent
from pinetune.worker import metric_tree
from pinetune.worker.estimate import seconds_left
from pinetune.worker.mirror import Mirror, Shape, checkpoint_folders, publish
from pinetune.worker.process import Word, died
from pinetune.worker.results import result_file
from pinetune.worker.session import FINAL_ANSWERS, TICK, Session, Stopped

log = logging.getLogger("pinetune.worker")
MAX_DEATHS = 5  # of the child in a row, without a new checkpoint between them


def train(session: Session) -> None:
    """Raises LeaseLost or Stopped."""
    if not session.ready():
        return
    finished = session.folder.read_finished()  # a worker before us died between the child's end and the job's
    if finished is not None:
        _succeed(session, finished, _mirror(session, finished))
        return
    session.insist(session.handover.restore)
    deaths, reached = 0, _newest(session)
    while True:
        word, mirror = _one_child(session)
        if word["said"] == "finished":
            return _succeed(session, word, mirror or _mirror(session, word))
        if word["said"] == "stopped":
            return _stop(session, word, mirror or _mirror(session, word))
        if word["said"] == "died":
            newest = _newest(session)
            deaths, reached = (1 if newest > reached else deaths + 1), newest
            text = died(word["status"], session.folder)
            if word["status"] < 0 and deaths < MAX_DEATHS:
                event = NewEvent(f"{text.splitlines()[0]}; it goes on from its last checkpoint (step {max(0, newest)})", level="warn")
                session.insist(session.store.events.append, session.lease, [event])
                continue
            word = {"code": "process_died", "message": text}
        if mirror is not None:
            session.insist(mirror.catch_up, ended=True)
        return session.fail(word)


def _one_child(session: Session) -> tuple[Word, Mirror | None]:
    """Run a child until its last word, or {"said": "died", "status": ...}; with it the mirror, once the child had checked the job."""
    child, word = session.start()
    mirror, told_to_stop = None, 0.0
    while True:
        word = word if mirror is None and word is not None else child.hear(TICK)
        pause = session.pause_requested()
        if session.stopping.is_set() and mirror is None:
            raise Stopped  # nothing was begun
        if word is not None and word["said"] == "checked":
            mirror = session.insist(_begin, session, word)
            child.tell("go")
        if (pause or session.stopping.is_set()) and not told_to_stop:
            told_to_stop = time.monotonic()
            child.tell("stop")
        if session.stopping.is_set() and time.monotonic() - told_to_stop > session.grace:
            raise Stopped  # the step in flight is lost, no more
        if mirror is not None:
            _follow(session, mirror)
            session.handover.offer()
        if word is not None and word["said"] in ("finished", "stopped", "failed"):
            return word, mirror
        status = child.gone()
        if status is not None:
            return {"said": "died", "status": status}, mirror


def _begin(session: Session, word: Word) -> Mirror:
    session.store.jobs.update(session.lease, hyperparameters=word["hyperparameters"], folder=str(session.folder.run.path))
    return _mirror(session, word)


def _mirror(session: Session, word: Mapping[str, Any]) -> Mirror:
    shape = Shape(**word["settings"])
    return Mirror(session.store, session.lease, session.store.jobs.get(session.job.id), session.folder.run, shape)


def _follow(session: Session, mirror: Mirror) -> None:
    """Tell the store what is new. What it cannot take now, it is told at the next tick."""
    try:
        if not mirror.catch_up():
            return
        left = seconds_left(mirror.rows, mirror.shape)
        if left is not None:
            session.store.jobs.update(session.lease, estimated_finish=round(time.time() + left))
    except FINAL_ANSWERS:
        raise
    except StoreError as error:
        log.warning("%s: %s", session.job.id, error)


def _succeed(session: Session, word: Mapping[str, Any], mirror: Mirror) -> None:
    store, job, lease, run = session.store, session.job, session.lease, session.folder.run
    session.insist(mirror.catch_up, ended=True)
    file = session.insist(result_file, store, lease, job, mirror.rows)
    model = session.insist(publish, store, run.adapter if word["adapter"] else run.model, job, "final")
    usage = _usage(mirror.rows, word)
    session.insist(store.jobs.succeed, lease, model, int(word["trained_tokens"]), [file], usage)
    session.handover.forget()
    shutil.rmtree(run.checkpoints, ignore_errors=True)  # nothing will be resumed; what can be called was published


def _stop(session: Session, word: Mapping[str, Any], mirror: Mirror) -> None:
    """Paused when a person asked for it or something outside must change first; else back to the queue."""
    store, lease = session.store, session.lease
    session.handover.finish()
    wanted = session.insist(store.jobs.get, session.job.id).pause_requested
    if not wanted and not word["reason"]:
        raise Stopped
    session.insist(mirror.catch_up, ended=True, list_last=True)
    session.insist(store.jobs.paused, lease, word["reason"])


def _usage(rows: list[dict[str, Any]], word: Mapping[str, Any]) -> dict[str, Any]:
    """What the job took: seconds of training, and the tokens of each judge."""
    judges: dict[str, dict[str, int]] = {}
    for row in rows:
        for model, tokens in metric_tree.token_usage(row).items():
            total = judges.setdefault(model, {})
            for name, value in tokens.items():
                kind = name.split("_", 1)[1]
                total[kind] = total.get(kind, 0) + value
    return {"training_seconds": round(float(word["seconds"]), 3), "graders": judges}


def _newest(session: Session) -> int:
    return max(checkpoint_folders(session.folder.run), default=-1)
