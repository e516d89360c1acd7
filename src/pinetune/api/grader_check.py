"""A grader definition at the door: every fault of it as a 400 that names its JSON path, nothing run, nobody asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from pinetune.errors import GraderError, GradingFailed
from pinetune.wire.errors import ApiProblem
from pinetune.wire.problems import grader_problem

if TYPE_CHECKING:
    from pinetune.graders.ask import AskRequest
    from pinetune.graders.options import Services

LOCAL = "local:"  # how an operator's alias names a folder; never a user


def check_grader(definition: Mapping[str, Any], path: str, *, unsafe_python: bool) -> None:
    """Raises ApiProblem 400, its param below `path`; MissingToolError where this host could not run it."""
    from pinetune.graders.build import build_grader

    refuse_local_judges(definition, path)
    try:
        build_grader(definition, unsafe_python=unsafe_python, services=without_asking(), path=path).close()
    except GraderError as error:
        raise grader_problem(error, path) from None


def refuse_local_judges(definition: Any, path: str = "grader") -> None:
    """A user's judge is a name; which folder answers to it is the operator's to say. Raises ApiProblem 400."""
    if isinstance(definition, Mapping):
        model = definition.get("model")
        if isinstance(model, str) and model.startswith(LOCAL):
            text = f"{path}.model: {model!r} names a folder of the server; ask its operator for an alias (PINETUNE_MODEL_ALIASES)"
            raise ApiProblem(400, text, code="invalid_value", param=f"{path}.model")
        for key, inner in definition.items():
            refuse_local_judges(inner, f"{path}.{key}")
    elif isinstance(definition, list):
        for index, inner in enumerate(definition):
            refuse_local_judges(inner, f"{path}.{index}")


def without_asking() -> Services:
    """Services that are there, so that a judge's definition is complete, and answer nothing."""
    from pinetune.graders.options import Services

    def ask(request: AskRequest) -> NoReturn:
        raise GradingFailed("other_error", "nothing is graded while a definition is checked")

    def embed(texts: Sequence[str], model: str) -> NoReturn:
        raise GradingFailed("other_error", "nothing is graded while a definition is checked")

    return Services(ask=ask, embed=embed)
