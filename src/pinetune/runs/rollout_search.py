"""Search a run's rollouts: the Parquet files of its steps, read lazily, so that only what is asked for comes into memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pinetune.runs.folder import RunFolder

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True)
class RolloutQuery:
    """None = any. `contains` looks into answer, reasoning and prompt, whatever the case."""

    step: int | None = None
    row: int | None = None
    status: Literal["ok", "error"] | None = None
    finish: Literal["stop", "length"] | None = None
    min_reward: float | None = None
    max_reward: float | None = None
    contains: str | None = None
    sort: Literal["step", "reward", "tokens"] = "step"
    descending: bool = False
    offset: int = 0
    limit: int = 20


SORTED = {"step": "step", "reward": "grade_value", "tokens": "completion_tokens"}
TEXTS = ("answer", "reasoning", "messages")
PLACE = ("step", "row_index", "sample_index")


def search_rollouts(folder: Path, query: RolloutQuery) -> tuple[int, list[dict[str, Any]]]:
    """How many rollouts fit, and those from `offset` on, at most `limit`: columns as in `rollout_table`, JSON ones decoded."""
    import polars as pl

    files = _files(folder, query.step)
    if not files:
        return 0, []
    found = pl.scan_parquet(files)
    for condition in _conditions(query):
        found = found.filter(condition)
    total = int(found.select(pl.len()).collect().item())
    order = [SORTED[query.sort], *(name for name in PLACE if name != SORTED[query.sort])]
    descending = [query.descending] + [False] * (len(order) - 1)
    page = found.sort(order, descending=descending, nulls_last=True).slice(query.offset, query.limit).collect()
    return total, [_decoded(row) for row in page.to_dicts()]


def _files(folder: Path, step: int | None) -> list[Path]:
    rollouts = RunFolder(folder).rollouts
    return sorted(rollouts.glob("step-*.parquet" if step is None else f"step-{step:05d}.parquet"))


def _conditions(query: RolloutQuery) -> Iterator[pl.Expr]:
    import polars as pl

    if query.row is not None:
        yield pl.col("row_index") == query.row
    if query.status is not None:
        yield pl.col("grade_status") == query.status
    if query.finish is not None:
        yield pl.col("finish") == query.finish
    if query.min_reward is not None:
        yield pl.col("grade_value") >= query.min_reward
    if query.max_reward is not None:
        yield pl.col("grade_value") <= query.max_reward
    if query.contains:
        wanted = query.contains.lower()
        yield pl.any_horizontal(pl.col(name).str.to_lowercase().str.contains(wanted, literal=True) for name in TEXTS)


def _decoded(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"messages": json.loads(row["messages"]), "grade_parts": json.loads(row["grade_parts"])}
