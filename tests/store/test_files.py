"""Files, uploads and folders: whole or absent, hidden from others, gone when deleted."""

from __future__ import annotations

import errno
import hashlib
import io
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pinetune.errors import MoveRefused, NotFound, PartsWrong, StoreFull, TooLarge
from pinetune.settings import Settings
from pinetune.store import NewJob, NewModel, Store
from tests.store.conftest import Clock

ME = "proj_default"


def blobs(store: Store) -> list[str]:
    """Everything that lies in the files folder."""
    root = Path(store.settings.files_url)
    return sorted(path.name for path in root.rglob("*") if path.is_file())


def test_a_file_comes_back_as_it_went_in(store: Store) -> None:
    content = bytes(range(256)) * 5000
    file = store.files.create(ME, "fine-tune", "../../etc/passwd", io.BytesIO(content), expires_after=3600)
    assert (file.bytes, file.sha256, file.filename) == (1_280_000, hashlib.sha256(content).hexdigest(), "../../etc/passwd")
    assert (file.created_at, file.expires_at, file.status) == (1000.0, 4600.0, "processed")
    assert store.files.get(file.id, ME) == file
    with store.files.open(file.id, ME) as stream:
        assert stream.read() == content
    assert b"".join(store.files.chunks(file.id)) == content
    assert store.files.local_path(file.id).read_bytes() == content
    assert blobs(store) == [file.id]


def test_another_projects_file_does_not_exist(store: Store) -> None:
    other = store.projects.create("other").id
    file = store.files.create(ME, "evals", "a.jsonl", b"x")
    for attempt in (store.files.get, store.files.open, store.files.chunks, store.files.local_path, store.files.delete):
        with pytest.raises(NotFound, match=f"No such file: {file.id}"):
            attempt(file.id, other)
    for id in ("../../etc/passwd", "file-x/../y", "", "file-\x00", "file-" + "x" * 500):
        with pytest.raises(NotFound):
            store.files.get(id)


def test_a_file_too_large_leaves_nothing(store: Store) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 1000

    with pytest.raises(TooLarge, match="larger than 5,000 bytes") as caught:
        store.files.create(ME, "fine-tune", "big.jsonl", endless(), limit=5000)
    assert caught.value.limit == 5000
    assert store.files.create(ME, "fine-tune", "fits.jsonl", [b"x" * 5000], limit=5000).bytes == 5000
    assert len(store.files.list().items) == len(blobs(store)) == 1


def test_a_client_that_vanishes_leaves_nothing(store: Store) -> None:
    def breaks_off() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionResetError("the client went away")

    with pytest.raises(ConnectionResetError):
        store.files.create(ME, "fine-tune", "a.jsonl", breaks_off())
    assert (store.files.list().items, blobs(store)) == ((), [])


def test_lists_by_purpose_and_order_and_deleted_cursors(store: Store) -> None:
    ids = [store.files.create(ME, purpose, "f", b"").id for purpose in ("evals", "fine-tune", "evals", "evals")]
    assert [file.id for file in store.files.list(ME, purpose="evals").items] == [ids[3], ids[2], ids[0]]
    first = store.files.list(ME, limit=2, order="asc")
    assert ([file.id for file in first.items], first.has_more) == (ids[:2], True)
    store.files.delete(ids[1], ME)
    assert [file.id for file in store.files.list(ME, after=ids[1], order="asc").items] == ids[2:]
    assert [file.id for file in store.files.list(ME, order="asc").items] == [ids[0], *ids[2:]]


def test_a_file_in_use_is_not_deleted(store: Store, new_job: Callable[..., NewJob]) -> None:
    valid, test = (store.files.create(ME, "fine-tune", name, b"{}").id for name in ("valid", "test"))
    job = store.jobs.create(new_job(validation_file=valid, test_file=test))
    for file in (job.training_file, valid, test):
        with pytest.raises(MoveRefused, match=rf"job {job.id}, which is validating_files, needs it"):
            store.files.delete(file)
    store.jobs.cancel(job.id)
    for file in (job.training_file, valid, test):
        store.files.delete(file, ME)
    assert (store.files.list().items, blobs(store)) == ((), [])
    with pytest.raises(NotFound, match="No such file"):
        store.jobs.create(new_job())


def test_sweeping_removes_what_expired_and_what_killed_writers_left(store: Store, new_job: Callable[..., NewJob], clock: Clock) -> None:
    clock.time = 2e9  # past the files' own times on this disk
    kept = new_job().training_file
    old = store.files.create(ME, "evals", "old", b"old", expires_after=10)
    used = store.files.create(ME, "fine-tune", "used", b"used", expires_after=10)
    store.jobs.create(new_job(validation_file=used.id))
    root = Path(store.settings.files_url)
    (root / "blobs" / "file-orphan").write_bytes(b"killed between content and row")
    (root / "incoming" / "file-half").write_bytes(b"killed while writing")
    clock.time += 11
    assert store.sweep() == 3
    assert blobs(store) == sorted([kept, used.id])
    assert {file.id for file in store.files.list().items} == {kept, used.id}
    with pytest.raises(NotFound):
        store.files.get(old.id)
    assert store.sweep() == 0


def test_the_store_reads_and_writes_where_a_url_says(settings: Settings, clock: Clock) -> None:
    url = f"memory://{uuid.uuid4().hex}"
    far = Settings.read({}, home=settings.home, database_url=settings.database_url, files_url=url)
    with Store.open(far, now=clock) as store:
        file = store.files.create(ME, "evals", "a", [b"ab", b"cd"])
        with pytest.raises(TooLarge):
            store.files.create(ME, "evals", "a", [b"ab", b"cd"], limit=3)
        assert b"".join(store.files.chunks(file.id)) == b"abcd"
        assert store.files.local_path(file.id).read_bytes() == b"abcd"
        weights = settings.home / "weights"
        (weights / "deep").mkdir(parents=True)
        (weights / "deep" / "a.safetensors").write_bytes(b"123")
        location = store.folders.publish(weights, "step-1")
        copy = store.folders.path(location)
        assert copy != weights and (copy / "deep" / "a.safetensors").read_bytes() == b"123"
        store.folders.remove(location)
        store.files.delete(file.id)
        with pytest.raises(NotFound):
            store.folders.path(location)
        assert not list((settings.home / "cache").rglob("*.safetensors"))


def test_folders_are_linked_whole_and_swept(store: Store, clock: Clock, tmp_path: Path, new_job: Callable[..., NewJob]) -> None:
    weights = tmp_path / "checkpoint"
    weights.mkdir()
    (weights / "adapter.safetensors").write_bytes(b"w" * 1000)
    kept, lost = store.folders.publish(weights, "step-5"), store.folders.publish(weights, "step-5")
    assert kept != lost
    assert (store.folders.path(kept) / "adapter.safetensors").samefile(weights / "adapter.safetensors")
    assert store.folders.path("/somewhere/else") == Path("/somewhere/else")
    store.jobs.create(new_job())
    found = store.leases.claim("w", 60)
    assert found is not None
    store.checkpoints.add(found[1], 5, NewModel("adapter", kept), {})
    clock.time = 2e9
    assert store.sweep() == 1
    assert (store.folders.path(kept) / "adapter.safetensors").exists()
    for gone in (lost, "store:../../etc", "store:"):
        with pytest.raises(NotFound):
            store.folders.path(gone)
    assert (weights / "adapter.safetensors").exists()


def test_a_full_disk_is_said_and_leaves_nothing(settings: Settings, clock: Clock) -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    from fsspec.implementations.memory import MemoryFileSystem

    class FullDisk(MemoryFileSystem):  # type: ignore[misc]
        """A file system without room."""

        store: dict[str, object] = {}  # noqa: RUF012
        full = True

        def open(self, path: str, mode: str = "rb", **options: object) -> io.BytesIO:
            if "w" in mode and self.full:
                super().open(path, mode).close()
                return Full()
            return super().open(path, mode, **options)  # type: ignore[no-any-return]

    disk = FullDisk()
    with Store.open(settings, now=clock, filesystem=disk) as store:
        with pytest.raises(StoreFull, match="disk that holds the files is full; nothing was stored"):
            store.files.create(ME, "fine-tune", "a", b"12345")
        assert (store.files.list().items, disk.find("/")) == ((), [])
        FullDisk.full = False
        assert b"".join(store.files.chunks(store.files.create(ME, "fine-tune", "a", b"12345").id)) == b"12345"


def test_an_upload_joins_its_parts_in_the_order_named(store: Store) -> None:
    upload = store.uploads.create(ME, "big.jsonl", "fine-tune", 10, "text/jsonl", file_expires_after=3600)
    assert (upload.status, upload.expires_at) == ("pending", 4600.0)
    second = store.uploads.add_part(upload.id, b"world", limit=64)
    first = store.uploads.add_part(upload.id, b"hello", limit=64)
    with pytest.raises(TooLarge):
        store.uploads.add_part(upload.id, b"!", limit=64)
    with pytest.raises(PartsWrong, match="hold 5 bytes, and 10 were announced"):
        store.uploads.complete(upload.id, [first.id])
    with pytest.raises(PartsWrong, match="md5"):
        store.uploads.complete(upload.id, [first.id, second.id], md5="0" * 32)
    with pytest.raises(NotFound, match="No such upload part: part_x"):
        store.uploads.complete(upload.id, [first.id, "part_x"])
    done, file = store.uploads.complete(upload.id, [first.id, second.id], md5=hashlib.md5(b"helloworld").hexdigest())
    assert (done.status, done.file_id, file.bytes, file.expires_at) == ("completed", file.id, 10, 4600.0)
    assert b"".join(store.files.chunks(file.id)) == b"helloworld"
    assert blobs(store) == [file.id]
    for attempt in (lambda: store.uploads.cancel(upload.id), lambda: store.uploads.add_part(upload.id, b"", limit=1)):
        with pytest.raises(MoveRefused, match="it is completed, and must be pending"):
            attempt()


def test_cancelled_and_expired_uploads_leave_nothing(store: Store, clock: Clock) -> None:
    gone, late = (store.uploads.create(ME, "a", "fine-tune", 10, "text/jsonl") for _ in range(2))
    for upload in (gone, late):
        store.uploads.add_part(upload.id, b"12345", limit=64)
    assert store.uploads.cancel(gone.id, ME).status == "cancelled"
    clock.time += 3601
    with pytest.raises(MoveRefused, match="it is expired"):
        store.uploads.complete(late.id, [])
    assert blobs(store) == []
    with pytest.raises(NotFound):
        store.uploads.get(gone.id, "proj_other")
