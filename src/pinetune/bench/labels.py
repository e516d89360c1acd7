"""Labelled answers for the bench: a JSONL file with an answer, an expert's label and the row it answers, a line each.

{"item": {"reference_answer": "TSC2"}, "answer": "{\\"genes\\": [\\"TSC1\\"]}", "label": 0.2}
{"reference_answer": "TSC2", "answer": {"genes": ["TSC1"]}, "label": 0}      the row's fields beside answer and label
{"row": 3, "answer": "TSC2", "label": 1}                                      the third row of --data
{"item": {...}, "answer": "TSC1", "label": 0, "mark": {...}}                  as `pinetune read --export` writes it: a regression case
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pinetune.bench.options import Labelled
from pinetune.data.jsonl import Complaints, kind, read_objects
from pinetune.records import Row


def read_labelled(path: str | Path, rows: Sequence[Row] = ()) -> list[Labelled]:
    """Raises: DataError with file, line and field of everything wrong."""
    complaints = Complaints(str(path))
    found = []
    for line, body in read_objects(path, complaints):
        before = complaints.total
        label = _label(body, line, complaints)
        answer = _answer(body, line, complaints)
        row = _row(body, line, rows, complaints)
        if complaints.total == before and row is not None:
            found.append(Labelled(row, answer, label, marked="item" in body and "mark" in body))
    complaints.raise_if_any()
    return found


def _label(body: dict[str, Any], line: int, complaints: Complaints) -> float:
    value = body.get("label")
    if "label" not in body:
        complaints.add(line, "label", "missing; write the expert's judgement as a number from 0 (wrong) to 1 (right)")
    elif not isinstance(value, bool | int | float):
        complaints.add(line, "label", f"{kind(value)}; write a number from 0 (wrong) to 1 (right)")
    elif not 0 <= value <= 1 or not math.isfinite(value):
        complaints.add(line, "label", f"{value:g} is outside 0..1; scale the labels to 0 (wrong) .. 1 (right)")
    else:
        return float(value)
    return 0.0


def _answer(body: dict[str, Any], line: int, complaints: Complaints) -> str:
    value = body.get("answer")
    if value is None:
        complaints.add(line, "answer", "missing; write the answer that was judged, as the model gave it")
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _row(body: dict[str, Any], line: int, rows: Sequence[Row], complaints: Complaints) -> Row | None:
    if "row" in body:
        number = body["row"]
        if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= len(rows):
            complaints.add(line, "row", f"must be a row of the data file, 1 to {len(rows)}, not {json.dumps(number)[:40]}")
            return None
        row = rows[number - 1]
        return Row(row.index, row.messages, row.item, row.tools, line)
    item = body.get("item", {key: value for key, value in body.items() if key not in ("answer", "label")})
    if not isinstance(item, dict):
        complaints.add(line, "item", f"{kind(item)}; write the dataset row as an object")
        return None
    if not item:
        complaints.add(line, "item", 'missing; add the row the answer is for: "item": {...}, or "row": its number in the data file')
        return None
    messages = item.get("messages")
    return Row(0, tuple(messages) if isinstance(messages, list) else (), item, (), line)
