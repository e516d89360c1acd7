"""The store as one object: open it once in a program, hand it down."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pinetune.errors import StoreError
from pinetune.settings import Settings
from pinetune.store.blobs import Blobs
from pinetune.store.checkpoints import Checkpoints
from pinetune.store.database import Database
from pinetune.store.eval_runs import EvalRuns
from pinetune.store.evals import Evals
from pinetune.store.events import Events
from pinetune.store.files import Files
from pinetune.store.folders import Folders
from pinetune.store.imports import Imports
from pinetune.store.jobs import Jobs
from pinetune.store.leases import Leases
from pinetune.store.migrate import upgrade
from pinetune.store.models import Models
from pinetune.store.projects import Keys, Projects
from pinetune.store.replies import Replies
from pinetune.store.uploads import Uploads
from pinetune.store.webhooks import Webhooks


class Store:
    """Everything that is kept, one repository a resource. Threads share a store; each process opens its own."""

    def __init__(self, database: Database, blobs: Blobs, settings: Settings) -> None:
        self.database = database
        self.settings = settings
        self.projects = Projects(database)
        self.keys = Keys(database)
        self.files = Files(database, blobs)
        self.jobs = Jobs(database, settings.organization)
        self.leases = Leases(database)
        self.events = Events(database)
        self.checkpoints = Checkpoints(database, settings.organization)
        self.models = Models(database, settings.model_aliases)
        self.folders = Folders(blobs)
        self.uploads = Uploads(database, blobs)
        self.replies = Replies(database)
        self.evals = Evals(database)
        self.eval_runs = EvalRuns(database)
        self.webhooks = Webhooks(database)
        self.imports = Imports(database, blobs)

    @classmethod
    def open(cls, settings: Settings, *, now: Callable[[], float] = time.time, filesystem: Any = None) -> Store:
        """Open the store of `settings`, made or brought to this version first. Raises StoreError with what to do.

        `now` is the clock of all times and leases; `filesystem` an fsspec filesystem in the place of the URL's (tests).
        """
        try:
            settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)  # datasets and graders' headers are its owner's alone
        except OSError as error:
            raise StoreError(f"{settings.home}: cannot make the home folder ({error}); set PINETUNE_HOME or --home") from error
        database = Database(settings.database_url, settings.busy_seconds, now)
        try:
            upgrade(database)
            blobs = Blobs(settings.files_url, Path(settings.home) / "cache", filesystem)
            store = cls(database, blobs, settings)
            store.projects.ensure_default()
        except BaseException:
            database.close()
            raise
        return store

    def abandon(self, worker: str) -> None:
        """Give back at once what `worker` holds, jobs and runs of evals: its process is known to be dead."""
        self.leases.abandon(worker)
        self.eval_runs.abandon(worker)

    def sweep(self) -> int:
        """Housekeeping, safe at any time from any process (hourly is enough): expired files and uploads, leftovers of killed writers
        and deleted weights. How many things went. Lost leases are `leases.expire` and `eval_runs.expire`, every few seconds.
        """
        swept = self.uploads.sweep() + self.files.sweep()
        return swept + self.folders.sweep(self.models.locations(), self.database.now(), owners=self.jobs.open_ids())

    def close(self) -> None:
        self.database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
