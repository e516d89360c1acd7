"""The error tree. A bad row, grader or model is one clear line to the person who can fix it.

    PinetuneError
      UserError            the user must change something; printed without a traceback, exit code 2
        DataError          a dataset file: names file, line and field
        JobError           a job body: names the field
        GraderError        a grader definition
        ModelError         a model folder, id or architecture
        MissingToolError   something optional is not installed; names the install command
      BudgetSpent          a judge's budget is spent; the job stops, keeps its checkpoint and goes on when it is raised
      GradingFailed        one answer could not be graded (becomes a Grade with status "error")
      JobFailed            a running job cannot go on; its checkpoints are kept, exit code 1
      StoreError           the database or the files cannot do it; nothing was half-written
        StoreBusy          another process holds the lock; try again
        StoreFull          no space left on the disk
        NotFound           no such object for this project; carries kind and id
        MoveRefused        the object's state does not allow it; carries status and move
        LeaseLost          this worker no longer holds the job; its write was refused
        TooLarge           more bytes than allowed; carries the limit
        PartsWrong         the parts of an upload do not add up; it stays open

A bad rollout is data (a status on a record), a bad config is an exception.
"""

from __future__ import annotations


class PinetuneError(Exception):
    """Base of all errors Pinetune raises on purpose."""


class UserError(PinetuneError):
    """The user must change something. The message says what, where, and what to do."""


class DataError(UserError):
    """A dataset file is wrong. `complaints` holds one text a fault, each starting with file:line."""

    def __init__(self, complaints: str | list[str]) -> None:
        self.complaints = [complaints] if isinstance(complaints, str) else list(complaints)
        super().__init__("\n".join(self.complaints))


class JobError(UserError):
    """A job body is wrong. `param` is the JSON path of the field, as OpenAI's error envelope names it."""

    def __init__(self, message: str, param: str | None = None) -> None:
        self.param = param
        super().__init__(f"{param}: {message}" if param else message)


class GraderError(UserError):
    """A grader definition is wrong."""


class ModelError(UserError):
    """A model cannot be found, opened or used."""


class MissingToolError(UserError):
    """An optional program or package is absent; the message names the install command."""


class BudgetSpent(PinetuneError):
    """The budget for judges is spent. No grade: the work stops where it is, and the message says how to raise the budget."""


class GradingFailed(PinetuneError):
    """One answer could not be graded. `kind` is OpenAI's error flag for it."""

    def __init__(self, kind: str, detail: str) -> None:
        self.kind = kind
        super().__init__(detail)


class JobFailed(PinetuneError):
    """A running job cannot go on. What it saved so far is kept."""


class StoreError(PinetuneError):
    """The database or the file store cannot do it. What was asked for happened as a whole or not at all."""


class StoreBusy(StoreError):
    """Another process holds the database's lock for longer than we wait."""


class StoreFull(StoreError):
    """The disk is full."""


class NotFound(StoreError):
    """There is no such object, or it is another project's: the caller learns no difference."""

    def __init__(self, kind: str, id: str) -> None:
        self.kind, self.id = kind, id
        super().__init__(f"No such {kind}: {id}")


class MoveRefused(StoreError):
    """The object's state does not allow the move."""

    def __init__(self, message: str, status: str, move: str) -> None:
        self.status, self.move = status, move
        super().__init__(message)


class LeaseLost(StoreError):
    """The job went to another worker, was cancelled or is done; whoever still works on it must stop."""


class TooLarge(StoreError):
    """More bytes than allowed."""

    def __init__(self, message: str, limit: int) -> None:
        self.limit = limit
        super().__init__(message)


class PartsWrong(StoreError):
    """The parts of an upload do not add up to what was announced; the upload stays pending."""
