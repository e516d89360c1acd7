"""Importer of GA4GH phenopackets v2 (one JSON file a case; a folder or a zip, as Monarch's phenopacket-store releases).

A packet becomes a row when it names exactly one causative gene and at least one present finding. Every other packet is
skipped with its name and the reason; nothing a packet holds stops the import.
Schema: https://phenopacket-schema.readthedocs.io/en/latest/ (protobuf JSON: camelCase or snake_case, enums as names or numbers).
"""

from __future__ import annotations

import hashlib
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from pinetune.data.compact import NO_FINDINGS, Imported, to_item
from pinetune.data.jsonl import parse_document
from pinetune.errors import DataError

MAX_PACKET_BYTES = 16 << 20  # the largest real one is under 1 MB
SEXES = {"FEMALE": "female", "MALE": "male", 1: "female", 2: "male"}
CAUSATIVE = ("CAUSATIVE", 4)


class _Skip(Exception):
    """This packet gives no row; the message is the reason."""


def import_phenopackets(src: str | Path) -> Imported:
    """RFT rows of every usable packet under `src` (a folder or zip), in the order of their names.

    Raises: DataError when `src` is neither, or holds no usable packet.
    """
    notes: Counter[str] = Counter()
    items: list[dict[str, Any]] = []
    skipped: list[tuple[str, str]] = []
    seen: set[tuple[str, str]] = set()
    for name, read in _files(Path(src)):
        try:
            case = to_compact(_parse(read()))
            key = (case["source_id"], case["gene"])
            if case["source_id"] and key in seen:
                raise _Skip("the same packet id and gene as an earlier file")
            seen.add(key)
            item = to_item(case, notes)
            if item is None:
                raise _Skip(NO_FINDINGS)
            items.append(item)
        except _Skip as reason:
            skipped.append((name, str(reason)))
    imported = Imported(tuple(items), tuple(skipped), dict(notes))
    if not items:
        reasons = "; ".join(f"{reason}: {n}" for reason, n in imported.reasons().most_common(5))
        what = f"none of its {len(skipped)} JSON files gives a case ({reasons})" if skipped else "no .json files in it"
        raise DataError(f"{src}: {what}; name a folder or zip of phenopackets")
    return imported


def to_compact(packet: dict[str, Any]) -> dict[str, Any]:
    """A parsed packet in the form of `data.compact`. Raises _Skip with the reason when it is not a solved case."""
    packet = _camel(packet)
    _refuse_other_messages(packet)
    source_id = _text(packet.get("id"))
    gene = _causative_gene(packet)
    present, excluded = _findings(packet)
    disease, onset = _disease(packet)
    subject = _mapping(packet.get("subject"))
    sex = subject.get("sex")
    references = _list(_mapping(packet.get("metaData")).get("externalReferences"))
    pmids = [text for text in (_text(_mapping(reference).get("id")) for reference in references) if text.startswith("PMID:")]
    return {
        "id": "pp-" + hashlib.sha256((source_id or repr((gene, present))).encode()).hexdigest()[:10],
        "source_id": source_id,
        "sex": SEXES.get(sex, "unknown") if isinstance(sex, str | int) else "unknown",
        "age": _time(subject.get("timeAtLastEncounter")),
        "onset": onset,
        "present": present,
        "excluded": excluded,
        "disease": disease,
        "gene": gene,
        "pmid": pmids[0] if pmids else None,
    }


def _refuse_other_messages(packet: dict[str, Any]) -> None:
    if "proband" in packet or "members" in packet:
        raise _Skip("a family or cohort message, not a phenopacket")
    if _text(_mapping(packet.get("metaData")).get("phenopacketSchemaVersion")).startswith("1."):
        raise _Skip("a phenopacket of schema version 1; convert it to version 2")
    if "phenotypicFeatures" not in packet and "interpretations" not in packet:
        raise _Skip("not a phenopacket")


def _causative_gene(packet: dict[str, Any]) -> str:
    symbols = set()
    unnamed = False
    for interpretation in _list(packet.get("interpretations")):
        diagnosis = _mapping(_mapping(interpretation).get("diagnosis"))
        for genomic in map(_mapping, _list(diagnosis.get("genomicInterpretations"))):
            if genomic.get("interpretationStatus") not in CAUSATIVE:
                continue
            descriptor = _mapping(_mapping(genomic.get("variantInterpretation")).get("variationDescriptor"))
            gene = _mapping(genomic.get("gene")) or _mapping(descriptor.get("geneContext"))
            symbol = _text(gene.get("symbol"))
            symbols |= {symbol} if symbol else set()
            unnamed = unnamed or not symbol
    if len(symbols) > 1:
        raise _Skip("more than one causative gene")
    if not symbols or unnamed:
        raise _Skip("a causative variant without gene symbol" if unnamed else "no causative gene")
    return symbols.pop()


def _findings(packet: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    present: list[dict[str, Any]] = []
    excluded: list[dict[str, Any]] = []
    for feature in map(_mapping, _list(packet.get("phenotypicFeatures"))):
        term = _mapping(feature.get("type"))
        label = _text(term.get("label"))
        if label:
            (excluded if feature.get("excluded") is True else present).append({"id": _text(term.get("id")) or None, "label": label})
    return present, excluded


def _disease(packet: dict[str, Any]) -> tuple[dict[str, Any] | None, str | None]:
    """The first disease that is not excluded, and the first onset any of those gives."""
    diseases = [d for d in map(_mapping, _list(packet.get("diseases"))) if d.get("excluded") is not True]
    onsets = [onset for onset in (_time(disease.get("onset")) for disease in diseases) if onset]
    terms = [_mapping(disease.get("term")) for disease in diseases]
    for interpretation in _list(packet.get("interpretations")):
        terms.append(_mapping(_mapping(_mapping(interpretation).get("diagnosis")).get("disease")))
    labelled = [{"id": _text(term.get("id")) or None, "label": _text(term.get("label"))} for term in terms if _text(term.get("label"))]
    return (labelled[0] if labelled else None), (onsets[0] if onsets else None)


def _time(element: Any) -> str | None:
    """A TimeElement in the forms of `data.ages`; timestamps and intervals say nothing without a birth date."""
    element = _mapping(element)
    if age := _text(_mapping(element.get("age")).get("iso8601duration")):
        return age
    if span := _mapping(element.get("ageRange")):
        ends = [_text(_mapping(span.get(end)).get("iso8601duration")) for end in ("start", "end")]
        return "/".join(ends) if all(ends) and ends[0] != ends[1] else ends[0] or ends[1] or None
    if label := _text(_mapping(element.get("ontologyClass")).get("label")):
        return label
    gestation = _mapping(element.get("gestationalAge"))
    weeks, days = gestation.get("weeks"), gestation.get("days") or 0
    if isinstance(weeks, int) and isinstance(days, int):
        return f"gestation P{weeks}W" + (f"{days}D" if days else "")
    return None


def _files(src: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """(name, reader) of every JSON file; readers raise _Skip where a file cannot be read."""
    if src.is_dir():
        for path in sorted(src.rglob("*.json")):
            if not _is_hidden(path.relative_to(src).parts):
                yield str(path.relative_to(src)), lambda path=path: _read_path(path)  # type: ignore[misc]
        return
    if not src.exists():
        raise DataError(f"{src}: no such folder or zip; check the path")
    try:
        with zipfile.ZipFile(src) as archive:
            for info in sorted(archive.infolist(), key=lambda info: info.filename):
                if info.filename.endswith(".json") and not _is_hidden(PurePosixPath(info.filename).parts):
                    yield info.filename, lambda info=info: _read_member(archive, info)  # type: ignore[misc]
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{src}: neither a folder nor a readable zip ({error}); name a folder or zip of phenopackets") from None


def _is_hidden(parts: tuple[str, ...]) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in parts)


def _read_path(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_PACKET_BYTES + 1)
    except OSError as error:
        raise _Skip(f"cannot be read ({error.strerror})") from None


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        with archive.open(info) as file:
            return file.read(MAX_PACKET_BYTES + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as error:  # RuntimeError: encrypted
        raise _Skip(f"cannot be unpacked ({type(error).__name__})") from None


def _parse(raw: bytes) -> dict[str, Any]:
    if len(raw) > MAX_PACKET_BYTES:
        raise _Skip(f"larger than {MAX_PACKET_BYTES >> 20} MiB")
    try:
        return parse_document(raw)
    except ValueError as error:
        raise _Skip(f"not a JSON object: {error}") from None


def _camel(value: Any) -> Any:
    """protobuf JSON allows snake_case keys too; depth is bounded by the parser."""
    if isinstance(value, dict):
        return {re.sub(r"_([a-z0-9])", lambda m: m[1].upper(), key): _camel(inner) for key, inner in value.items()}
    return [_camel(inner) for inner in value] if isinstance(value, list) else value


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return " ".join(value.split()) if isinstance(value, str) else ""
