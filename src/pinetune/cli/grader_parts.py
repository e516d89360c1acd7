"""What a grader definition is made of, for `pinetune grader validate`: its parts, their inputs, and where python runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pinetune.errors import GradingFailed, MissingToolError
from pinetune.graders.ask import AskReply, AskRequest
from pinetune.graders.build import build_grader
from pinetune.graders.options import Services
from pinetune.sandbox.levels import choose_level

SHOWN_FIELDS = ("operation", "evaluation_metric", "model", "calculate_output", "url", "pass_threshold", "range", "passing_labels")

NOT_SHOWN = ("key", "type", "python")  # they stand in places of their own


def describe_parts(definition: Mapping[str, Any], *, unsafe_python: bool, where: str) -> tuple[str, list[dict[str, Any]]]:
    """The grader's name and its parts, a multi grader's own first.

    The definition alone is checked: no judge need be configured, and a host that cannot confine python is only told of.
    Raises: GraderError for a bad definition.
    """
    return check_definition(definition, where), list(_parts("", definition, unsafe_python))


def check_definition(definition: Mapping[str, Any], where: str) -> str:
    """The grader's name; raises GraderError for a bad definition, whatever this host can run and whoever judges."""
    grader = build_grader(definition, trusted=True, services=Services(ask=_nobody_asks, embed=_nobody_embeds), path=where)
    grader.close()
    return grader.name


def part_line(part: Mapping[str, Any]) -> str:
    shown = ", ".join(f"{key} {value}" if key != "lines" else f"{value} lines" for key, value in part.items() if key not in NOT_SHOWN)
    head = f"{part['key']}: {part['type']}" if part["key"] else str(part["type"])
    return head + (f" ({shown})" if shown else "") + (f": {part['python']}" if "python" in part else "")


def _parts(key: str, definition: Mapping[str, Any], unsafe: bool) -> Iterator[dict[str, Any]]:
    part = {"key": key, "type": definition.get("type")}
    part |= {name: definition[name] for name in SHOWN_FIELDS if definition.get(name) is not None}
    if isinstance(definition.get("source"), str):
        part |= {"lines": definition["source"].count("\n") + 1, "python": _confinement(definition["source"], unsafe)}
    yield part
    inner = definition.get("graders")
    if isinstance(inner, Mapping) and not isinstance(inner.get("type"), str):
        for name, grader in inner.items():
            yield from _parts(name, grader, unsafe)
    else:
        for grader in inner if isinstance(inner, list) else [inner] if inner else []:
            yield from _parts(str(grader.get("name") or grader.get("type")), grader, unsafe)


def _confinement(source: str, unsafe: bool) -> str:
    try:
        level = choose_level(source, trusted=False, unsafe=unsafe).name
    except MissingToolError as error:
        return f"cannot run here: {error}"
    return {
        "trusted": "part of Pinetune, runs in a child process with limits",
        "unsafe": "runs UNCONFINED here, as --unsafe-python-graders asks",
    }.get(level, f"runs confined here ({level})")


def _nobody_asks(request: AskRequest) -> AskReply:
    raise GradingFailed("other_error", "nothing is graded while a definition is checked")


def _nobody_embeds(texts: Sequence[str], model: str) -> Sequence[Sequence[float]]:
    raise GradingFailed("other_error", "nothing is graded while a definition is checked")
