"""The text and bytes of single tokens, for log-probs: a token may be half a character."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any


def spelling(tokenizer: Any) -> Callable[[int], tuple[str, list[int]]]:
    """A function from a token id to its text and its UTF-8 bytes. Byte-level tokenizers give the very bytes."""
    bytes_of = _byte_table()
    added = set(tokenizer.added_tokens_decoder)
    byte_level = "ByteLevel" in type(getattr(tokenizer.backend_tokenizer, "decoder", None)).__name__

    def spell(token: int) -> tuple[str, list[int]]:
        if byte_level and token not in added:
            word = tokenizer.convert_ids_to_tokens(token) or ""
            if all(char in bytes_of for char in word):
                raw = bytes(bytes_of[char] for char in word)
                return raw.decode("utf-8", errors="replace"), list(raw)
        text = str(tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False))
        return text, list(text.encode())

    return spell


@lru_cache
def _byte_table() -> dict[str, int]:
    """GPT-2's printable character for each byte, inverted (Radford et al. 2019, `bytes_to_unicode`)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("\xa1"), ord("\xac") + 1), *range(ord("\xae"), ord("\xff") + 1)]
    table = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in set(printable)]
    table.update({chr(256 + i): byte for i, byte in enumerate(others)})
    return table
