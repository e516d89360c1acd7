"""k-fold for few rows: each row is held out exactly once, and all rows of one answer in the same fold.

folds = make_folds(rows, 5)       # five (train, held_out) pairs; by_answer=False for labels of a closed set
pool(reports)                     # five reports, each of its own held-out rows, as one over all rows
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pinetune.data.answers import answer_keys, find_answer_field, lookup, prompt_key
from pinetune.errors import DataError
from pinetune.evals.evaluate import build_report
from pinetune.records import EvalReport, Row


@dataclass(frozen=True, slots=True)
class Fold:
    """Rows keep the order and the index they have in the file."""

    train: tuple[Row, ...]
    held_out: tuple[Row, ...]


def make_folds(
    rows: Sequence[Row], k: int, field: str | None = None, seed: int = 1, file: str = "rows", by_answer: bool = True
) -> list[Fold]:
    """`k` folds of about equal size, no answer in two of them; without an answer field no prompt is in two of them.

    `by_answer` False: rows are dealt by their prompts although they have answers. That is right where answers must recur (labels,
    worked-out numbers): a model that never saw a label cannot be asked for it.
    Groups are dealt largest first to the smallest fold, equal ones in the order of a hash of the seed: the same rows give the same
    folds in whatever order they come.
    Raises: DataError where there are fewer groups than folds, or k < 2.
    """
    field = (field or find_answer_field(rows)) if by_answer else None
    groups = _by_answer(rows, field) if field else _by_prompt(rows)
    if k < 2:
        raise DataError(f"{file}: k-fold needs at least 2 folds, not {k}")
    if len(groups) < k:
        what = f"different answers ({field})" if field else "different prompts"
        recur = "; or, where answers must recur (labels of a closed set), set allow_answer_overlap" if field else ""
        raise DataError(f"{file}: {len(groups)} {what} cannot make {k} folds without sharing; ask for at most {len(groups)}{recur}")
    dealt: list[list[Row]] = [[] for _ in range(k)]
    for key in sorted(groups, key=lambda key: (-len(groups[key]), _hash(seed, key))):
        min(dealt, key=len).extend(groups[key])
    folds = []
    for held in dealt:
        inside = {row.index for row in held}
        train, held_out = ([row for row in rows if (row.index in inside) == wanted] for wanted in (False, True))
        folds.append(Fold(tuple(train), tuple(held_out)))
    return folds


def pool(reports: Sequence[EvalReport], name: str, *, answer_field: str | None = None, cluster_by_answer: bool = True) -> EvalReport:
    """One report over all folds' held-out rows: every row answered by a model that did not train on it.

    It judges the recipe, not one model. Groups are numbered anew, so two pooled reports of the same folds pair row by row.
    Raises GraderError where nothing could be graded.
    """
    groups = [group for report in reports for group in report.groups]
    numbered = [replace(group, row=replace(group.row, index=number)) for number, group in enumerate(groups)]
    seconds = sum(report.seconds for report in reports)
    return build_report(0, name, numbered, answer_field, seconds, cluster_by_answer=cluster_by_answer)


def _by_prompt(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """A prompt that occurs twice would be trained on in one fold and judged in another."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[prompt_key(row.messages)].append(row)
    return dict(groups)


def _by_answer(rows: Sequence[Row], field: str) -> dict[str, list[Row]]:
    """Rows by answer; answers that one row lists together belong together."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    firsts = []
    for row in rows:
        keys = sorted(answer_keys(lookup(row.item, field))) or [f"row {row.index}"]
        for key in keys[1:]:
            parent[root(key)] = root(keys[0])
        firsts.append(keys[0])
    groups: dict[str, list[Row]] = defaultdict(list)
    for row, key in zip(rows, firsts, strict=True):
        groups[root(key)].append(row)
    return dict(groups)


def _hash(seed: int, text: str) -> bytes:
    return hashlib.blake2b(f"{seed}:{text}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
