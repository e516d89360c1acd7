"""Content first, purpose later: what the API needs for multipart bodies whose file comes before its fields."""

from __future__ import annotations

import pytest

from pinetune.errors import NotFound, TooLarge
from pinetune.store import Store


def test_staged_content_becomes_a_file(store: Store) -> None:
    staged = store.files.stage(b"abc")
    assert store.files.list().items == ()
    file = store.files.keep(staged, "proj_default", "evals", "a.jsonl")
    assert (file.id, file.bytes, file.purpose) == (staged.id, 3, "evals")
    assert b"".join(store.files.chunks(file.id)) == b"abc"


def test_discarded_content_is_gone(store: Store) -> None:
    staged = store.files.stage(b"abc")
    store.files.discard(staged)
    file = store.files.keep(staged, "proj_default", "evals", "a.jsonl")
    with pytest.raises(NotFound):
        b"".join(store.files.chunks(file.id))


def test_too_large_content_is_not_staged(store: Store) -> None:
    with pytest.raises(TooLarge):
        store.files.stage([b"ab", b"cd"], limit=3)
