"""The rollouts of one step as a Parquet file: one row a rollout, small enough to keep them all and quick to search."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pinetune.records import Group, Rollout

if TYPE_CHECKING:
    import polars as pl


def write_rollouts(path: Path, step: int, groups: Sequence[Group]) -> None:
    import polars as pl

    rows = [_row(step, group, rollout) for group in groups for rollout in group.rollouts]
    pl.DataFrame(rows, schema=_schema()).write_parquet(path)


def read_rollouts(path: Path) -> pl.DataFrame:
    import polars as pl

    return pl.read_parquet(path)


def _schema() -> dict[str, Any]:
    """Told, not inferred: a step in which nothing was graded has the same column types as any other."""
    import polars as pl

    return {
        "step": pl.Int64,
        "row_index": pl.Int64,
        "sample_index": pl.Int64,
        "seed": pl.UInt64,  # seeds have up to 63 bits
        "messages": pl.String,  # JSON
        "reasoning": pl.String,
        "answer": pl.String,
        "prompt_tokens": pl.Int64,
        "reasoning_tokens": pl.Int64,
        "completion_tokens": pl.Int64,
        "finish": pl.String,
        "logprob": pl.Float64,  # of the whole completion
        "grade_status": pl.String,
        "grade_value": pl.Float64,  # null where the answer could not be graded
        "grade_error_kind": pl.String,
        "grade_explanation": pl.String,
        "grade_parts": pl.String,  # JSON
        "grade_seconds": pl.Float64,
        "grade_model": pl.String,  # the judge, "" where there is none
        "grade_usage": pl.String,  # JSON: model -> tokens
    }


def _row(step: int, group: Group, rollout: Rollout) -> dict[str, Any]:
    completion, grade = rollout.completion, rollout.grade
    return {
        "step": step,
        "row_index": rollout.row_index,
        "sample_index": rollout.sample_index,
        "seed": rollout.seed,
        "messages": _text(json.dumps([dict(message) for message in group.row.messages], ensure_ascii=False)),
        "reasoning": _text(completion.reasoning),
        "answer": _text(completion.answer),
        "prompt_tokens": len(group.prompt.token_ids),
        "reasoning_tokens": completion.reasoning_tokens,
        "completion_tokens": len(completion.token_ids),
        "finish": completion.finish,
        "logprob": sum(completion.logprobs),
        "grade_status": grade.status,
        "grade_value": grade.value if grade.status == "ok" else None,
        "grade_error_kind": grade.error_kind,
        "grade_explanation": _text(grade.explanation),
        "grade_parts": json.dumps(dict(grade.parts)),
        "grade_seconds": grade.seconds,
        "grade_model": grade.model,
        "grade_usage": json.dumps({model: dict(counts) for model, counts in grade.usage.items()}),
    }


def _text(text: str) -> str:
    """Half a surrogate pair (JSON's escapes can write one) becomes a question mark: Parquet strings are UTF-8."""
    return text.encode("utf-8", "replace").decode()
