"""What a service keeps: files, jobs, events, checkpoints, models. The only SQL in the package.

    with Store.open(Settings.read()) as store:
        file = store.files.create("proj_default", "fine-tune", "train.jsonl", content)

Everything given out is a frozen record from `rows`; everything that can go wrong is an error from `pinetune.errors`:
NotFound, MoveRefused, LeaseLost, TooLarge, StoreBusy, StoreFull, StoreError.
"""

from pinetune.store.projects import DEFAULT_PROJECT
from pinetune.store.rows import Job, Lease, NewEvent, NewJob, NewModel, NewOutputItem, Page
from pinetune.store.states import FINAL, OPEN, STATES
from pinetune.store.store import Store

__all__ = ["DEFAULT_PROJECT", "FINAL", "OPEN", "STATES", "Job", "Lease", "NewEvent", "NewJob", "NewModel", "NewOutputItem", "Page", "Store"]
