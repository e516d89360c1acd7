"""Names exchanged at random among themselves in a prompt and an answer, so that a reranker can learn none of them by heart.

What is left is how an answer follows from what was said before it. A reranker that was trained so also scores so: of several renamings of
an answer the mean.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pinetune.records import Row


class Renaming:
    """`names`: two or more. A name is found where it stands alone, the longest that fits."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = sorted(set(names))
        longest_first = sorted(self.names, key=len, reverse=True)
        self._found = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest_first))})(?![\w-])")

    def __call__(self, row: Row, reasoning: str, answer: str, order: random.Random) -> tuple[Row, str, str]:
        """All three with the same names exchanged; `row` in its messages only."""
        drawn = dict(zip(self.names, order.sample(self.names, len(self.names)), strict=True))

        def renamed(text: Any) -> Any:
            return self._found.sub(lambda found: drawn[found.group()], text) if isinstance(text, str) else text

        messages = tuple({**message, "content": renamed(message.get("content"))} for message in row.messages)
        return replace(row, messages=messages), renamed(reasoning), renamed(answer)
