"""Writes the rows of both jobs, train, valid and test with disjoint genes, under runs/rare/.

    python benchmarks/rare/rows.py

train: those of demo_train's 1,100 cases that this job's reward can ever pay (elsewhere every answer scores 0 and nothing is
learned); valid: such cases of the 42 genes that only the larger pool holds, to choose the checkpoint by; test: demo_valid's
200 cases, all of them, read once at the end.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from aspects import candidates
from hybrid_texts import prompt_text
from plain_texts import holders, telling
from tables import RealCase, cases, labels, read_gz

from pinetune.data.case_report import in_sentence
from pinetune.data.compact import to_item

OUT = Path(__file__).parents[2] / "runs" / "rare"
MOST_PER_GENE = 20  # in valid: some of its genes have more than 50 cases


def splits() -> dict[str, list[RealCase]]:
    train, test = cases("demo_train"), cases("demo_valid")
    known = {case.gene for case in train}
    seen: Counter[str] = Counter()
    valid = []
    for case in cases("dev_pool"):
        seen[case.gene] += case.gene not in known
        if case.gene not in known and seen[case.gene] <= MOST_PER_GENE:
            valid.append(case)
    return {"train": train, "valid": valid, "test": test}


def hybrid_row(case: RealCase) -> tuple[dict[str, Any], bool]:
    """The row, and whether any answer to it can be paid."""
    ranked = candidates(case)
    row = {"case_id": case.id, "messages": [{"role": "user", "content": prompt_text(case, ranked)}], "reference_answer": case.gene}
    return row, case.gene in {candidate.gene for candidate in ranked}


def plain_row(case: RealCase) -> tuple[dict[str, Any], bool]:
    """The importer's case report; it can be paid where a finding the base has read of leads to the gene."""
    item = to_item(compact_rows()[case.id], Counter())
    assert item is not None
    row = {key: item[key] for key in ("case_id", "messages", "reference_answer")}
    found = telling([in_sentence(labels()[term]) for term in case.present])
    return row, any(case.gene in holders()[finding][1] for finding in found)


_rows: dict[str, Any] = {}


def compact_rows() -> dict[str, Any]:
    if not _rows:
        _rows.update({row["id"]: row for name in ("dev_pool", "demo_valid") for row in read_gz(f"rare/{name}.jsonl.gz")})
    return _rows


def write(name: str, make: Callable[[RealCase], tuple[dict[str, Any], bool]]) -> None:
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    for split, found in splits().items():
        made = [make(case) for case in found]
        payable = sum(paid for _, paid in made)
        rows: Iterable[dict[str, Any]] = [row for row, paid in made if paid or split == "test"]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        print(f"{name}/{split}.jsonl: {len(list(rows))} rows; {payable} of {len(made)} can be paid")


if __name__ == "__main__":
    write("hybrid", hybrid_row)
    write("plain", plain_row)
