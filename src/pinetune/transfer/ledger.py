"""Which jobs, evals and runs came over whole, so that an import that goes on need not ask for their parts again.

Only a shortcut: a line counts where the store has the object, and without the file everything is asked for again and changes nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path


class Ledger:
    """HOME/imports/<endpoint>.txt, an id a line; a torn last line is no id that anything has."""

    def __init__(self, home: Path, endpoint: str) -> None:
        digest = hashlib.sha256(endpoint.encode()).hexdigest()[:8]
        readable = re.sub(r"[^A-Za-z0-9]+", "-", endpoint.split("://", 1)[-1])[:60].strip("-")
        self.path = home / "imports" / f"{readable}-{digest}.txt"
        self._ids = set(self.path.read_text().splitlines()) if self.path.exists() else set()

    def __contains__(self, id: str) -> bool:
        return id in self._ids

    def add(self, id: str) -> None:
        if id in self._ids:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write(f"\n{id}\n".encode())  # a line break first: what a kill left of the last line stays alone
            file.flush()
            os.fsync(file.fileno())
        self._ids.add(id)
