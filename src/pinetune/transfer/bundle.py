"""A finished job as one folder or .zip that says all about itself and opens with plain transformers.

README.md            the model card, in Hugging Face's form; also in model/ and adapter/, which can be uploaded as they are
model/  adapter/     merged weights; under LoRA the adapter too
job.json  grader.json  provenance.json      what was asked; hashes of data and grader, versions, seed
training/            config.json, metrics.jsonl, events.jsonl, checkpoints.json, results.csv
evidence/            summary.json and held_out.json with intervals, report.html (quotes held-out rows) and its charts
bundle.json          size and sha256 of every file, written last
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pinetune.errors import UserError
from pinetune.transfer.card import model_card
from pinetune.transfer.sources import Subject, as_json

MANIFEST = "bundle.json"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can say: the same bundle is the same bytes
NOT_OURS = ("published.json", "README.md")  # the store's own list of files; a card with blanks that peft puts beside an adapter
Merge = Callable[[Path, Path], None]


def write_bundle(subject: Subject, out: Path, *, with_report: bool = True, merge: Merge | None = None) -> Path:
    """Write the bundle to `out`, a new folder or a .zip; it appears whole or not at all. Raises UserError when `out` exists.

    `with_report` False leaves out report.html, which quotes held-out rows. `merge(adapter, folder)` writes the merged
    weights where only the adapter is at hand; None = the bundle then has the adapter alone.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists; choose another --out, or remove it first")
    out.parent.mkdir(parents=True, exist_ok=True)
    with _beside(out) as folder:
        _fill(subject, folder, with_report, merge)
        _write(folder / MANIFEST, as_json(_manifest(subject, folder)))
        if out.suffix.lower() == ".zip":
            packed = folder.with_name(folder.name + ".zip")
            try:
                _zip(folder, packed)
                packed.replace(out)
            finally:
                packed.unlink(missing_ok=True)
        else:
            if out.exists():
                out.rmdir()
            folder.replace(out)
    return out


def _fill(subject: Subject, folder: Path, with_report: bool, merge: Merge | None) -> None:
    card = model_card(subject)
    texts = {
        "README.md": card,
        "job.json": as_json({"id": subject.id, "status": subject.status, "model_name": subject.name, "seed": subject.seed, **subject.body}),
        "provenance.json": as_json(subject.provenance),
        "training/config.json": as_json(subject.config),
        "training/metrics.jsonl": _lines(subject.metrics),
        "training/events.jsonl": _lines(subject.events),
        "training/checkpoints.json": as_json(subject.checkpoints),
    }
    if subject.grader is not None:
        texts["grader.json"] = as_json(subject.grader)
    if subject.summary is not None:
        texts["evidence/summary.json"] = as_json(subject.summary)
    if subject.held_out:
        texts["evidence/held_out.json"] = as_json(subject.held_out)
    if with_report and subject.report is not None:
        texts["evidence/report.html"] = subject.report.read_text(encoding="utf-8", errors="replace")
    for name, text in texts.items():
        _write(folder / name, subject.plain(text))
    for name, content in subject.results.items():
        (folder / "training" / name).write_bytes(content)
    for chart in subject.charts if with_report else ():
        (folder / "evidence" / "report").mkdir(exist_ok=True)
        shutil.copyfile(chart, folder / "evidence" / "report" / chart.name)
    _weights(subject, folder, card, merge)


def _weights(subject: Subject, folder: Path, card: str, merge: Merge | None) -> None:
    model, adapter = folder / "model", folder / "adapter"
    if subject.adapter is not None:
        _copy(subject.adapter, adapter)
        _name_base(adapter / "adapter_config.json", subject.model)
        _write(adapter / "README.md", card)
    if subject.weights is not None:
        _copy(subject.weights, model)
    elif subject.adapter is not None and merge is not None:
        merge(subject.adapter, model)
    if model.is_dir():
        _write(model / "README.md", card)


def _name_base(config: Path, base: str) -> None:
    """peft writes where the base was on this machine; what others need is its name."""
    found = json.loads(config.read_text())
    if Path(str(found.get("base_model_name_or_path"))).exists():
        found["base_model_name_or_path"] = base
        _write(config, as_json(found))


def merge_adapter(adapter: Path, folder: Path) -> None:
    """Write base and adapter as plain weights. Loads torch. Raises ModelError when the base cannot be opened."""
    from pinetune.models.export import save_merged
    from pinetune.models.load import load_model

    save_merged(load_model(adapter, device="cpu"), folder)


def _manifest(subject: Subject, folder: Path) -> dict[str, object]:
    described = {}
    for path in _files(folder):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        described[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": digest}
    return {"format": 1, "job": subject.id, "files": described}


def _zip(folder: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w") as packed:
        for path in _files(folder):
            info = zipfile.ZipInfo(path.relative_to(folder).as_posix(), EPOCH)
            info.compress_type = zipfile.ZIP_STORED if path.suffix in (".safetensors", ".png") else zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            with path.open("rb") as source, packed.open(info, "w", force_zip64=True) as file:
                shutil.copyfileobj(source, file, 1 << 20)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _copy(source: Path, target: Path) -> None:
    """Copied, not linked: whoever edits the bundle must not change the store."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*NOT_OURS))


def _lines(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(json.loads(as_json(row)), ensure_ascii=False) + "\n" for row in rows)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8", "replace"))


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    folder = out.with_name(f".{out.name}.{os.getpid()}.partial")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
