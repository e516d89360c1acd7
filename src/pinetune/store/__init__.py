"""What a service keeps: files, jobs, events, checkpoints, models, evals. The only SQL in the package.

    with Store.open(Settings.read()) as store:
        file = store.files.create("proj_default", "fine-tune", "train.jsonl", content)

A store is shared by the threads of a process; each process (and each fork) opens its own. Every method is one
transaction: it happened as a whole or not at all. What comes out are frozen records (`rows.py`), times in Unix seconds.
`project=None` sees all projects; with one, another project's things are NotFound.

| repository | users' verbs | workers' verbs (they show a `Lease`) |
|---|---|---|
| `projects` | create, get, list, ensure_default | |
| `keys` | create -> (key, secret), check(secret), list, revoke, any | |
| `files` | create (or stage, then keep or discard), get, list, open, chunks, local_path, delete | set_status |
| `uploads` | create, get, add_part, complete, cancel | |
| `jobs` | create(NewJob), get, list, request_pause, resume, cancel, counts | validated, update, paused, succeed, fail, release |
| `leases` | | claim(worker, seconds) -> (job, lease), renew -> bool, expire, abandon(worker) |
| `events` | list (newest first), since(position), metrics, append(job id, ...) | append(lease, [NewEvent(key=...)]), put_metrics |
| `checkpoints` | list, latest, permit, permissions, forbid | add, drop |
| `models` | register, get, resolve(name or alias), list, delete, set_alias, remove_alias, aliases | |
| `folders` | path(location) | publish(folder, name) -> location, remove |
| `replies` | add, get, update, list, chain, delete (kind "chat.completion" or "response") | |
| `evals` | create, get, list, update, delete | create(job=lease): the job's own |
| `eval_runs` | create, get, list, cancel, delete, items, item | claim, renew, expire, add_items, positions, finish |
| `webhooks` | add, list, get, remove, deliveries | claim, delivered, failed (the sender) |
| `imports` | file, job, checkpoint, eval, run, items: records under their own ids, nothing overwritten | |
| `store.sweep()` | hourly: expired and half-deleted things | |

Errors (`pinetune.errors`): NotFound (404), MoveRefused (400), TooLarge, PartsWrong (400), LeaseLost (stop working),
StoreBusy and StoreFull (503, 507: try again), StoreError.
"""

from pinetune.store.projects import DEFAULT_PROJECT
from pinetune.store.rows import Job, Lease, NewEvent, NewJob, NewModel, NewOutputItem, Page
from pinetune.store.states import FINAL, OPEN, STATES
from pinetune.store.store import Store

__all__ = ["DEFAULT_PROJECT", "FINAL", "OPEN", "STATES", "Job", "Lease", "NewEvent", "NewJob", "NewModel", "NewOutputItem", "Page", "Store"]
