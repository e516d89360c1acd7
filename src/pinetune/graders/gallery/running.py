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
    "breakpoint", "compile", "delattr", "eval", "exec", "exit", "getattr", "globals", "help", "input", "locals",
    "memoryview", "open", "quit", "setattr", "vars",
))  # fmt: skip
# The ways from an object to the interpreter's frames and modules.
FORBIDDEN_ATTRIBUTES = frozenset((
    "ag_frame", "cr_frame", "gi_frame", "tb_frame", "f_back", "f_builtins", "f_globals", "f_locals", "modules",
    "settrace", "setprofile", "sys", "os", "inspect", "builtins",
))  # fmt: skip
USUAL_DUNDERS = frozenset((
    "__init__", "__name__", "__doc__", "__len__", "__iter__", "__next__", "__str__", "__repr__", "__hash__",
    "__contains__", "__getitem__",
))  # fmt: skip
DUNDER = re.compile(r"__(?!main__)[a-z]+__")  # in a text: for format() and for classes made by type()
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
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom) and not fair_import(node, modules, barred):
            return False
        if isinstance(node, ast.Name) and (node.id in FORBIDDEN_NAMES or (node.id.startswith("__") and node.id != "__name__")):
            return False
        if isinstance(node, ast.Attribute) and (node.attr in FORBIDDEN_ATTRIBUTES or hidden(node.attr)):
            return False
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and DUNDER.search(node.value):
            return False
    return True


def fair_import(node: ast.Import | ast.ImportFrom, modules: frozenset[str] | None, barred: frozenset[str]) -> bool:
    names = [name.name for name in node.names]
    if isinstance(node, ast.ImportFrom):
        if any(name.startswith("_") or name in FORBIDDEN_ATTRIBUTES for name in names):
            return False
        names = [node.module or ""]
    tops = {name.split(".")[0] for name in names} - {"__future__"}
    return not tops & barred and not any(top.startswith("_") for top in tops) and (modules is None or tops <= modules)


def hidden(name: str) -> bool:
    return name == "_getframe" or (name.startswith("__") and name not in USUAL_DUNDERS)


def in_child(work: Callable[[], Any], seconds: float) -> Any:
    """What work() returns, as JSON; None where it raises, prints for ever, ends the process or takes too long."""
    read, write = os.pipe()
    # Code that writes to the pipe itself cannot forge a result: this mark is not among the names it can reach.
    mark = os.urandom(16)
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
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
