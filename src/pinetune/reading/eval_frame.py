"""The answers of a held-out report, in the columns that rollouts' Parquet files have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pinetune.runs.files import read_json
from pinetune.runs.folder import STEP_NAME


def eval_columns() -> dict[str, Any]:
    """Name -> polars type."""
    import polars as pl

    texts = ["report", "item", "messages", "reasoning", "answer", "finish"]
    texts += ["grade_status", "grade_error_kind", "grade_explanation", "grade_parts"]
    numbers = ["step", "row_index", "sample_index", "prompt_tokens", "reasoning_tokens", "completion_tokens"]
    fractions = ["grade_value", "logprob", "grade_seconds"]
    return {
        **dict.fromkeys(texts, pl.String), **dict.fromkeys(numbers, pl.Int64), **dict.fromkeys(fractions, pl.Float64), "seed": pl.UInt64,
    }  # fmt: skip


def report_name(path: Path) -> str:
    """ "20" of step-00020.json, "final-tuned" of final-tuned.json."""
    match = STEP_NAME.fullmatch(path.stem)
    return str(int(match[1])) if match else path.stem


def eval_rows(path: Path, report: str | None, step: int | None) -> Iterator[dict[str, Any]]:
    """One row an answer; nothing where the report is not the one asked for."""
    name = report_name(path)
    if report is not None and name != report:
        return
    body = read_json(path)
    if step is not None and body["step"] != step:
        return
    for group in body["groups"]:
        row = group["row"]
        messages = row["item"]["messages"] if row["messages"] is None else row["messages"]
        said, item = json.dumps(messages, ensure_ascii=False), json.dumps(row["item"], ensure_ascii=False)
        for rollout in group["rollouts"]:
            completion, grade = rollout["completion"], rollout["grade"]
            yield {
                "report": name,
                "step": body["step"],
                "row_index": rollout["row_index"],
                "sample_index": rollout["sample_index"],
                "item": item,
                "messages": said,
                "reasoning": completion["reasoning"],
                "answer": completion["answer"],
                "finish": completion["finish"],
                "prompt_tokens": len(group["prompt"]["token_ids"]),
                "reasoning_tokens": completion["reasoning_tokens"],
                "completion_tokens": len(completion["token_ids"]),
                "grade_status": grade["status"],
                "grade_value": grade["value"] if grade["status"] == "ok" else None,
                "grade_error_kind": grade["error_kind"],
                "grade_explanation": grade["explanation"],
                "grade_parts": json.dumps(grade["parts"]),
                "grade_seconds": grade["seconds"],
                "logprob": sum(completion["logprobs"]),
                "seed": rollout["seed"],
            }
