"""validating_files -> queued, or failed with the file, the line and the field."""

from __future__ import annotations

from pinetune.store import NewEvent
from pinetune.worker.process import died
from pinetune.worker.session import TICK, Session, Stopped


def validate(session: Session) -> None:
    """Raises LeaseLost or Stopped."""
    if not session.ready():
        return
    # With nothing else to do, the model is loaded at once and kept for the training that follows; beside a running job it is not.
    child, _ = session.start("run" if session.warm.wanted.is_set() else "check")
    while True:
        word = child.hear(TICK)
        session.pause_requested()
        if session.stopping.is_set():
            raise Stopped
        if word is not None and word["said"] == "failed":
            session.fail(word)
            return
        if word is not None and word["said"] == "checked":
            break
        status = child.gone()
        if status is not None:
            session.fail({"code": "process_died", "message": died(status, session.folder)})
            return
    warnings = [NewEvent(text, level="warn", key=f"check-{index}") for index, text in enumerate(word["warnings"])]
    session.insist(session.store.events.append, session.lease, warnings)
    if "settings" in word:
        session.keep_warm(word)
    session.insist(session.store.jobs.validated, session.lease)
