"""Snippets for the gallery's graders that run generated code: a child process, a time limit, and no way to the grader.

The sandbox guards the host. What is guarded here is the grade: code that looks for the reference answer in the
grader's frames, compares equal to everything or ends the process must score 0.
"""

import ast
import contextlib
import json
import os
import re
import resource
import select
import signal
import sys
import textwrap
import time
from collections.abc import Callable
from typing import Any

FENCE = re.compile(r"```[ \t]*(?:python|py)?[ \t]*\r?\n(.*?)```", re.DOTALL | re.IGNORECASE)
FORBIDDEN_NAMES = frozenset((
    "attrgetter", "breakpoint", "compile", "delattr", "eval", "exec", "exit", "getattr", "globals", "help", "input", "locals",
    "memoryview", "methodcaller", "open", "quit", "setattr", "vars",
))  # fmt: skip
# The ways from an object to the interpreter's frames and modules.
FORBIDDEN_ATTRIBUTES = frozenset((
    "ag_frame", "cr_frame", "gi_frame", "tb_frame", "f_back", "f_builtins", "f_globals", "f_locals", "modules",
    "settrace", "setprofile", "sys", "os", "inspect", "builtins", "gc", "traceback", "ctypes", "ctypeslib", "attrgetter",
    "methodcaller", "format_map", "vformat", "_sys", "_os", "_io", "_operator", "_private", "_current_frames", "_getframe",
))  # fmt: skip
USUAL_DUNDERS = frozenset((
    "__init__", "__name__", "__doc__", "__len__", "__iter__", "__next__", "__str__", "__repr__", "__hash__",
    "__contains__", "__getitem__",
))  # fmt: skip
NAMED_TUPLES = frozenset(("_asdict", "_fields", "_make", "_replace"))
# In a text: for format() and for classes made by type().
WAYS_IN_TEXT = re.compile(r"__(?!main__)[a-z]+__|\b(?:ag|cr|gi|tb)_frame\b|\bf_(?:back|builtins|globals|locals)\b")
MAX_RESULT_BYTES = 65536
CHILD_MEMORY_BYTES = 1 << 30
MAX_OPEN_FILES = 1024


def code_in(text: str) -> str:
    """The last fenced block, or the whole text where nothing is fenced."""
    blocks = FENCE.findall(text)
    return textwrap.dedent(str(blocks[-1]) if blocks else text)


def is_fair(code: str, modules: frozenset[str] | None, barred: frozenset[str] = frozenset()) -> bool:
    """False for code that does not parse or reaches for the grader. `modules`: all it may import; None = any but `barred`."""
    try:
        nodes = list(ast.walk(ast.parse(code)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    own = made_by(nodes)
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom) and not fair_import(node, modules, barred):
            return False
        if isinstance(node, ast.Name) and (node.id in FORBIDDEN_NAMES or (node.id.startswith("__") and node.id != "__name__")):
            return False
        if isinstance(node, ast.Attribute) and (
            hidden(node.attr, own) or (node.attr == "format" and not isinstance(node.value, ast.Constant))
        ):
            return False
        if isinstance(node, ast.MatchClass) and any(hidden(name, own) for name in node.kwd_attrs):
            return False
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and WAYS_IN_TEXT.search(node.value):
            return False
    return True


def made_by(nodes: list[ast.AST]) -> set[str]:
    """Names that the code gives to attributes and methods of its own."""
    stored = {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    named = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return stored | named | {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


def fair_import(node: ast.Import | ast.ImportFrom, modules: frozenset[str] | None, barred: frozenset[str]) -> bool:
    names = [name.name for name in node.names]
    if isinstance(node, ast.ImportFrom):
        if any(name.startswith("_") or name in FORBIDDEN_ATTRIBUTES for name in names):
            return False
        names = [node.module or ""]
    tops = {name.split(".")[0] for name in names} - {"__future__"}
    below = [part for name in names for part in name.split(".")[1:]]
    if any(part.startswith("_") or part in FORBIDDEN_ATTRIBUTES for part in below):
        return False
    return not tops & barred and not any(top.startswith("_") for top in tops) and (modules is None or tops <= modules)


def hidden(name: str, own: set[str]) -> bool:
    """A way to the interpreter. The standard library's modules keep sys and os behind an underscore; `own` names are the code's."""
    if name in FORBIDDEN_ATTRIBUTES or (name.startswith("__") and name not in USUAL_DUNDERS):
        return True
    return name.startswith("_") and name not in USUAL_DUNDERS | NAMED_TUPLES | own


def in_child(work: Callable[[], Any], seconds: float, forget: tuple[dict[str, Any], ...] = ()) -> Any:
    """What work() returns, as JSON; None where it raises, prints for ever, ends the process or takes too long.

    The child starts as a copy of the grader: what it holds of `forget` (the row, the sample) is emptied before work().
    """
    read, write = os.pipe()
    # Code that writes to the pipe itself cannot forge a result: this mark is not among the names it can reach.
    mark = os.urandom(16)
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            for kept in forget:
                kept.clear()
            run_quietly(work, seconds, write, mark)
        os._exit(0)
    os.close(write)
    data, deadline = b"", time.monotonic() + seconds
    while select.select([read], [], [], max(0.0, deadline - time.monotonic()))[0]:
        part = os.read(read, MAX_RESULT_BYTES)
        data += part
        if not part or len(data) > MAX_RESULT_BYTES:
            break
    os.close(read)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    try:
        return json.loads(data.removeprefix(mark)) if data.startswith(mark) else None
    except ValueError:
        return None


def run_quietly(work: Callable[[], Any], seconds: float, write: int, mark: bytes) -> None:
    """In the child: nothing to read or print to, no open file but the pipe (the grader's own are out of reach), limits."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.closerange(3, write)
    os.closerange(write + 1, MAX_OPEN_FILES)
    for kind, most in ((resource.RLIMIT_CPU, int(seconds) + 1), (resource.RLIMIT_AS, CHILD_MEMORY_BYTES)):
        hard = resource.getrlimit(kind)[1]
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    os.write(write, mark + json.dumps(work()).encode())
