"""The house: each folder is one room; a room imports only rooms on lower lines. Rooms on one line do not see each other."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "pinetune"
LAYERS = """
__main__
cli
demo serving api worker transfer
preflight
loop
reports
evals
rollout bench reading
judges
graders sampling training
models sandbox store
data runs
wire
settings
records
errors
__init__
"""
HEAVY = {
    "torch": {"models", "sampling", "training", "loop", "demo"},
    "transformers": {"models", "sampling", "training", "loop", "demo"},
    "peft": {"models", "training"},
    "matplotlib": {"reports"},
    "sqlalchemy": {"store"},
    "alembic": {"store"},
    "fsspec": {"store"},
    "openai": {"judges", "evals", "transfer"},
    "fastapi": {"api", "serving"},
    "starlette": {"api", "serving"},
    "uvicorn": {"cli"},
    "python_multipart": {"api"},
    "prometheus_client": {"api"},
    "nltk": {"graders"},
    "sacrebleu": {"graders"},
    "rouge_score": {"graders"},
    "typer": {"cli", "demo"},
}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, name.name) for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: use absolute imports"
            if node.module == "pinetune":
                found += [(node.lineno, f"pinetune.{name.name}") for name in node.names]
            elif node.module:
                found.append((node.lineno, node.module))
    return found


def test_rooms_import_downward_only() -> None:
    depth = {room: i for i, line in enumerate(LAYERS.splitlines()) for room in line.split()}
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        here = room_of(path)
        for line, name in imports(path):
            if not name.startswith("pinetune"):
                continue
            there = name.split(".")[1] if "." in name else "__init__"
            there = there if there in depth else "__init__"
            if there != here and depth[there] <= depth[here]:
                wrong.append(f"{path.relative_to(PACKAGE)}:{line}: {here} -> {there}")
    assert wrong == []


def test_heavy_packages_stay_in_their_rooms() -> None:
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for line, name in imports(path):
            allowed = HEAVY.get(name.split(".")[0])
            if allowed is not None and room_of(path) not in allowed:
                wrong.append(f"{path.relative_to(PACKAGE)}:{line}: {name} in {room_of(path)}")
    assert wrong == []
