"""Program that is executed: 1.0 where its result is the right number (program of thoughts, P-CoT).

The answer is Python, fenced or bare, or {"program": "..."}. Its result is what `solution()` returns, else the variable
`answer` or `result`, else the last line it prints where that is a number. It runs in a child process with a time limit;
a program that reaches for files, frames or the grader scores 0 without being run.
"""

import contextlib
import importlib
import io
import math
from typing import Any

from pinetune.graders.gallery.numbers import as_number, close
from pinetune.graders.gallery.reading import answer_object, overlong
from pinetune.graders.gallery.running import code_in, in_child, is_fair

ANSWER_FIELD = "reference_answer"  # field of the row: the right number
PROGRAM_FIELD = "program"  # key of the program in a JSON answer
SECONDS = 5.0  # a program that takes longer scores 0
PRELOAD = ()  # modules to load once instead of in each program that imports them; sympy takes a second or more
TOLERANCE = 1e-4  # numbers are equal within this share
MAX_CHARS = 8_000  # longer answers score 0

MODULES = frozenset((
    "__future__", "math", "cmath", "fractions", "decimal", "datetime", "calendar", "statistics", "itertools",
    "functools", "collections", "heapq", "bisect", "random", "re", "string", "numpy", "sympy", "typing",
))  # fmt: skip

for module in map(str, PRELOAD):
    importlib.import_module(module)


def grade(sample: dict[str, Any], item: dict[str, Any]) -> float:
    reference_of(item)  # a row without one is told of, whatever the answer
    program = "" if overlong(sample, MAX_CHARS) else program_of(sample)
    if not program.strip() or not is_fair(program, MODULES):
        return 0.0
    number = as_number(in_child(lambda: result_of(program), SECONDS, (sample, item)))
    # Read only now: a local variable would still be there in the child.
    return float(number is not None and close(number, reference_of(item), TOLERANCE, 1e-6))


def reference_of(item: dict[str, Any]) -> float:
    reference = as_number(item[ANSWER_FIELD])
    if reference is None:
        raise ValueError(f"item[{ANSWER_FIELD!r}] is no number: {item[ANSWER_FIELD]!r}")
    return reference


def program_of(sample: dict[str, Any]) -> str:
    """The program in the answer; one that is JSON by chance (a dict display) is still read as JSON."""
    text = sample.get("output_text") or ""
    answer = answer_object(sample) if text.lstrip()[:1] == "{" or not text else None
    if answer is not None:
        program = answer.get(PROGRAM_FIELD)
        return program if isinstance(program, str) else ""
    return code_in(text)


def result_of(program: str) -> Any:
    """Run it; a plain finite number, or None."""
    names: dict[str, Any] = {"__name__": "program"}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(program, "program.py", "exec"), names)
        if callable(names.get("solution")):
            result = names["solution"]()
        else:
            result = next((names[name] for name in ("answer", "result") if name in names), None)
    if result is None:
        lines = printed.getvalue().split("\n")
        result = as_number(next((line for line in reversed(lines) if line.strip()), None))
    if result is None or isinstance(result, bool | str | bytes):
        return as_number(result) if isinstance(result, str) else None
    number = float(result)
    return number if math.isfinite(number) else None
