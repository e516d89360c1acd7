"""Unit tests run on generated code: the share of the row's tests that pass.

The answer is Python, fenced or bare. The row has `tests`: a text of Python, or a list of such texts; each assert or call
at the top level is one test, all else prepares them. Every test runs in a process of its own with a time limit. Code
that reaches for the grader's frames, or brings values that compare as they like, scores 0.
"""

import ast
import builtins
from typing import Any

from pinetune.graders.gallery.reading import from_json, overlong
from pinetune.graders.gallery.running import code_in, in_child, is_fair

TESTS_FIELD = "tests"  # field of the row: the tests
ALL_OR_NOTHING = False  # True: 1.0 where every test passes, else 0.0
OWN_OPERATORS = False  # True: code may define comparison and arithmetic of its own (tests of classes need it)
SECONDS = 2.0  # a test that takes longer fails
MAX_TESTS = 50  # more are not run: a call has two minutes
MAX_CHARS = 20_000  # longer answers score 0

BARRED = frozenset((
    "os", "posix", "subprocess", "inspect", "gc", "ctypes", "builtins", "signal", "importlib", "multiprocessing",
    "threading", "resource", "socket", "shutil", "pty", "faulthandler", "traceback",
))  # fmt: skip
OPERATORS = frozenset((
    "__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__bool__", "__sub__", "__rsub__", "__abs__",
    "__round__", "__float__", "__int__", "__instancecheck__",
))  # fmt: skip
PLAIN = (bool, int, float, complex, str, bytes, type(None), list, tuple, dict, set, frozenset)


def grade(sample: dict[str, Any], item: dict[str, Any]) -> float:
    prepare, tests = tests_of(from_json(item[TESTS_FIELD]))
    if not tests:
        raise ValueError(f"item[{TESTS_FIELD!r}] has no assert and no call")
    code = "" if overlong(sample, MAX_CHARS) else code_in(sample.get("output_text") or "")
    if not code.strip() or not is_fair(code, None, BARRED) or (not OWN_OPERATORS and own_operators(code)):
        return 0.0
    passed = sum(in_child(lambda test=test: passes(code, prepare, test), SECONDS, (sample, item)) is True for test in tests)  # type: ignore[misc]
    return float(passed == len(tests)) if ALL_OR_NOTHING else passed / len(tests)


def tests_of(value: Any) -> tuple[list[ast.stmt], list[ast.stmt]]:
    """(statements that prepare, tests), each `==` in an assert guarded against values that equal everything."""
    texts = [str(text) for text in value] if isinstance(value, list) else [str(value)]
    statements = [statement for text in texts for statement in ast.parse(text).body]
    guarded = [ast.fix_missing_locations(GuardEquals().visit(statement)) for statement in statements]
    tests: list[ast.stmt] = [s for s in guarded if isinstance(s, ast.Assert) or (isinstance(s, ast.Expr) and isinstance(s.value, ast.Call))]
    return [statement for statement in guarded if statement not in tests], tests[:MAX_TESTS]


class GuardEquals(ast.NodeTransformer):
    """`assert f(2) == 4` becomes `assert __same__(f(2), 4)`."""

    def visit_Assert(self, node: ast.Assert) -> ast.Assert:
        test = node.test
        if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq):
            name = ast.Name("__same__", ast.Load())
            node.test = ast.Call(name, [test.left, test.comparators[0]], [])
        return node


def same(left: Any, right: Any) -> bool:
    """Equal, and where one side is a plain value the other one is, too."""
    if type(left) in PLAIN or type(right) in PLAIN:
        return type(left) in PLAIN and type(right) in PLAIN and bool(left == right)
    return bool(left == right)


def own_operators(code: str) -> bool:
    nodes = ast.walk(ast.parse(code))
    return any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in OPERATORS for node in nodes)


def passes(code: str, prepare: list[ast.stmt], test: ast.stmt) -> bool:
    """The code's names reach the tests, but none that hides a builtin: its own `abs` or `all` would judge itself."""
    names: dict[str, Any] = {"__name__": "answer"}
    exec(compile(code, "answer.py", "exec"), names)
    scope = {name: value for name, value in names.items() if not hasattr(builtins, name)}
    scope |= {"__name__": "tests", "__same__": same}
    exec(compile(ast.Module([*prepare, test], []), "tests.py", "exec"), scope)
    return True
