"""The real tables: cases of phenopacket-store, the Human Phenotype Ontology, and the diseases' annotations.

They lie beside the repository (../shared/data, see its README for versions and licences) and are never copied into it.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pinetune.demo.ranker import PhenotypeRanker

DATA = Path(__file__).parents[3] / "shared" / "data"


def read_gz(name: str) -> list[dict[str, Any]]:
    """All rows of a gzipped JSON lines file under DATA."""
    path = DATA / name
    if not path.is_file():
        raise SystemExit(f"{path} is missing: this benchmark needs the shared data folder beside the repository")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@dataclass(frozen=True, slots=True)
class RealCase:
    """One patient as a model may see it, and the answer. Disease names and source ids are left behind here."""

    id: str
    gene: str
    sex: str
    onset: str  # ISO 8601 duration, an HPO onset label, or ""
    present: tuple[str, ...]  # term ids
    excluded: tuple[str, ...]


def cases(name: str) -> list[RealCase]:
    """The cases of `rare/<name>.jsonl.gz`."""
    return [
        RealCase(
            row["id"],
            row["gene"],
            row["sex"] or "",
            row["age_or_onset"] or "",
            tuple(dict.fromkeys(f["id"] for f in row["present"])),
            tuple(dict.fromkeys(f["id"] for f in row["excluded"])),
        )
        for row in read_gz(f"rare/{name}.jsonl.gz")
    ]


@cache
def labels() -> dict[str, str]:
    """Term id -> label; the terms only the cases use (newer than the ontology's version) are named by the cases."""
    found = {
        f["id"]: f["label"]
        for name in ("dev_pool", "demo_valid")
        for row in read_gz(f"rare/{name}.jsonl.gz")
        for f in row["present"] + row["excluded"]
    }
    return found | {term["id"]: term["label"] for term in read_gz("kb/hp_terms.jsonl.gz")}


@cache
def diseases() -> dict[str, dict[str, Any]]:
    """Disease id -> row, its `terms` as a dict of term id -> stated frequency or None."""
    return {row["id"]: {**row, "terms": dict(row["terms"])} for row in read_gz("kb/diseases_2023_clean.jsonl.gz")}


@cache
def ranker() -> PhenotypeRanker:
    """The classical ranker of the README's figures."""
    return PhenotypeRanker(
        {name: row["terms"] for name, row in diseases().items()},
        {term["id"]: term["parents"] for term in read_gz("kb/hp_terms.jsonl.gz")},
        genes={name: row["genes"] for name, row in diseases().items()},
    )


def age_in_words(onset: str) -> str:
    """`P3Y2M` -> "3 years"; `gestation P32W` -> "32 weeks of gestation"; a label stays as it is."""
    if onset.startswith("gestation P"):
        return f"{onset.removeprefix('gestation P').split('W')[0]} weeks of gestation"
    if not onset.startswith("P"):
        return onset.lower()
    number, unit = "", ""
    for char in onset[1:]:
        if char.isdigit():
            number += char
        elif char in "YMWD" and number:
            if int(number):
                unit = {"Y": "year", "M": "month", "W": "week", "D": "day"}[char]
                break
            number = ""
        else:
            break
    return f"{int(number)} {unit}{'' if int(number) == 1 else 's'}" if unit else "birth"
