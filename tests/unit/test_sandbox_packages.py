"""Packages of the hosted image: each imports where installed, each that is absent is named with its install command."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest
from sandbox_attacks import EACH_LEVEL, grader

from pinetune.errors import MissingToolError
from pinetune.graders.build import build_grader
from pinetune.graders.python import check_source
from pinetune.records import Completion, Grade, Row
from pinetune.sandbox.levels import LEVELS
from pinetune.sandbox.limits import Limits
from pinetune.sandbox.packages import EXTRA, PACKAGES, Import, early_imports, imports_of, missing
from pinetune.sandbox.pool import WarmPool

ABSENT = next((module for module in ("rdkit", "skbio", "ast_grep_py") if importlib.util.find_spec(module) is None), "")
needs_an_absent_package = pytest.mark.skipif(not ABSENT, reason="every optional package is installed here")


def graded(source: str) -> Grade:
    built = build_grader({"type": "python", "source": source}, trusted=True)
    try:
        return built.grade(Completion((), (), (), "stop", ""), Row(0, (), {}))
    finally:
        built.close()


USES = {
    "numpy": "numpy.linalg.norm([3.0, 4.0]) / 5",
    "scipy": "__import__('scipy.stats').stats.spearmanr([1, 2, 3], [1, 2, 3]).statistic",
    "sympy": "sympy.simplify('x + x - 2*x + 1')",
    "pandas": "pandas.DataFrame({'a': [0, 1, 2]}).a.mean()",
    "rapidfuzz": "__import__('rapidfuzz.fuzz').fuzz.ratio('abc', 'abc') / 100",
    "sklearn": "__import__('sklearn.metrics').metrics.f1_score([0, 1], [0, 1])",
    "rouge_score": "__import__('rouge_score.rouge_scorer').rouge_scorer.RougeScorer(['rougeL']).score('a b', 'a b')['rougeL'].fmeasure",
    "deepdiff": "not deepdiff.DeepDiff({'a': 1}, {'a': 1})",
    "jsonschema": "jsonschema.validate({'a': 1}, {'type': 'object'}) is None",
    "pydantic": "pydantic.TypeAdapter(int).validate_python('1')",
    "yaml": "yaml.safe_load('a: 1')['a']",
    "nltk": "nltk.edit_distance('abc', 'abd')",
    "sqlparse": "len(sqlparse.split('select 1'))",
}


def test_each_package_of_the_image_is_known() -> None:
    assert USES.keys() | {"rdkit", "skbio", "ast_grep_py"} == PACKAGES.keys()


@pytest.mark.slow
@pytest.mark.parametrize("level", EACH_LEVEL)
@pytest.mark.parametrize("module", USES)
def test_each_installed_package_works_in_the_sandbox(level: str, module: str) -> None:
    """Under the default limits: two GB of address space, 64 threads."""
    if not PACKAGES[module].installed():
        pytest.skip(PACKAGES[module].advice())
    pool = WarmPool(f"import {module}\ndef grade(sample, item): return {USES[module]}", LEVELS[level], Limits(), size=1)
    try:
        assert pool.call({}, {}).value == 1.0, pool.call({}, {}).error
    finally:
        pool.close()


def test_all_packages_of_the_extra_are_in_the_project_file() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    pins = (Path(__file__).parents[2] / "constraints.txt").read_text().lower().replace("_", "-")
    for package in PACKAGES.values():
        if package.command == EXTRA:
            assert f'"{package.name}' in text, package.name
            assert f"\n{package.name}==" in pins, package.name


@needs_an_absent_package
def test_an_absent_package_at_the_top_is_refused_before_anything_runs() -> None:
    source = f"import json\nfrom {ABSENT}.parts import thing\ndef grade(sample, item): return 1.0"
    with pytest.raises(MissingToolError) as raised:
        check_source(source, "grader.source")
    name = PACKAGES[ABSENT].name
    assert str(raised.value) == f"grader.source: line 2: {ABSENT} is not installed; install it with `pip install {name}`"


@needs_an_absent_package
def test_an_absent_package_in_a_call_is_named_with_the_grade() -> None:
    grade = graded(f"def grade(sample, item):\n    import {ABSENT}\n    return 1.0")
    assert (grade.status, grade.error_kind) == ("error", "python_grader_runtime_error")
    assert grade.explanation.splitlines()[-2:] == [f"ModuleNotFoundError: No module named '{ABSENT}'", PACKAGES[ABSENT].advice()]


@needs_an_absent_package
@pytest.mark.parametrize(
    "head",
    [
        "try:\n    import {0}\nexcept ImportError:\n    {0} = None",
        "try:\n    import {0}\nexcept (ValueError, ModuleNotFoundError):\n    {0} = None",
        "try:\n    import {0}\nexcept:\n    {0} = None",
        "import contextlib\nwith contextlib.suppress(ImportError):\n    import {0}",
        "if False:\n    import {0}",
        "class A:\n    def f(self):\n        import {0}",
    ],
)
def test_a_source_that_can_do_without_is_let_through(head: str) -> None:
    grade = graded(head.format(ABSENT) + "\ndef grade(sample, item): return 0.5")
    assert (grade.status, grade.value) == ("ok", 0.5)


@needs_an_absent_package
def test_an_import_in_a_try_that_forgives_something_else_is_certain() -> None:
    found = missing(ast.parse(f"try:\n    import {ABSENT}.a\nexcept ValueError: pass"))
    assert found == Import(f"{ABSENT}.a", 2, certain=True)


def test_imports_in_the_order_of_the_text() -> None:
    source = "def f():\n    import b.c\n    from . import x\nimport a as q, d\nfrom e.f import g\n"
    assert imports_of(ast.parse(source)) == [
        Import("b.c", 2, certain=False),
        Import("a", 4, certain=True),
        Import("d", 4, certain=True),
        Import("e.f", 5, certain=True),
    ]


def test_a_chain_deeper_than_recursion_is_read() -> None:
    chain = "if x == 0: import a\n" + "".join(f"elif x == {i}: import b\n" for i in range(1, 1200))
    assert len(imports_of(ast.parse(chain))) == 1200


def test_only_known_modules_are_loaded_early() -> None:
    source = (
        "import re\ndef grade(sample, item):\n    import json, my_own\n    from scipy.stats import spearmanr\n"
        "    import antigravity, json\n"
        "    try:\n        import rdkit\n    except ImportError: pass\n    return 1.0"
    )
    assert early_imports(source) == ["json", "scipy.stats", "rdkit"]
    assert early_imports("def grade(:") == []


def test_what_a_call_imports_was_imported_before_it() -> None:
    """Seen from the call: the module's import machinery does not run again."""
    body = "import sys\nloaded = 'colorsys' in sys.modules\nimport colorsys\nreturn loaded + ('wave' in sys.modules)"
    assert graded(grader(body)).value == 1.0
