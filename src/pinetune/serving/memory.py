"""Memory in this process: the default where no database is given. The oldest records go when it is full."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from itertools import dropwhile, islice

from pinetune.serving.directory import Kept, KeptPage, Kind, Order

MOST = 10_000  # records of one kind and project


class ProcessMemory:
    """See directory.Memory."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._records: dict[tuple[Kind, str], dict[str, Kept]] = {}

    def save(self, kept: Kept, project: str = "") -> None:
        with self._lock:
            records = self._records.setdefault((kept.kind, project), {})
            records[kept.id] = kept
            while len(records) > self.most:
                del records[next(iter(records))]

    def get(self, kind: Kind, record_id: str, project: str = "") -> Kept | None:
        with self._lock:
            return self._records.get((kind, project), {}).get(record_id)

    def list(
        self,
        kind: Kind,
        project: str = "",
        *,
        model: str | None = None,
        metadata: Mapping[str, str] | None = None,
        after: str | None = None,
        limit: int = 20,
        order: Order = "asc",
    ) -> KeptPage:
        with self._lock:
            records = list(self._records.get((kind, project), {}).values())
        ordered = iter(records if order == "asc" else reversed(records))
        if after is not None:
            ordered = islice(dropwhile(lambda kept: kept.id != after, ordered), 1, None)
        wanted = [kept for kept in ordered if model in (None, kept.model) and (metadata or {}).items() <= (kept.metadata or {}).items()]
        return KeptPage(wanted[:limit], has_more=len(wanted) > limit)

    def delete(self, kind: Kind, record_id: str, project: str = "") -> bool:
        with self._lock:
            return self._records.get((kind, project), {}).pop(record_id, None) is not None
