"""What went into a run, in hashes and versions, so that a reader elsewhere can tell whether theirs is the same.

Names of files, never their folders: the record says nothing about the machine it was made on.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("pinetune", "torch", "transformers", "peft", "tokenizers", "llguidance", "numpy")


def provenance(*, model: str, data_files: Mapping[str, str | Path], grader: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """`data_files`: role ("training_file", "validation_file") -> path. Raises FileNotFoundError for a file that is not there."""
    return {
        "model": Path(model).name if Path(model).exists() else model,
        "seed": seed,
        "data_files": {role: describe_file(Path(path)) for role, path in data_files.items()},
        "grader": {"type": grader.get("type"), "name": grader.get("name"), "sha256": json_sha256(grader)},
        "versions": {"python": platform.python_version(), **_versions()},
    }


def describe_file(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": digest}


def json_sha256(value: Any) -> str:
    """Hash of a JSON value that does not depend on key order or white space."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # an optional one
            continue
    return found
