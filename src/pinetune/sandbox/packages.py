"""What the hosted product's python graders may import, what each needs here, and what a source imports.

A grader sees the packages of the interpreter that runs Pinetune. Most of the hosted image's are in the extra `graders`;
three large ones that few graders use are installed by name.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
from dataclasses import dataclass

EXTRA = "pip install 'pinetune[graders]'"


@dataclass(frozen=True, slots=True)
class Package:
    """A package of the hosted image: what a source imports, what a person installs."""

    module: str
    name: str
    command: str = EXTRA

    def installed(self) -> bool:
        return importlib.util.find_spec(self.module) is not None

    def advice(self) -> str:
        return f"{self.module} is not installed; install it with `{self.command}`"


# In the order of the hosted image's list.
PACKAGES: dict[str, Package] = {
    package.module: package
    for package in (
        Package("numpy", "numpy"),
        Package("scipy", "scipy"),
        Package("sympy", "sympy"),
        Package("pandas", "pandas"),
        Package("rapidfuzz", "rapidfuzz"),
        Package("sklearn", "scikit-learn"),
        Package("rouge_score", "rouge-score"),
        Package("deepdiff", "deepdiff"),
        Package("jsonschema", "jsonschema"),
        Package("pydantic", "pydantic"),
        Package("yaml", "pyyaml"),
        Package("nltk", "nltk"),
        Package("sqlparse", "sqlparse"),
        Package("rdkit", "rdkit", "pip install rdkit"),
        Package("skbio", "scikit-bio", "pip install scikit-bio"),
        Package("ast_grep_py", "ast-grep-py", "pip install ast-grep-py"),
    )
}

LATER_OR_NEVER = (ast.FunctionDef, ast.AsyncFunctionDef, ast.If, ast.For, ast.While, ast.Match)
FORGIVING = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module of a source. `certain`: loading the source cannot get past it if it is absent."""

    module: str  # dotted, as far as it is a module for sure: `from a.b import c` gives a.b
    line: int
    certain: bool


def imports_of(tree: ast.Module) -> list[Import]:
    """All imports of a source, also those inside functions, in the order of the text."""
    found: list[Import] = []
    todo: list[tuple[ast.AST, bool]] = [(tree, True)]
    while todo:  # a stack, since a long chain of elif nests deeper than Python may recurse
        node, certain = todo.pop()
        if isinstance(node, ast.Import):
            found += [Import(name.name, node.lineno, certain) for name in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.append(Import(node.module, node.lineno, certain))
        certain = certain and not isinstance(node, LATER_OR_NEVER) and not _forgives(node)
        todo += [
            (child, certain) for child in ast.iter_child_nodes(node) if isinstance(child, (ast.stmt, ast.excepthandler, ast.match_case))
        ]
    return sorted(found, key=lambda one: one.line)


def missing(tree: ast.Module) -> Import | None:
    """The first import of a package of PACKAGES that is absent here and without which the source cannot load."""
    known = (found for found in imports_of(tree) if found.certain and found.module.partition(".")[0] in PACKAGES)
    return next((found for found in known if not PACKAGES[found.module.partition(".")[0]].installed()), None)


def early_imports(source: str) -> list[str]:
    """Modules worth loading before any call: of the standard library or PACKAGES, but imported inside a function only.

    Each call runs in a fresh child of the warm interpreter: without this, each would import them again.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []  # loading it will say what is wrong
    roots = sys.stdlib_module_names | PACKAGES.keys()
    quiet = roots - {"antigravity", "this", "idlelib", "turtledemo", "__main__"}  # these do something when imported
    return list(dict.fromkeys(i.module for i in imports_of(tree) if not i.certain and i.module.partition(".")[0] in quiet))


def _forgives(node: ast.AST) -> bool:
    """A `try` that goes on when an import fails, or a `with` (contextlib.suppress)."""
    if isinstance(node, (ast.With, ast.AsyncWith)):
        return True
    if not isinstance(node, (ast.Try, ast.TryStar)):
        return False
    caught = [name.id for handler in node.handlers if handler.type for name in ast.walk(handler.type) if isinstance(name, ast.Name)]
    return any(handler.type is None for handler in node.handlers) or not FORGIVING.isdisjoint(caught)


# What the hosted image holds of NLTK's data (punkt_tab is what newer NLTK versions read in place of punkt).
CORPORA = {
    "punkt": "tokenizers",
    "punkt_tab": "tokenizers",
    "stopwords": "corpora",
    "wordnet": "corpora",
    "omw-1.4": "corpora",
    "names": "corpora",
}


def missing_corpora() -> list[str]:
    """NLTK data that a confined grader would not find: it sees the interpreter's folder and /usr, no home folder."""
    roots = [f"{sys.prefix}/nltk_data", f"{sys.prefix}/share/nltk_data", f"{sys.prefix}/lib/nltk_data"]
    roots += ["/usr/share/nltk_data", "/usr/local/share/nltk_data", "/usr/lib/nltk_data", "/usr/local/lib/nltk_data"]
    places = {name: [f"{root}/{kind}/{name}{end}" for root in roots for end in ("", ".zip")] for name, kind in CORPORA.items()}
    return [name for name, paths in places.items() if not any(os.path.exists(path) for path in paths)]


def corpora_command() -> str:
    return f"{sys.executable} -m nltk.downloader -d {sys.prefix}/nltk_data {' '.join(CORPORA)}"
