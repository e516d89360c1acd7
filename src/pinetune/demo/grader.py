"""The demo's grader as an OpenAI definition: the text of `gene_grader.py` as a python grader."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def gene_grader_definition() -> dict[str, Any]:
    """A `python` grader for ranked gene lists; its source is known to the sandbox, so it needs no system package."""
    return {"type": "python", "name": "gene_ranking", "source": Path(__file__).with_name("gene_grader.py").read_text(encoding="utf-8")}
