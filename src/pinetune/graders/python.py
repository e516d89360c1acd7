"""`python`: the user's own `grade(sample, item) -> float`, run by the sandbox.

Whatever goes wrong in it (an exception, None, NaN, a text, no answer in time, a crash) is a Grade with status "error"
and the traceback, never a silent 0.
"""

from __future__ import annotations

import ast
import re
import time
from dataclasses import replace

from pinetune.errors import GraderError, MissingToolError
from pinetune.graders.options import BuildOptions
from pinetune.graders.template import sample_of
from pinetune.records import Completion, Grade, Row
from pinetune.sandbox.levels import choose_level
from pinetune.sandbox.packages import PACKAGES, corpora_command, missing
from pinetune.sandbox.pool import WarmPool
from pinetune.wire.graders import Python

MAX_SOURCE_BYTES = 256_000
ERROR_KINDS = {"runtime": "python_grader_runtime_error", "server": "python_grader_server_error"}


class PythonGrader:
    """Grades in warm, confined interpreters; `explanation` is what the source printed, or on error the traceback."""

    def __init__(self, definition: Python, options: BuildOptions) -> None:
        self.name = definition.name or options.default_name
        self.level = choose_level(definition.source, trusted=options.trusted, unsafe=options.unsafe_python)
        self._json_answers = options.json_answers
        self._pool = WarmPool(definition.source, self.level, options.limits)

    def grade(self, completion: Completion, row: Row) -> Grade:
        start = time.perf_counter()
        outcome = self._pool.call(sample_of(completion, json_answers=self._json_answers), row.item)
        seconds = time.perf_counter() - start
        if outcome.value is None:
            outcome = replace(outcome, error=outcome.error + _advice(outcome.error))
            printed = f"\nprinted:\n{outcome.printed}" if outcome.printed else ""
            return Grade("error", explanation=outcome.error + printed, error_kind=ERROR_KINDS[outcome.kind], seconds=seconds)
        return Grade("ok", outcome.value, explanation=outcome.printed, seconds=seconds)

    def close(self) -> None:
        self._pool.close()


def _advice(error: str) -> str:
    """How to install the package of the hosted image that a failed import names, or ""."""
    if "nltk.download(" in error:  # its own advice is to download, which a confined grader cannot
        return f"\nNLTK's data must be where a confined grader sees it: `{corpora_command()}`"
    named = re.search(r"ModuleNotFoundError: No module named '(\w+)", error)
    package = PACKAGES.get(named[1]) if named else None
    return f"\n{package.advice()}" if package and not package.installed() else ""


def build(definition: Python, options: BuildOptions) -> PythonGrader:
    check_source(definition.source, f"{options.path}.source")
    return PythonGrader(definition, options)


def check_source(source: str, path: str) -> None:
    """Raise for what can be seen without running it.

    GraderError: size, syntax, a missing or unfit `grade`. MissingToolError: its top level imports a package of the hosted
    image that is not installed here.
    """
    size = len(source.encode(errors="surrogatepass"))
    if size >= MAX_SOURCE_BYTES:
        raise GraderError(f"{path}: {size} bytes; a grader's source must be smaller than {MAX_SOURCE_BYTES} bytes")
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        near = f": {error.text.strip()[:80]}" if error.text else ""
        line = f"line {error.lineno}: " if error.lineno else ""  # a null byte has none
        raise GraderError(f"{path}: {line}{error.msg}{near}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise GraderError(f"{path}: cannot be read as Python ({error or 'nested too deeply'})") from None
    function = _bound_to_grade(tree.body)
    if function is None:
        raise GraderError(f"{path}: defines no function grade(sample, item); add one that returns a number")
    if isinstance(function, ast.AsyncFunctionDef):
        raise GraderError(f"{path}: line {function.lineno}: grade must be a plain function, not async")
    if isinstance(function, ast.FunctionDef):
        _check_parameters(function, path)
    absent = missing(tree)
    if absent is not None:
        raise MissingToolError(f"{path}: line {absent.line}: {PACKAGES[absent.module.partition('.')[0]].advice()}")


def _check_parameters(function: ast.FunctionDef, path: str) -> None:
    parameters = function.args
    places = len(parameters.posonlyargs) + len(parameters.args)
    required = places - len(parameters.defaults)
    required_by_name = sum(default is None for default in parameters.kw_defaults)
    if required > 2 or required_by_name or (places < 2 and parameters.vararg is None):
        raise GraderError(f"{path}: line {function.lineno}: grade is called as grade(sample, item); further arguments need defaults")


def _bound_to_grade(body: list[ast.stmt]) -> ast.stmt | None:
    """The last statement at the top level (also inside if, try, with) that gives `grade` a value."""
    found: ast.stmt | None = None
    for statement in body:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found = statement if statement.name == "grade" else found
        elif isinstance(statement, (ast.Import, ast.ImportFrom)):
            found = statement if any((name.asname or name.name) in {"grade", "*"} for name in statement.names) else found
        elif isinstance(statement, (ast.Assign, ast.AnnAssign)):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            names = {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
            found = statement if "grade" in names else found
        else:
            blocks = [getattr(statement, field, []) for field in ("body", "orelse", "finalbody")]
            blocks += [handler.body for handler in getattr(statement, "handlers", [])]
            found = next((inner for block in blocks if (inner := _bound_to_grade(block))), found)
    return found
