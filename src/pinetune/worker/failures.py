"""Why a job failed, as the job object's `error`: code, message, and the field at fault."""

from __future__ import annotations

from collections.abc import Mapping

from pinetune.errors import DataError, GraderError, JobError, JobFailed, MissingToolError, ModelError, UserError

CODES: tuple[tuple[type[Exception], str, str | None], ...] = (
    (GraderError, "invalid_grader", "method.reinforcement.grader"),
    (ModelError, "invalid_model", "model"),
    (MissingToolError, "missing_tool", None),
    (UserError, "invalid_value", None),
    (JobFailed, "training_failed", None),
)


def describe(error: Exception, names: Mapping[str, str]) -> dict[str, str | None]:
    """`names`: path of a file here -> (role, a colon, what the user calls it), so that no path of this machine is shown."""
    message = str(error)
    if isinstance(error, DataError):
        role = next((named.split(":", 1)[0] for path, named in names.items() if message.startswith(path)), "training_file")
        return {"code": f"invalid_{role}", "message": _renamed(message, names), "param": role}
    if isinstance(error, JobError):
        text = message.removeprefix(f"{error.param}: ") if error.param else message
        return {"code": "invalid_value", "message": _renamed(text, names), "param": error.param}
    code, param = next(((code, param) for kind, code, param in CODES if isinstance(error, kind)), ("job_failed", None))
    return {"code": code, "message": _renamed(message, names), "param": param}


def _renamed(message: str, names: Mapping[str, str]) -> str:
    for path, role_name in names.items():
        message = message.replace(path, role_name.split(":", 1)[1])
    return message
