"""Events by level: what the API lists as a job's warnings."""

from __future__ import annotations

from collections.abc import Callable

from pinetune.store import NewEvent, NewJob, Store


def test_only_the_levels_asked_for(store: Store, new_job: Callable[..., NewJob]) -> None:
    job = store.jobs.create(new_job())
    store.events.append(job.id, [NewEvent("one", "warn"), NewEvent("two"), NewEvent("three", "error"), NewEvent("four", "warn")])
    first = store.events.list(job.id, levels=("warn", "error"), limit=2)
    assert ([event.message for event in first.items], first.has_more) == (["four", "three"], True)
    rest = store.events.list(job.id, levels=("warn", "error"), after=first.items[-1].id)
    assert ([event.message for event in rest.items], rest.has_more) == (["one"], False)
    assert store.events.count() == 6  # with the two of its creation
