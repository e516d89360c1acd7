"""Memory in this process: the default where no database is given. The oldest records go when it is full."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from pinetune.serving.directory import Kind

MOST = 10_000  # records of one kind and project


class ProcessMemory:
    """See directory.Memory."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self._records: dict[tuple[Kind, str], dict[str, dict[str, Any]]] = {}

    def save(self, kind: Kind, record: Mapping[str, Any], project: str = "") -> None:
        records = self._records.setdefault((kind, project), {})
        records[record["id"]] = copy.deepcopy(dict(record))
        while len(records) > self.most:
            del records[next(iter(records))]

    def get(self, kind: Kind, record_id: str, project: str = "") -> dict[str, Any] | None:
        return copy.deepcopy(self._records.get((kind, project), {}).get(record_id))

    def list(self, kind: Kind, project: str = "") -> Sequence[dict[str, Any]]:
        return [copy.deepcopy(record) for record in self._records.get((kind, project), {}).values()]

    def delete(self, kind: Kind, record_id: str, project: str = "") -> bool:
        return self._records.get((kind, project), {}).pop(record_id, None) is not None
