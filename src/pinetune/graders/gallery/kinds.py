"""The gallery's table, and a kind with its settings to a grader definition."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any

from pinetune.errors import GraderError
from pinetune.graders.formula import FUNCTIONS
from pinetune.graders.gallery import rubric
from pinetune.graders.gallery.inline import Setting, settings_of, source_of, summary_of

# A python kind is the file of its name. What the kind is for stands in the file's first sentence.
PYTHON_KINDS = (
    "ranked_list",
    "name_value_f1",
    "code_part_marks",
    "json_fields_f1",
    "numeric_tolerance",
    "final_answer",
    "program_answer",
    "unit_tests",
    "quote_in_source",
)
RUBRIC_SETTINGS = {
    "answer_field": Setting("ANSWER_FIELD", "reference_answer", "field of the row: the reference answer"),
    "task_field": Setting("TASK_FIELD", "messages", "field of the row that shows the judge the task"),
    "model": Setting("MODEL", rubric.MODEL, "the judge; pinetune maps the name to what the operator runs"),
    "parts": Setting("PARTS", rubric.PARTS, 'JSON: {"name": [weight, "what is asked"], ...}; weights sum to 1'),
}
KINDS = (*PYTHON_KINDS[:3], "rubric", *PYTHON_KINDS[3:])


def describe(kind: str) -> str:
    """What the kind pays for, in one sentence."""
    _require(kind)
    return summary_of(kind)


def settings(kind: str) -> dict[str, Setting]:
    """Settings of a kind by name; raises GraderError for an unknown kind, naming the nearest."""
    _require(kind)
    return RUBRIC_SETTINGS if kind == "rubric" else settings_of(kind)


def new_grader(kind: str, values: Mapping[str, Any] | None = None, *, name: str | None = None) -> dict[str, Any]:
    """The definition of a gallery grader. `values`: setting -> value, or its text as written on a command line.

    Raises: GraderError for an unknown kind or setting, or a value of the wrong type.
    """
    known = settings(kind)
    checked = {key: _value(kind, key, value, known) for key, value in (values or {}).items()}
    if kind == "rubric":
        made = {key: checked.get(key, setting.default) for key, setting in known.items()}
        parts = _parts(made["parts"])
        body = rubric.definition(parts, model=made["model"], answer_field=made["answer_field"], task_field=made["task_field"])
        return body | {"name": name or "rubric"}
    return {"type": "python", "name": name or kind, "source": source_of(kind, checked)}


def _require(kind: str) -> None:
    if kind in KINDS:
        return
    near = difflib.get_close_matches(kind.lower().replace("-", "_"), KINDS, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(KINDS)}"
    raise GraderError(f"unknown grader kind {kind!r}; {hint}")


def _value(kind: str, key: str, value: Any, known: Mapping[str, Setting]) -> Any:
    if key not in known:
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"it has: {', '.join(known)}"
        raise GraderError(f"{kind} has no setting {key!r}; {hint}")
    default = known[key].default
    if isinstance(value, str) and not isinstance(default, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = value.split(",") if isinstance(default, tuple) else value
    made: Any = value
    wanted = {bool: bool, int: int, float: int | float, str: str, tuple: list | tuple, dict: dict}[type(default)]
    if not isinstance(value, wanted) or (isinstance(value, bool) and not isinstance(default, bool)) or not _inside(value, default):
        raise GraderError(f"{kind}: {key} must be of the form {json.dumps(default)}, not {json.dumps(value)}")
    if isinstance(default, tuple):
        return tuple(made)
    if isinstance(default, dict) and all(isinstance(name, int) for name in default):
        return {int(name): inner for name, inner in made.items()}
    return value


def _inside(value: Any, default: Any) -> bool:
    """Lists hold texts, marks are numbers by a length, a text is not empty (nor is a field's name)."""
    if isinstance(default, tuple):
        return all(isinstance(entry, str) and entry for entry in value)
    if isinstance(default, dict) and all(isinstance(name, int) for name in default):
        return all(str(name).isdigit() and isinstance(mark, int | float) and not isinstance(mark, bool) for name, mark in value.items())
    return bool(value != "")


def _parts(parts: Mapping[str, Any]) -> dict[str, tuple[float, str]]:
    where = "rubric: parts"
    found: dict[str, tuple[float, str]] = {}
    for name, part in parts.items():
        if not name.isidentifier() or name in FUNCTIONS:
            raise GraderError(f"{where}: {name!r} cannot be a name in the formula; use letters, digits and _, and no function's name")
        weight, asked = part if isinstance(part, list | tuple) and len(part) == 2 else (None, None)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not isinstance(asked, str) or weight <= 0:
            raise GraderError(f'{where}: {name}: write [weight, "what is asked of the answer"] with a weight above 0')
        found[name] = (float(weight), asked)
    total = sum(weight for weight, _ in found.values())
    if abs(total - 1) > 1e-6:
        raise GraderError(f"{where}: the weights sum to {total:g}; make them sum to 1, so that a full answer scores 1")
    return found
