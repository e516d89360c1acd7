"""The rows: repeated, nearly repeated, on both sides of the split, contradictory, skewed, too long, too few."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pinetune.data.answers import as_text, count_by, effective_number, find_answer_field, lookup, normalise
from pinetune.data.leakage import compare
from pinetune.evals.power import detectable_share
from pinetune.preflight.report import Finding, Pair, Part
from pinetune.preflight.similar import near_duplicates
from pinetune.records import Row

Files = Mapping[str, Sequence[Row]]  # by name, the training file first
FEW_ROWS = 100  # in all: k-fold makes more of them than one split
FEW_ANSWERS = 10  # distinct ones held out: their intervals are as wide as those of ten rows
EVEN = 0.6  # effective number over number of answers; below, a few answers dominate
ONE_ANSWER = 0.8  # of the rows
SHOWN_CHARS = 60


def check_data(files: Files, answer_field: str | None, allow_overlap: bool, train: str, held_out: Sequence[str]) -> Part:
    """`files`: rows by file name; `train` and `held_out` name what is trained on and what judges."""
    field = answer_field or find_answer_field(*files.values())
    exact, near = _alike(files, field)
    findings = [
        *_repeated(exact, near),
        *_leaks(files, field, allow_overlap, train, held_out),
        *_near_leaks(exact, near),
        *_ambiguous(files, field),
        *_skew(files[train], field, train),
        *_size(files, field, train, held_out),
    ]
    figures: dict[str, Any] = {name: _figures(rows, field) for name, rows in files.items()}
    return Part("data", tuple(findings), {"answer_field": field, "files": figures})


def _figures(rows: Sequence[Row], field: str | None) -> dict[str, Any]:
    if field is None:
        return {"rows": len(rows)}
    counts = count_by(rows, field)
    value, times = counts.most_common(1)[0]
    shown = next(as_text(lookup(row.item, field)) for row in rows if normalise(lookup(row.item, field)) == value)
    effective = effective_number(counts.values())
    return {
        "rows": len(rows),
        "answers": len(counts),
        "effective_answers": effective,
        "commonest": shown[:SHOWN_CHARS],
        "commonest_rows": times,
    }


def _alike(files: Files, field: str | None) -> tuple[list[Pair], list[Pair]]:
    """(exact pairs, near pairs) over all files; each repeated text is compared to the others once, by its first row."""
    first: dict[str, tuple[str, Row]] = {}
    exact: list[Pair] = []
    for name, rows in files.items():
        for row in rows:
            key = normalise(_said(row))
            if key in first:
                other_name, other = first[key]
                exact.append(Pair(name, _line(row), other_name, _line(other), 1.0, _excerpt(row)))
            else:
                first[key] = (name, row)
    places = list(first.values())
    near = [
        Pair(places[j][0], _line(places[j][1]), places[i][0], _line(places[i][1]), round(alike, 3), _excerpt(places[j][1]))
        for i, j, alike in near_duplicates([_said(row) for _, row in places])
    ]
    return exact, near


def _repeated(exact: Sequence[Pair], near: Sequence[Pair]) -> Iterator[Finding]:
    within = tuple(pair for pair in exact if pair.file == pair.other_file)
    if within:
        advice = "training sees them more often than the others; leave them out unless that is meant"
        yield Finding("look", "duplicates", f"{_rows(within)} a prompt that an earlier row has word for word: {advice}", within)
    close = tuple(pair for pair in near if pair.file == pair.other_file)
    if close:
        advice = "read them: copies with a slip count double, real look-alikes are fine"
        yield Finding("look", "near_duplicates", f"{_rows(close)} nearly the prompt of an earlier row: {advice}", close)


def _leaks(files: Files, field: str | None, allowed: bool, train: str, held_out: Sequence[str]) -> Iterator[Finding]:
    order = [train, *held_out]
    for later in held_out:
        for earlier in order[: order.index(later)]:
            overlap = compare(files[earlier], files[later], field)
            whole = tuple(Pair(later, v, earlier, t, 1.0, what[:SHOWN_CHARS]) for t, v, what in overlap.leaked_pairs)
            if whole:
                text = (
                    f"{_rows(whole)} the prompt and answer of a row in {earlier}: the job refuses to start; remove them from one of the two"
                )
                yield Finding("stop", "leaked_rows", f"{later}: {text}", whole)
            shared = tuple(Pair(later, v, earlier, t, 1.0, what[:SHOWN_CHARS]) for t, v, what in overlap.answer_pairs)
            if not shared:
                if field is not None:
                    yield Finding("ok", "disjoint_answers", f"{later} and {earlier} share no answer ({field})")
            elif allowed:
                text = (
                    f"{_rows(shared)} an answer that {earlier} has too, which this job allows: right for labels and worked-out numbers only"
                )
                yield Finding("ok", "shared_answers", f"{later}: {text}", shared)
            else:
                text = (
                    f"{_rows(shared)} an answer that {earlier} rewards too, so a model that memorises answers would look skilled: the job "
                    f"refuses to start. Split by answer (pinetune data split ALL.jsonl --by {field}), or, for a closed set of labels or "
                    "worked-out numbers, set allow_answer_overlap"
                )
                yield Finding("stop", "shared_answers", f"{later}: {text}", shared)


def _near_leaks(exact: Sequence[Pair], near: Sequence[Pair]) -> Iterator[Finding]:
    same = tuple(pair for pair in exact if pair.file != pair.other_file)
    if same:
        text = f"{_rows(same)} a prompt of another file word for word: held out they are not; remove them from one of the two"
        yield Finding("look", "shared_prompts", text, same)
    close = tuple(pair for pair in near if pair.file != pair.other_file)
    if close:
        text = f"{_rows(close)} nearly the prompt of a row in another file: read them; a copy with a slip shows training the test"
        yield Finding("look", "near_shared_prompts", text, close)


def _ambiguous(files: Files, field: str | None) -> Iterator[Finding]:
    if field is None:
        return
    answers: dict[str, dict[str, tuple[str, Row]]] = defaultdict(dict)  # prompt -> answer -> its first row
    for name, rows in files.items():
        for row in rows:
            answers[normalise(_said(row))].setdefault(normalise(lookup(row.item, field)), (name, row))
    pairs = []
    for of_prompt in answers.values():
        (name, row), *others = of_prompt.values()
        for other_name, other in others:
            what = f"{as_text(lookup(row.item, field))} / {as_text(lookup(other.item, field))}"
            pairs.append(Pair(other_name, _line(other), name, _line(row), 1.0, what[:SHOWN_CHARS]))
    if pairs:
        text = f"{_rows(pairs)} the prompt of an earlier row but another answer: no model can get both right; keep one, or tell them apart"
        yield Finding("look", "ambiguous", text, tuple(pairs))


def _skew(rows: Sequence[Row], field: str | None, train: str) -> Iterator[Finding]:
    if field is None:
        text = "no field has a usual name for the answer, so leakage and skew of answers were not checked; name it (answer_field)"
        yield Finding("look", "no_answer_field", text)
        return
    counts: Counter[str] = count_by(rows, field)
    effective, most = effective_number(counts.values()), counts.most_common(1)[0][1]
    shown = _figures(rows, field)
    said = (
        f"{train}: {len(rows):,} rows, {len(counts):,} different answers, as diverse as {effective:.1f} equally frequent ones; the "
        f"commonest ({shown['commonest']}) has {most:,} rows ({most / len(rows):.1%})"
    )
    if len(counts) == 1:
        yield Finding("look", "skew", f"{said}: with one answer for all, a model learns to say it whatever is asked")
    elif effective < EVEN * len(counts) or most > ONE_ANSWER * len(rows):
        yield Finding(
            "look", "skew", f"{said}: a few answers dominate; cap the rows an answer may have (pinetune data split --max-per-group)"
        )
    else:
        yield Finding("ok", "skew", said)


def _size(files: Files, field: str | None, train: str, held_out: Sequence[str]) -> Iterator[Finding]:
    total = sum(map(len, files.values()))
    if not held_out:
        advice = "nothing will show whether the model is better (pinetune data split)"
        yield Finding("look", "nothing_held_out", f"there is no validation_file: {advice}")
    if total < FEW_ROWS:
        folds = "pinetune folds makes more of few rows"
        yield Finding("look", "few_rows", f"{total} rows in all are few to train and to judge on; {folds}")
    for name in held_out:
        rows = files[name]
        answers = len(count_by(rows, field)) if field else len(rows)
        least = detectable_share(min(len(rows), answers) if field else len(rows), 0.5)
        said = f"{name}: {len(rows):,} rows with {answers:,} different answers: a gain must be {100 * least:.0f} points or more to show"
        if answers < FEW_ANSWERS:
            yield Finding("look", "smallest_gain", f"{said}: hold out rows with more different answers")
        else:
            yield Finding("ok", "smallest_gain", said)


def check_lengths(lengths: Mapping[str, Sequence[tuple[int, int]]], limit: int) -> tuple[list[Finding], dict[str, Any]]:
    """`lengths`: per file (line, prompt tokens); `limit`: most tokens that leave room for the answer."""
    found = []
    for name, of_file in lengths.items():
        long = tuple((name, line) for line, tokens in of_file if tokens > limit)
        if long:
            text = f"{name}: {len(long)} of {len(of_file)} prompts have more than {limit:,} tokens and leave no room to answer"
            found.append(
                Finding(
                    "stop",
                    "too_long",
                    f"{text}: the job refuses to start; shorten them, leave them out, or ask for shorter answers (max_tokens)",
                    lines=long,
                )
            )
    tokens = [count for of_file in lengths.values() for _, count in of_file]
    return found, {"prompt_tokens_median": statistics.median(tokens), "prompt_tokens_max": max(tokens), "prompt_tokens_limit": limit}


def _said(row: Row) -> str:
    return "\n".join(f"{message.get('role')}: {message.get('content')}" for message in row.messages)


def _excerpt(row: Row) -> str:
    return " ".join(str(row.messages[-1].get("content", "")).split())[:SHOWN_CHARS]


def _line(row: Row) -> int:
    return row.line or row.index + 1


def _rows(pairs: Sequence[Pair]) -> str:
    count = len({(pair.file, pair.line) for pair in pairs})
    return "1 row has" if count == 1 else f"{count:,} rows have"
