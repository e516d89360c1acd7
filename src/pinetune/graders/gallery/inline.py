"""A gallery file to one source that stands alone: its settings filled in, and what it imports of the snippets put in.

The files are ordinary modules, so that tests, types and readers see them; the hosted product takes one text.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
PREFIX = "pinetune.graders.gallery."


@dataclass(frozen=True, slots=True)
class Setting:
    """A constant at the top of a gallery file: `DECAY = 0.7  # what each place ...`."""

    name: str
    default: Any
    help: str


def settings_of(kind: str) -> dict[str, Setting]:
    """Settings by their lower-case name, in the file's order: the commented constants at its top."""
    text = _text(kind)
    lines = text.splitlines()
    found = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and "  # " in lines[node.lineno - 1]:
            name = node.targets[0].id
            found[name.lower()] = Setting(name, ast.literal_eval(node.value), lines[node.lineno - 1].split("  # ", 1)[1])
    return found


def summary_of(kind: str) -> str:
    """The first sentence of the file's docstring."""
    said = ast.get_docstring(ast.parse(_text(kind))) or ""
    return " ".join(said.split("\n\n")[0].split())


def source_of(kind: str, values: Mapping[str, Any]) -> str:
    """The kind's grader as one source. `values`: lower-case setting -> value, checked by the caller."""
    text = _text(kind)
    for name, setting in settings_of(kind).items():
        if name in values:
            pattern = rf"^{setting.name} = .*?  # "
            text = re.sub(pattern, lambda _, s=setting, v=values[name]: f"{s.name} = {_literal(v)}  # ", text, count=1, flags=re.MULTILINE)  # type: ignore[misc]
    imports, snippets, body = _split(text)
    head = f"{_docstring(text, kind)}\n\n" + "\n".join(imports)
    made = "\n\n\n".join([f"{head}\n\n{body.strip()}", *snippets]).rstrip() + "\n"
    return re.sub(r"  # (type: ignore\[[\w-]+\]|fmt: skip)$", "", made, flags=re.MULTILINE)


def _literal(value: Any) -> str:
    """A text in double quotes, as the rest of the source has them; JSON's escapes are Python's."""
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _docstring(text: str, kind: str) -> str:
    said = ast.get_docstring(ast.parse(text), clean=False) or ""
    return f'"""{said.rstrip()}\n\nMade by `pinetune grader new {kind}`.\n"""'.replace("\\", "\\\\")


def _split(text: str) -> tuple[list[str], list[str], str]:
    """(import lines, snippets needed, the rest without docstring and imports)."""
    tree = ast.parse(text)
    lines = text.splitlines()
    imports: set[str] = set()
    wanted: dict[str, list[str]] = {}
    last = 0
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PREFIX):
            wanted.setdefault((node.module or "").removeprefix(PREFIX), []).extend(name.name for name in node.names)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            imports.add(ast.unparse(node))
        elif not (isinstance(node, ast.Expr) and node is tree.body[0]):
            break
        last = node.end_lineno or last
    snippets = []
    for module, names in wanted.items():
        more, code = _needed(module, names)
        imports |= more
        snippets.append(code)
    return sorted(imports, key=lambda line: (line.startswith("from"), line)), snippets, "\n".join(lines[last:])


def _needed(module: str, names: list[str]) -> tuple[set[str], str]:
    """The snippet's definitions that `names` use, straight or through others, and the imports those use."""
    text = _text(module)
    lines = text.splitlines()
    definitions: dict[str, ast.stmt] = {}
    imports: dict[str, str] = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            definitions[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            definitions[node.targets[0].id] = node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                alone = ast.Import([alias]) if isinstance(node, ast.Import) else ast.ImportFrom(node.module, [alias], 0)
                imports[alias.asname or alias.name] = ast.unparse(alone)
    used: set[str] = set()
    queue = list(names)
    while queue:
        name = queue.pop()
        if name not in used:
            used.add(name)
            queue += [n.id for n in ast.walk(definitions[name]) if isinstance(n, ast.Name)] if name in definitions else []
    kept = [node for name, node in definitions.items() if name in used]
    blocks = ["\n".join(lines[node.lineno - 1 : node.end_lineno]) for node in kept]
    joined = ""
    for node, block in zip(kept, blocks, strict=True):
        joined += ("\n\n\n" if isinstance(node, ast.FunctionDef) else "\n") * bool(joined) + block
    return {line for name, line in imports.items() if name in used}, joined


def _text(name: str) -> str:
    return (FOLDER / f"{name}.py").read_text(encoding="utf-8")
