"""What the sampling loop asks of a model: read prompts once, fork them into rows, advance every row by one token.

A Decoder holds weights; a Session holds the key-value memory of one `sample()` call. Rows are kept in an order that
both sides know: `fork` appends rows, `keep` drops and reorders them, and row r of every tensor is row r of that order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class SessionSize:
    """Upper bounds that a session may allocate for."""

    rows: int  # rows alive at once
    groups: int  # prompts alive at once
    width: int  # rows alive at once of one prompt
    prompt_tokens: int  # longest prompt
    new_tokens: int  # longest completion


class Session(Protocol):
    def open(self, prompts: Sequence[Sequence[int]]) -> tuple[list[int], Tensor]:
        """Read the prompts; return a key for each and the logits that follow it [prompts, vocabulary]."""
        ...

    def fork(self, key: int, count: int) -> None:
        """Append `count` rows that continue the prompt `key`."""
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Only these rows, given by their present positions, go on, in this order."""
        ...

    def close(self, key: int) -> None:
        """No more rows will be forked from this prompt and none is alive: free its memory."""
        ...

    def settle(self) -> None:
        """No more rows are to come: a good moment to move the live ones together."""
        ...

    def decode(self, tokens: Tensor) -> Tensor:
        """Append tokens[r] to row r; return the logits that follow [rows, vocabulary], float32. May be overwritten by the next call."""
        ...


class Decoder(Protocol):
    def session(self, max_tokens: int) -> Session:
        """Memory for sequences (prompt and completion) of at most `max_tokens`."""
        ...

    def refresh(self) -> None:
        """Take over the model's present weights."""
        ...
