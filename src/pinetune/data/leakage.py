"""Held-out means held out: refuses a validation file whose answers, or whole rows, the model also trains on.

A model rewarded for naming 100 answers learns those names, and a validation file with the same answers cannot tell
that from skill. Where the answers are a small closed set (yes/no, ten labels) or come out of each prompt (a number),
they must recur, and knowing them helps nobody: then `allow_answer_overlap` is right. The same prompt with the same
answer on both sides is always a leak.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from pinetune.data.answers import answer_keys, as_text, find_answer_field, lookup, normalise, prompt_key
from pinetune.errors import DataError
from pinetune.records import Row

SHOWN = 10
CLOSED_SET_ROWS = 5  # rows per distinct answer from which, with few answers, we call the set closed
CLOSED_SET_SIZE = 30


@dataclass(frozen=True, slots=True)
class Overlap:
    """What a training and a validation file share. Pairs are (training line, validation line, what both hold)."""

    field: str | None  # the answer field; None = the rows have none, only prompts were compared
    num_train_answers: int
    num_valid_answers: int
    num_valid_rows: int  # validation rows whose answer occurs in training
    answer_pairs: tuple[tuple[int, int, str], ...]  # one a validation row that shares its answer
    same_prompt_pairs: tuple[tuple[int, int, str], ...]  # the same messages on both sides, whatever the answer
    leaked_pairs: tuple[tuple[int, int, str], ...]  # the same messages and the same answer (or no answer field)

    @property
    def disjoint(self) -> bool:
        return not self.answer_pairs and not self.same_prompt_pairs


def check_disjoint(
    train: Sequence[Row],
    valid: Sequence[Row],
    field: str | None = None,
    *,
    allow_answer_overlap: bool = False,
    train_file: str = "training file",
    valid_file: str = "validation file",
) -> Overlap:
    """Compare the answers and the prompts of two files.

    `field` names the answer field (a dotted path); None = find it by its usual names.
    Raises: DataError when an answer occurs on both sides and is not allowed to, or a whole row does.
    """
    if field is None:
        field = find_answer_field(train, valid)
    else:
        require_field(field, train, train_file)
        require_field(field, valid, valid_file)
    overlap = compare(train, valid, field)
    complaints: list[str] = []
    if overlap.leaked_pairs:
        complaints += _leaked_rows(overlap, train_file, valid_file)
    if overlap.answer_pairs and not allow_answer_overlap:
        complaints += _shared_answers(overlap, train, train_file, valid_file)
    if complaints:
        raise DataError(complaints)
    return overlap


def compare(train: Sequence[Row], valid: Sequence[Row], field: str | None) -> Overlap:
    """The facts alone; raises nothing."""
    answers_of = _Answers(field)
    first_answer: dict[str, Row] = {}
    prompts: dict[str, list[Row]] = defaultdict(list)
    for row in train:
        for key in answers_of(row):
            first_answer.setdefault(key, row)
        prompts[prompt_key(row.messages)].append(row)
    answer_pairs, same, leaked = [], [], []
    for row in valid:
        shared = sorted(key for key in answers_of(row) if key in first_answer)
        if shared:
            answer_pairs.append((_line(first_answer[shared[0]]), _line(row), as_text(lookup(row.item, field or ""))))
        twins = prompts.get(prompt_key(row.messages), [])
        if twins:
            same.append((_line(twins[0]), _line(row), _excerpt(row)))
        leak = next((twin for twin in twins if field is None or answers_of(twin) & answers_of(row)), None)
        if leak is not None:
            leaked.append((_line(leak), _line(row), _excerpt(row)))
    return Overlap(
        field=field,
        num_train_answers=len(first_answer),
        num_valid_answers=len({key for row in valid for key in answers_of(row)}),
        num_valid_rows=len(answer_pairs),
        answer_pairs=tuple(answer_pairs),
        same_prompt_pairs=tuple(same),
        leaked_pairs=tuple(leaked),
    )


def looks_closed(num_answers: int, num_rows: int) -> bool:
    """Whether the answers may be a small closed set (yes/no, labels), in which they recur without being learned by heart."""
    return num_answers <= CLOSED_SET_SIZE and num_rows >= CLOSED_SET_ROWS * num_answers


class _Answers:
    def __init__(self, field: str | None) -> None:
        self.field = field

    def __call__(self, row: Row) -> frozenset[str]:
        return frozenset() if self.field is None else answer_keys(lookup(row.item, self.field))


def require_field(field: str, rows: Sequence[Row], file: str) -> None:
    """Raises: DataError naming the first row without the answer field, and the fields it has."""
    missing = [row for row in rows if lookup(row.item, field) is None]
    if not missing:
        return
    names = ", ".join(sorted(key for key in missing[0].item if key != "messages")) or "none"
    where = f"{file}:{_line(missing[0])}"
    more = f" (and {len(missing) - 1} more rows)" if len(missing) > 1 else ""
    raise DataError(f"{where}: {field}: the answer field is missing{more}; name one of the row's fields: {names}")


def _leaked_rows(overlap: Overlap, train_file: str, valid_file: str) -> list[str]:
    head = (
        f"{valid_file}: {_count_rows(overlap.leaked_pairs)} also in {train_file}, same prompt and same answer; "
        "remove them from one of the two files"
    )
    return [head, *_pair_lines(overlap.leaked_pairs, train_file, valid_file)]


def _shared_answers(overlap: Overlap, train: Sequence[Row], train_file: str, valid_file: str) -> list[str]:
    shared = len({normalise(what) for _, _, what in overlap.answer_pairs})
    head = (
        f"{valid_file}: {overlap.field}: {_count_rows(overlap.answer_pairs)} with answers that {train_file} rewards too ({shared} in all), "
        "so a model that memorises answers would look skilled"
    )
    split = f"make files with disjoint answers: pinetune data split ALL.jsonl --by {overlap.field}"
    allow = 'set "allow_answer_overlap": true in the job\'s "pinetune" section'
    if looks_closed(overlap.num_train_answers, len(train)):
        found = f"{overlap.num_train_answers} in {len(train)} rows"
        advice = f"the answers look like a small closed set ({found}): if they are one, {allow}; otherwise {split}"
    else:
        advice = f"{split}; or, where answers must recur (labels of a closed set, numbers worked out from the prompt), {allow}"
    return [f"{head}; {advice}", *_pair_lines(overlap.answer_pairs, train_file, valid_file)]


def _pair_lines(pairs: Sequence[tuple[int, int, str]], train_file: str, valid_file: str) -> list[str]:
    lines = [f"{valid_file}:{v}: same as {train_file}:{t}: {what[:60]!r}" for t, v, what in pairs[:SHOWN]]
    more = len(pairs) - SHOWN
    return [*lines, f"{valid_file}: ... and {more} more"] if more > 0 else lines


def _count_rows(pairs: Sequence[tuple[int, int, str]]) -> str:
    return f"{len(pairs)} row{'s' * (len(pairs) != 1)}"


def _excerpt(row: Row) -> str:
    return " ".join(str(row.messages[-1].get("content", "")).split())[:60]


def _line(row: Row) -> int:
    return row.line or row.index + 1
