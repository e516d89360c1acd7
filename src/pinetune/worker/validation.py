"""validating_files -> queued, or failed with the file, the line and the field."""

from __future__ import annotations

from pinetune.store import NewEvent
from pinetune.worker.process import Word, died
from pinetune.worker.session import TICK, Session, Stopped

MAX_DEATHS = 3  # of the checking child in a row


def validate(session: Session) -> None:
    """Raises LeaseLost or Stopped."""
    if not session.ready():
        return
    for death in range(1, MAX_DEATHS + 1):
        word = _one_check(session)
        # Killed from outside (memory ran out, somebody's kill -9) says nothing about the job: only again and again does.
        if word["said"] != "died" or word["status"] >= 0 or death == MAX_DEATHS:
            break
    if word["said"] == "died":
        word = {"code": "process_died", "message": died(word["status"], session.folder)}
    if word.get("said") != "checked":
        return session.fail(word)
    warnings = [NewEvent(text, level="warn", key=f"check-{index}") for index, text in enumerate(word["warnings"])]
    session.insist(session.store.events.append, session.lease, warnings)
    if "settings" in word:
        session.keep_warm(word)
    session.insist(session.store.jobs.validated, session.lease)


def _one_check(session: Session) -> Word:
    """A child's word: checked, failed, or {"said": "died", "status": ...}."""
    # With nothing else to do, the model is loaded at once and kept for the training that follows; beside a running job it is not.
    child, word = session.start("run" if session.warm.wanted.is_set() else "check")
    while True:
        word = word or child.hear(TICK)  # one kept warm has said it already: this job lost its lease when it was all but validated
        session.pause_requested()
        if session.stopping.is_set():
            raise Stopped
        if word is not None and word["said"] in ("checked", "failed"):
            return word
        status = child.gone()
        if status is not None:
            return {"said": "died", "status": status}
        word = None
