"""OpenAI's error envelope, and the one exception that becomes it.

    {"error": {"message": "...", "type": "invalid_request_error", "param": "model", "code": "model_not_found"}}

Programs raise ApiProblem anywhere below a route; the server turns it into the envelope with its status in one place.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from pinetune.errors import DataError, GraderError, JobError, MissingToolError, ModelError, PinetuneError, UserError
from pinetune.wire.base import complaints

# The type that goes with a status where the raiser names none.
TYPES = {401: "authentication_error", 403: "permission_error", 409: "conflict_error", 429: "rate_limit_error"}


# By pydantic's name for the fault; the rest is an invalid_value.
CODES = {
    "missing": "missing_required_parameter",
    "extra_forbidden": "unknown_parameter",
    "unsupported_parameter": "unsupported_parameter",
}


class ErrorBody(BaseModel):
    """`message` is for people, `code` for programs; `param` is the JSON path of the field at fault."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorEnvelope(BaseModel):
    error: ErrorBody


class ApiProblem(PinetuneError):
    """An answer that is an error. `retry_after` is in seconds and goes into the header of that name."""

    def __init__(
        self,
        status: int,
        message: str,
        type: str | None = None,
        code: str | None = None,
        param: str | None = None,
        *,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type or TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
        self.code = code
        self.param = param
        self.retry_after = retry_after

    def envelope(self) -> ErrorEnvelope:
        return ErrorEnvelope(error=ErrorBody(message=self.message, type=self.type, param=self.param, code=self.code))

    def body(self) -> dict[str, Any]:
        """The envelope as JSON; all four keys are always there."""
        return self.envelope().model_dump()

    def headers(self) -> dict[str, str]:
        return {} if self.retry_after is None else {"Retry-After": str(max(1, round(self.retry_after)))}


def from_validation(error: ValidationError, shape: type[BaseModel], *, status: int = 400) -> ApiProblem:
    """The faults of a request body as one problem; `param` is the first fault's path, `code` says what kind it is."""
    found = complaints(error, shape)
    text = "; ".join(f"{path}: {said}" if path else said for path, said in found)
    kind = error.errors()[0]["type"]
    code = CODES.get(kind, "invalid_value")
    return ApiProblem(status, text, code=code, param=found[0][0] or None)


def from_user_error(error: UserError) -> ApiProblem:
    """What the rooms below raise when the user must change something, as a problem."""
    if isinstance(error, JobError):
        return ApiProblem(400, str(error), code="invalid_value", param=error.param)
    codes = {DataError: "invalid_file_format", GraderError: "invalid_grader", ModelError: "invalid_model", MissingToolError: "missing_tool"}
    return ApiProblem(400, str(error), code=next((code for kind, code in codes.items() if isinstance(error, kind)), None))
