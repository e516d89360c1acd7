"""All output items of a stored run, page by page."""

from __future__ import annotations

from collections.abc import Iterator

from pinetune.store import Store
from pinetune.store.rows import OutputItem

PAGE = 500


def items_of(store: Store, run_id: str) -> Iterator[OutputItem]:
    """In the order of their rows."""
    after = None
    while True:
        page = store.eval_runs.items(run_id, after=after, limit=PAGE)
        yield from page.items
        if not page.has_more:
            return
        after = page.items[-1].id
