"""Compact rare-disease cases (one JSON object of structured findings each) as RFT rows.

    {"id", "source_id", "sex", "onset", "age", "present": [{"id", "label"}], "excluded": [...], "disease": {"id", "label"}, "gene", "pmid"}

The phenopackets importer brings every packet into this form first, so both sources take one way into prose. The RFT
row keeps the structured case beside the messages, for graders and classical rankers; the model sees the messages only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pinetune.data.ages import is_understood
from pinetune.data.case_report import CaseFacts, case_messages, without_leaks
from pinetune.data.jsonl import Complaints, kind, read_objects

SEXES = ("female", "male")
LEAK = "finding that names the gene or the disease (left out)"
BOTH = "finding both present and excluded (told as present)"
TWICE = "finding listed twice (told once)"
AGE = "age or onset not understood (left out)"
NO_FINDINGS = "no present findings that can be told"


@dataclass(frozen=True, slots=True)
class Imported:
    """What an importer made of its source."""

    items: tuple[dict[str, Any], ...]  # RFT rows
    skipped: tuple[tuple[str, str], ...]  # (file or line, reason)
    notes: Mapping[str, int]  # what was cleaned on the way -> how often

    def reasons(self) -> Counter[str]:
        """How many were skipped for each reason, details after the colon left aside."""
        return Counter(reason.split(":")[0] for _, reason in self.skipped)


def from_compact_row(row: Mapping[str, Any]) -> CaseFacts:
    """The facts that may be told of a compact case: findings merged, and none that names its gene or disease."""
    return _facts(row, Counter())


def to_item(row: Mapping[str, Any], notes: Counter[str]) -> dict[str, Any] | None:
    """The RFT row of a compact case, or None when no present finding is left to tell. `notes` counts what was cleaned."""
    facts = _facts(row, notes)
    if not facts.present:
        return None
    told = {"present": set(facts.present), "excluded": set(facts.excluded)}
    present, excluded = (_merge(row.get(key) or (), Counter()) for key in ("present", "excluded"))
    return {
        "messages": case_messages(facts),
        "reference_answer": row["gene"],
        "case_id": row["id"],
        "sex": facts.sex,
        "age": facts.age,
        "onset": facts.onset,
        "present": [finding for finding in present if finding["label"] in told["present"]],
        "excluded": [finding for finding in excluded if finding["label"] in told["excluded"]],
        "disease": row.get("disease"),
        "source_id": row.get("source_id"),
        "pmid": row.get("pmid"),
    }


def read_compact(path: str | Path) -> Imported:
    """RFT rows of a JSONL file (plain or gzip) of compact cases.

    Raises: DataError naming file, line and field of everything malformed.
    """
    complaints = Complaints(str(path))
    notes: Counter[str] = Counter()
    items: list[dict[str, Any]] = []
    skipped: list[tuple[str, str]] = []
    for line, row in read_objects(path, complaints):
        if not _check(row, line, complaints) or complaints.total:
            continue
        item = to_item({**row, "id": row.get("id") or f"line-{line}"}, notes)
        if item is None:
            skipped.append((f"line {line}", NO_FINDINGS))
        else:
            items.append(item)
    complaints.raise_if_any()
    return Imported(tuple(items), tuple(skipped), dict(notes))


def _facts(row: Mapping[str, Any], notes: Counter[str]) -> CaseFacts:
    present = _merge(row.get("present") or (), notes)
    known = {finding["id"] or finding["label"].casefold() for finding in present}
    excluded = []
    for finding in _merge(row.get("excluded") or (), notes):
        if (finding["id"] or finding["label"].casefold()) in known:
            notes[BOTH] += 1
        else:
            excluded.append(finding)
    times = {}
    for key in ("age", "onset"):
        times[key] = row.get(key) if is_understood(row.get(key)) else None
        notes[AGE] += times[key] != row.get(key)
    facts = CaseFacts(
        sex=row["sex"] if row.get("sex") in SEXES else "unknown",
        age=times["age"] or None,
        onset=times["onset"] or None,
        present=tuple(finding["label"] for finding in present),
        excluded=tuple(finding["label"] for finding in excluded),
        case_id=row.get("id") or "",
    )
    facts, dropped = without_leaks(facts, row.get("gene") or "", (row.get("disease") or {}).get("label") or "")
    notes[LEAK] += len(dropped)
    notes += Counter()  # drops the zeros
    return facts


def _merge(findings: Sequence[Mapping[str, Any]], notes: Counter[str]) -> list[dict[str, Any]]:
    """Each finding once, in order, as {"id", "label"}."""
    kept: dict[str, dict[str, Any]] = {}
    labels: set[str] = set()
    for finding in findings:
        label = " ".join(finding["label"].split())
        key = finding.get("id") or label.casefold()
        if key in kept or label.casefold() in labels:
            notes[TWICE] += 1
            continue
        kept[key] = {"id": finding.get("id"), "label": label}
        labels.add(label.casefold())
    return list(kept.values())


def _check(row: Mapping[str, Any], line: int, complaints: Complaints) -> bool:
    before = complaints.total
    if "messages" in row:
        complaints.add(line, "messages", "this is an RFT row already, not a compact case; use the file as it is")
    elif not isinstance(row.get("gene"), str) or not row["gene"].strip():
        complaints.add(line, "gene", "missing or not a string; each case needs the symbol of its causative gene")
    for key in ("present", "excluded"):
        findings = row.get(key)
        if findings is None and key == "excluded":
            continue
        if not isinstance(findings, list):
            complaints.add(line, key, f'{kind(findings)}; write a list of {{"id": "HP:...", "label": "..."}}')
            continue
        for i, finding in enumerate(findings):
            if not _is_finding(finding):
                complaints.add(line, f"{key}[{i}]", 'not a finding; write {"id": "HP:...", "label": "..."}')
    for key, types in (("id", str), ("sex", str), ("age", str), ("onset", str), ("disease", dict)):
        if not isinstance(row.get(key), types | None):
            complaints.add(line, key, f"{kind(row[key])}; write {'an object' if types is dict else 'a string'} or null")
    label = row["disease"].get("label") if isinstance(row.get("disease"), dict) else None
    if not isinstance(label, str | None):
        complaints.add(line, "disease.label", f"{kind(label)}; write a string or null")
    return complaints.total == before


def _is_finding(finding: Any) -> bool:
    if not isinstance(finding, dict) or not isinstance(finding.get("id"), str | None):
        return False
    return isinstance(finding.get("label"), str) and bool(finding["label"].strip())
