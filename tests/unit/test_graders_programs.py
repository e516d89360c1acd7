"""The gallery's graders that execute an answer: programs and generated code, what they may reach, how long they may run."""

from __future__ import annotations

import pytest
from grading import gallery_value

from pinetune.graders.gallery import program_answer, unit_tests
from pinetune.graders.gallery.running import in_child, is_fair

pytestmark = pytest.mark.slow  # seconds in all, of waiting or of work


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("def solution():\n    eggs = 16 - 3 - 4\n    return eggs * 2", 1.0),
        ("```python\nimport math\nanswer = math.floor(18.5)\n```", 1.0),
        ("x = 9\nprint('so')\nprint(x * 2)", 1.0),
        ('{"program": "answer = 18"}', 1.0),
        ("from fractions import Fraction\nanswer = Fraction(36, 2)", 1.0),
        ("    answer = 18", 1.0),
        ("for i in range(100):\n    print(i)", 0.0),
        ("answer = True", 0.0),
        ("answer = [18]", 0.0),
        ("answer = float('nan')", 0.0),
        ("raise SystemExit", 0.0),
        ("import os\nos._exit(0)", 0.0),
        ("import sys\nanswer = sys._getframe(3).f_locals['item']['reference_answer']", 0.0),
        ("g = (x.gi_frame for x in [])\nanswer = 18", 0.0),
        ("answer = '{0.__globals__}'.format(print)\nanswer = 18", 0.0),
        ("answer = eval('18')", 0.0),
        ("from collections import _sys\nanswer = 18", 0.0),
        ("from statistics import sys\nanswer = 18", 0.0),
        ("from __future__ import annotations\nanswer: int = 18", 1.0),
        ("solution = lambda n=9: n * 2", 1.0),
        ("answer = open('/etc/hostname') and 18", 0.0),
        ("class A:\n    def __eq__(self, other): return True\n    def __float__(self): return 0.0\nanswer = A()", 0.0),
        ("def f(): return f()\nanswer = f()", 0.0),
        ("answer = 'x' * 10 ** 12", 0.0),
        ("answer = 18 +", 0.0),
        ("18", 0.0),
        ("", 0.0),
    ],
)
def test_program_answer(program: str, expected: float) -> None:
    assert gallery_value(program_answer.grade, program, "18") == expected


# Programs that look for the reference answer where the grader keeps it, each by another way from an object to a frame.
THIEVES = {
    "the collector": "import numpy as np\ndef solution():\n    for o in np.testing._private.utils.gc.get_objects():\n"
    "        if type(o) is dict and 'reference_answer' in o: return o['reference_answer']",
    "a module behind an underscore": "import collections\nanswer = len(collections._sys._current_frames()) * 18",
    "its own name for it": "import collections\nclass A: pass\nA()._sys = 1\nanswer = len(collections._sys.argv) * 0 + 18",
    "a format's field": "def g():\n    yield '{0.gi_frame.f_back.f_locals}'.format(me)\nme = g()\nanswer = len(next(me)) * 0 + 18",
    "a format in pieces": "answer = len(('{0.gi_fr' + 'ame}').format((x for x in []))) * 0 + 18",
    "a getter": "import fractions\nanswer = fractions.operator.attrgetter('real')(18)",
    "a pattern": "match (x for x in []):\n    case object(gi_frame=frame): answer = 18",
    "a private module": "import numpy.testing._private.utils as utils\nanswer = 18",
}


@pytest.mark.parametrize("way", THIEVES)
def test_a_program_that_reaches_for_frames_is_not_run(way: str) -> None:
    assert gallery_value(program_answer.grade, THIEVES[way], "18") == 0.0
    assert not is_fair(THIEVES[way], None)


@pytest.mark.parametrize(
    "code",
    [
        "class Node:\n    def __init__(self):\n        self._next = None\n    def _last(self):\n        node = self\n"
        "        while node._next: node = node._next\n        return node\nNode()._last()",
        "from collections import namedtuple\nP = namedtuple('P', 'x')\nP(1)._replace(x=2)._asdict()",
        "print('{:.2f} of {0}'.format(18))",
        "import numpy as np\nnp.linalg.norm([3, 4])",
        "match [18]:\n    case list(): pass",
        "import os.path, sys\nsys.setrecursionlimit(3000)",
    ],
)
def test_ordinary_code_is_fair(code: str) -> None:
    assert is_fair(code, None)


def test_the_child_that_runs_a_program_has_forgotten_the_row() -> None:
    item = {"reference_answer": "18"}
    assert in_child(lambda: len(item), 5.0) == 1
    assert in_child(lambda: len(item), 5.0, (item,)) == 0
    assert item == {"reference_answer": "18"}


def test_a_program_may_not_run_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program_answer, "SECONDS", 0.2)
    for loop in ("while True: pass", "while True:\n    try:\n        while True: pass\n    except BaseException: pass"):
        assert gallery_value(program_answer.grade, loop, "18") == 0.0


TESTS = ["assert add(1, 2) == 3", "assert add(-1, 1) == 0", "assert abs(add(0.1, 0.2) - 0.3) < 1e-9"]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("```python\ndef add(a, b):\n    return a + b\n```", 1.0),
        ("def add(a, b):\n    return 3", 1 / 3),
        ("def add(a, b):\n    return b + 2 if a < 0 else a + b", 2 / 3),
        ("def sub(a, b):\n    return a - b", 0.0),
        ("import os\nos._exit(0)", 0.0),
        ("import sys\nsys.exit(0)", 0.0),
        ("def add(a, b):\n    raise SystemExit", 0.0),
        ("class Any:\n    def __eq__(self, other): return True\ndef add(a, b): return Any()", 0.0),
        ("class Any:\n    def __sub__(self, other): return 0\ndef add(a, b): return Any()", 0.0),
        ("abs = lambda x: 0\ndef add(a, b): return 9", 0.0),
        ("import io\nfor fd in range(3, 30):\n    try: io.FileIO(fd, 'w').write(b'true')\n    except OSError: pass", 0.0),
        ("import posix\nposix._exit(0)", 0.0),
        ("__same__ = lambda a, b: True\ndef add(a, b): return 9", 0.0),
        ("def add(a, b):\n    import inspect\n    return inspect.stack()", 0.0),
        ("assert False", 0.0),
        ("", 0.0),
    ],
)
def test_unit_tests(code: str, expected: float) -> None:
    assert gallery_value(unit_tests.grade, code, None, tests=TESTS) == pytest.approx(expected)


def test_unit_tests_take_one_text_with_helpers_and_a_check_function(monkeypatch: pytest.MonkeyPatch) -> None:
    tests = "import math\ndef check(f):\n    assert f(4) == 2\n    assert f(9) == 3\ncheck(root)\nassert root(math.pow(2, 2)) == 2\n"
    right = "def root(x):\n    return int(x ** 0.5)"
    assert gallery_value(unit_tests.grade, right, None, tests=tests) == 1.0
    half = "def root(x):\n    return 2"
    assert gallery_value(unit_tests.grade, half, None, tests=tests) == 0.5
    monkeypatch.setattr(unit_tests, "ALL_OR_NOTHING", True)
    assert gallery_value(unit_tests.grade, half, None, tests=tests) == 0.0
    with pytest.raises(ValueError, match=r"item\['tests'\] has no assert and no call"):
        gallery_value(unit_tests.grade, right, None, tests="x = 1")
