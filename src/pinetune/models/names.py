"""From the name a user gives to where the weights are: the bundled miniature, a folder, a run folder, or a hub id."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from pinetune.errors import ModelError

MINIATURE = "pinetune-mini"


def find_model(name: str, beside: Path | None = None) -> str:
    """A folder's path, or the name itself where it can only be a hub id (`owner/name`).

    `beside` is the folder relative paths are tried against first (that of the JOB.json).
    """
    if name == MINIATURE:
        return str(files("pinetune") / "demo" / "base")
    for folder in ([beside / name] if beside else []) + [Path(name).expanduser()]:
        if (folder / "config.json").is_file() or (folder / "adapter_config.json").is_file():
            return str(folder)
        if (folder / "model" / "config.json").is_file():  # a run folder
            return str(folder / "model")
        if folder.is_dir():
            raise ModelError(f"{folder}: no config.json in this folder; give a Hugging Face model folder or a finished run folder")
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return name
    raise ModelError(f"{name}: no such model; give a folder, a hub id (owner/name) or {MINIATURE}")
