"""The light half stays light: help, wire and config load no torch (each checked in a process of its own)."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "peft", "ray", "polars", "matplotlib", "scipy", "openai", "sqlalchemy", "nltk", "sacrebleu", "httpx")


@pytest.mark.parametrize(
    "code", ["import pinetune.cli.main", "import pinetune.wire.fine_tuning, pinetune.wire.graders", "import pinetune.graders.build"]
)
def test_import_loads_nothing_heavy(code: str) -> None:
    program = f"{code}\nimport sys\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys\nfrom pinetune.cli.main import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip().endswith("[]"), done.stderr
    assert "run" in done.stdout
