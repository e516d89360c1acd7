"""Judges that the operator's aliases name (`pinetune models alias`): models of the store, answering where a local judge answers.

One map for the models that scripts name and for the judges that graders name, read anew every few seconds, so that a running
service knows a new alias.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pinetune.errors import NotFound, StoreError
from pinetune.settings import Settings

if TYPE_CHECKING:
    from pinetune.store.store import Store

SECONDS = 2.0  # how long an alias is believed
PATIENCE_SECONDS = 60.0  # with a store that cannot be read: a database that starts again must not fail a job
RETRY_SECONDS = 0.5
SQLITE = "sqlite:///"


class Registered:
    """Aliases and the places of the models behind them. Used from many threads; nothing is read before the first judge is asked for."""

    def __init__(
        self, aliases: Callable[[], Mapping[str, str]], place: Callable[[str], str | None], *, seconds: float = 0.0, patience: float = 0.0
    ) -> None:
        """`aliases`: name -> model id, believed for `seconds`. `place`: model id -> folder or hub id, None for what is not registered.

        `patience`: seconds for which the first look is tried again.
        """
        self._aliases, self._place, self._seconds, self._patience = aliases, place, seconds, patience
        self._lock = threading.Lock()
        self._known: Mapping[str, str] | None = None
        self._until = 0.0

    @classmethod
    def of(cls, settings: Settings) -> Registered | None:
        """Those of the store that `settings` name; None where there is no store yet, and none is made."""
        url = settings.database_url
        if url.startswith(SQLITE) and not Path(url.removeprefix(SQLITE)).is_file():
            return None
        opened = _Opened(settings)
        return cls(opened.aliases, opened.place, seconds=SECONDS, patience=PATIENCE_SECONDS)

    def target(self, name: str) -> str | None:
        """The id of the model that the alias `name` stands for. Raises StoreError where the store could never be read."""
        with self._lock:
            if self._known is None:
                self._known = self._first_look()
                self._until = time.monotonic() + self._seconds
            elif time.monotonic() > self._until:
                with suppress(StoreError):  # what was known holds until the store is back
                    self._known = self._aliases()
                self._until = time.monotonic() + self._seconds
            return self._known.get(name)

    def _first_look(self) -> Mapping[str, str]:
        give_up = time.monotonic() + self._patience
        while True:
            try:
                return self._aliases()
            except StoreError:
                if time.monotonic() >= give_up:
                    raise
                time.sleep(RETRY_SECONDS)

    def place(self, id: str) -> str | None:
        """Folder or hub id of the model `id`, None for one that is not registered. Raises StoreError."""
        return self._place(id)


class _Opened:
    """The store, opened for one look at a time: a job's process keeps no connection while it trains. Nothing is migrated here."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def aliases(self) -> Mapping[str, str]:
        with self._store() as store:
            return store.models.aliases()

    def place(self, id: str) -> str | None:
        with self._store() as store:
            try:
                return str(store.folders.path(store.models.get(id).location))
            except NotFound:
                return None

    def _store(self) -> Store:
        from pinetune.store.blobs import Blobs
        from pinetune.store.database import Database
        from pinetune.store.store import Store

        database = Database(self._settings.database_url, self._settings.busy_seconds)
        return Store(database, Blobs(self._settings.files_url, self._settings.home / "cache"), self._settings)
