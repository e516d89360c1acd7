"""Group-aware splits: all rows of one group (a gene, a patient, an answer) land in one file.

Groups and rows are ordered by a hash of the seed and their own content, not by their place in the file, so the same
rows give the same split in whatever order they come, and a few added rows move few others.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from pinetune.data.answers import answer_keys, as_text, effective_number, lookup
from pinetune.errors import DataError
from pinetune.records import Row


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a split."""

    name: str  # train, valid, test
    rows: tuple[Row, ...]
    num_groups: int
    effective_groups: float  # exp(entropy): how many equally large groups would be as diverse
    largest_group: tuple[str, int]  # its value and number of rows


@dataclass(frozen=True, slots=True)
class Split:
    """The parts, in the order train, valid, test; rows keep the order of the source."""

    by: str
    parts: tuple[Part, ...]
    num_over_cap: int  # rows left out since their group was full
    num_trimmed: int  # rows left out since their group only partly fitted into valid or test

    def part(self, name: str) -> Part:
        return next(part for part in self.parts if part.name == name)


def split_rows(
    rows: Sequence[Row],
    by: str,
    *,
    valid: int,
    test: int = 0,
    max_per_group: int | None = None,
    max_per_group_valid: int | None = None,
    seed: int = 1,
    file: str = "rows",
) -> Split:
    """Split into train, `valid` rows and `test` rows (exactly) with disjoint values of the field `by`.

    `max_per_group` caps each group everywhere, `max_per_group_valid` further in valid and test (more groups there make
    narrower intervals, since answers of one group are not independent).
    Raises: DataError when a row lacks the field or the counts cannot be met with at least one group left for training.
    """
    if any(cap is not None and cap < 1 for cap in (max_per_group, max_per_group_valid)):
        raise DataError(f"{file}: the cap per group must be at least 1; leave it out for no cap")
    groups = _group(rows, by, seed, file)
    capped = {key: members[:max_per_group] for key, members in groups.items()}
    held = {key: members[:max_per_group_valid] for key, members in capped.items()}
    _check_possible(groups, held, by, valid, test, file)
    order = sorted(capped, key=lambda key: _hash(seed, key))
    parts = {}
    trimmed = 0
    for name, target in (("valid", valid), ("test", test)):
        filled = _fill(held, order, target)
        if filled is None:
            order = []
            break
        parts[name], left = filled
        trimmed += left
        order = [key for key in order if key not in parts[name]]
    if not order:
        raise DataError(f"{file}: {by}: no group would be left for training; ask for fewer than {valid + test} rows in valid and test")
    parts["train"] = {key: capped[key] for key in order}
    names = ["train", "valid", "test"] if test else ["train", "valid"]
    made = tuple(_part(name, parts[name], by) for name in names)
    over_cap = len(rows) - sum(len(part.rows) for part in made) - trimmed
    return Split(by=by, parts=made, num_over_cap=over_cap, num_trimmed=trimmed)


def _group(rows: Sequence[Row], by: str, seed: int, file: str) -> dict[str, list[Row]]:
    """Rows by value, each group in its hashed order. Values listed together (`["FBN1", "FBN2"]`) join their groups."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    firsts = []
    for row in rows:
        keys = sorted(answer_keys(lookup(row.item, by)))
        if not keys:
            names = ", ".join(sorted(row.item)) or "none"
            where = f"{file}:{row.line or row.index + 1}: {by}"
            raise DataError(f"{where}: missing or empty; split by a field that every row has (this one has: {names})")
        for key in keys[1:]:
            low, high = sorted((root(keys[0]), root(key)))
            parent[high] = low
        firsts.append(keys[0])
    groups: dict[str, list[Row]] = defaultdict(list)
    for row, key in zip(rows, firsts, strict=True):
        groups[root(key)].append(row)
    for members in groups.values():
        members.sort(key=lambda row: _hash(seed, json.dumps(row.item, sort_keys=True)))
    return groups


def _fill(held: dict[str, list[Row]], order: Sequence[str], target: int) -> tuple[dict[str, list[Row]], int] | None:
    """Whole groups in order while they fit; the smallest of the rest is cut to fill the last places exactly. None = too few rows."""
    taken: dict[str, list[Row]] = {}
    free = target
    for key in order:
        if 0 < len(held[key]) <= free:
            taken[key] = held[key]
            free -= len(held[key])
    if not free:
        return taken, 0
    rest = [key for key in order if key not in taken]
    if not rest:  # cutting a group for the part before used up the room
        return None
    last = min(rest, key=lambda key: len(held[key]))
    taken[last] = held[last][:free]
    return taken, len(held[last]) - free


def _check_possible(groups: dict[str, list[Row]], held: dict[str, list[Row]], by: str, valid: int, test: int, file: str) -> None:
    if valid < 1 or test < 0:
        raise DataError(f"{file}: valid must be at least 1 and test at least 0, not {valid} and {test}")
    parts = 3 if test else 2
    if len(groups) < parts:
        found = f"only {len(groups)} distinct value{'s' * (len(groups) != 1)}"
        raise DataError(f"{file}: {by}: {found}, {parts} are needed for disjoint parts; split by another field")
    sizes = sorted(len(members) for members in held.values())
    room = sum(sizes) - sizes[0]  # the smallest group stays for training
    if valid + test > room:
        raise DataError(
            f"{file}: {by}: {valid + test} rows asked for in valid and test, but at most {room} can be had from {len(groups)} groups "
            f"({sum(map(len, groups.values()))} rows before capping); ask for fewer, or raise the cap per group"
        )


def _part(name: str, groups: dict[str, list[Row]], by: str) -> Part:
    sizes = {key: len(members) for key, members in groups.items()}
    largest = max(sizes, key=lambda key: (sizes[key], key))
    rows = sorted((row for members in groups.values() for row in members), key=lambda row: row.index)
    return Part(
        name, tuple(rows), len(groups), effective_number(sizes.values()), (as_text(lookup(groups[largest][0].item, by)), sizes[largest])
    )


def _hash(seed: int, text: str) -> bytes:
    return hashlib.blake2b(f"{seed}:{text}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
