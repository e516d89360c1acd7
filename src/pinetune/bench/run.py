"""The bench: grade known answers on real rows, and say what the grades give away about the grader."""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from pinetune.bench.agreement import agreement
from pinetune.bench.findings import find
from pinetune.bench.forms import Form, find_form, require_answer_field
from pinetune.bench.options import BenchOptions, Price
from pinetune.bench.probes import PROBES, Probe, Subject, listings
from pinetune.bench.report import BenchReport, Cost, ProbeResult, Spread
from pinetune.bench.rewrite import parsed
from pinetune.data.answers import lookup, normalise
from pinetune.errors import DataError
from pinetune.records import Completion, Grade, Grader, Row

MOST_LISTED = 2_000  # distinct answers of a file that one listing holds
SPREAD_ROWS = 5
EXAMPLE_CHARS = 160


def bench(grader: Grader, rows: Sequence[Row], options: BenchOptions, *, file: str = "") -> BenchReport:
    """Run every probe of PROBES on a sample of `rows`. The same seed gives the same report, latency aside.

    Raises: DataError without rows or without an answer field, GraderError for a faulty answer template.
    """
    if not rows:
        raise DataError(f"{file or 'data'}: no rows to test the grader on")
    field_name = require_answer_field(rows, options, file)
    session = _Session(grader, options.workers)
    chosen = _sample(rows, options)
    options.told("looking for the form of the answer")
    form, satisfied = find_form(rows, chosen, field_name, options, session.score)
    subjects = _subjects(chosen, rows, form, field_name, options.seed)
    results, skipped = _run_probes(subjects, session, options)
    options.told("labels and repeats")
    spread = _spread(subjects, options) if options.again is not None else None
    judged = session.grade_all([(case.row, case.answer) for case in options.labelled])
    agreed = agreement(options.labelled, judged, options.threshold) if options.labelled else None
    return BenchReport(
        grader=grader.name,
        rows=len(chosen),
        threshold=options.threshold,
        answer_field=field_name,
        form=form.name if satisfied else "",
        probes=results,
        findings=tuple(find(results, session.grades(), options, satisfied, spread, agreed)),
        cost=_cost(session.grades(), options.price),
        grades=len(session.grades()),
        spread=spread,
        agreement=agreed,
        skipped=skipped,
    )


@dataclass
class _Session:
    """Grades each (row, answer) once; several at a time where `workers` allows."""

    grader: Grader
    workers: int
    done: dict[tuple[int, int, str], Grade] = field(default_factory=dict)

    def grade_all(self, pairs: Sequence[tuple[Row, str]]) -> list[Grade]:
        keys = [(row.index, id(row.item), text) for row, text in pairs]
        todo = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in self.done}
        if self.workers > 1 and len(todo) > 1:
            with ThreadPoolExecutor(self.workers, thread_name_prefix="pinetune-bench") as pool:
                grades = list(pool.map(self._grade, todo.values()))
        else:
            grades = [self._grade(pair) for pair in todo.values()]
        self.done.update(zip(todo, grades, strict=True))
        return [self.done[key] for key in keys]

    def _grade(self, pair: tuple[Row, str]) -> Grade:
        return self.grader.grade(completion_of(pair[1]), pair[0])

    def score(self, row: Row, text: str) -> float | None:
        grade = self.grade_all([(row, text)])[0]
        return grade.value if grade.status == "ok" else None

    def grades(self) -> list[Grade]:
        return list(self.done.values())


def completion_of(text: str) -> Completion:
    """An answer as graders get it, without tokens."""
    return Completion((), (), (), "stop", text)


def _sample(rows: Sequence[Row], options: BenchOptions) -> list[Row]:
    if len(rows) <= options.num_rows:
        return list(rows)
    return sorted(random.Random(options.seed).sample(list(rows), options.num_rows), key=lambda row: row.index)


def _subjects(chosen: Sequence[Row], rows: Sequence[Row], form: Form, field_name: str, seed: int) -> list[Subject]:
    chance = random.Random(seed)
    answers = [normalise(lookup(row.item, field_name)) if field_name else form.write(row) for row in rows]
    place = {row.index: i for i, row in enumerate(rows)}
    first: dict[str, Row] = {}  # answer -> the first row that has it
    counts: dict[str, int] = {}
    for answer, row in zip(answers, rows, strict=True):
        first.setdefault(answer, row)
        counts[answer] = counts.get(answer, 0) + 1
    distinct = list(first.items())
    top, times = max(counts.items(), key=lambda pair: pair[1])
    often = form.write(first[top]) if times > 1 and len(counts) > 1 else None
    everything = listings(form, list(rows) if len(rows) <= MOST_LISTED else [row for _, row in distinct[:MOST_LISTED]])
    subjects = []
    for row in chosen:
        other = _other(distinct, answers[place[row.index]], chance)
        wrong = form.write(other) if other is not None else None
        subjects.append(Subject(row, form, field_name, form.write(row), wrong, often, everything))
    return subjects


def _other(distinct: Sequence[tuple[str, Row]], own: str, chance: random.Random) -> Row | None:
    if len(distinct) < 2:
        return None
    answer, row = chance.choice(distinct)
    while answer == own:
        answer, row = chance.choice(distinct)
    return row


def _run_probes(subjects: Sequence[Subject], session: _Session, options: BenchOptions) -> tuple[tuple[ProbeResult, ...], dict[str, str]]:
    results, skipped = [], {}
    right: Mapping[int, Grade] = {}
    for number, (name, probe) in enumerate(PROBES.items(), 1):
        options.told(f"probe {number} of {len(PROBES)}: {name}")
        texts = [(subject.row, variants) for subject in subjects if (variants := _variants(name, probe, subject))]
        if not texts:
            skipped[name] = "no such answer can be made from these rows"
            continue
        pairs = [(row, variant, text) for row, variants in texts for variant, text in variants.items()]
        grades = session.grade_all([(row, text) for row, _, text in pairs])
        tried: dict[str, list[tuple[Row, str, Grade]]] = {}
        for (row, variant, text), grade in zip(pairs, grades, strict=True):
            tried.setdefault(variant, []).append((row, text, grade))
        if name == "reference":
            right = {row.index: grade for row, _, grade in tried[""]}
        results.append(_most_telling(name, probe, tried, right, options.threshold))
    return tuple(results), skipped


def _variants(name: str, probe: Probe, subject: Subject) -> dict[str, str]:
    """Without those that happen to be the reference answer itself, as a form with numbers only keeps it; the commonest
    answer may be right, and its share is what is asked."""
    variants = probe.write(subject)
    if name in ("reference", "commonest"):
        return variants
    right = parsed(subject.reference)
    return {
        variant: text
        for variant, text in variants.items()
        if text != subject.reference and (probe.kind != "gaming" or right is None or parsed(text) != right)
    }


def _most_telling(
    name: str, probe: Probe, tried: Mapping[str, Sequence[tuple[Row, str, Grade]]], right: Mapping[int, Grade], threshold: float
) -> ProbeResult:
    """The variant that speaks most against the grader; one that never could be graded says least."""
    made = [_result(name, probe, variant, cases, right, threshold) for variant, cases in tried.items()]
    graded = [result for result in made if result.mean is not None]
    worst = max(graded, key=lambda result: result.drop if probe.kind == "same" else result.mean or 0.0) if graded else made[0]
    return replace(worst, variants={result.variant: result.mean for result in made})


def _result(
    name: str, probe: Probe, variant: str, cases: Sequence[tuple[Row, str, Grade]], right: Mapping[int, Grade], threshold: float
) -> ProbeResult:
    graded = [(grade.value, row, text) for row, text, grade in cases if grade.status == "ok"]
    failed = [grade for _, _, grade in cases if grade.status == "error"]
    reason = (failed[0].explanation.strip().splitlines() or [failed[0].error_kind])[-1][:EXAMPLE_CHARS] if failed else ""
    if not graded:
        return ProbeResult(name, probe.kind, variant, None, None, None, 0, len(failed), 0.0, reason=reason)
    values = [value for value, _, _ in graded]
    beside = [right[row.index].value - value for value, row, _ in graded if row.index in right and right[row.index].status == "ok"]
    shown = (min if probe.kind in ("same", "right") else max)(graded, key=lambda case: case[0])
    return ProbeResult(
        probe=name,
        kind=probe.kind,
        variant=variant,
        mean=statistics.fmean(values),
        low=min(values),
        high=max(values),
        n=len(values),
        ungraded=len(failed),
        share=sum(value > threshold for value in values) / len(values),
        example=shown[2][:EXAMPLE_CHARS],
        line=shown[1].line,
        reason=reason,
        drop=statistics.fmean(beside) if beside else 0.0,
    )


def _spread(subjects: Sequence[Subject], options: BenchOptions) -> Spread | None:
    """How far a judge's grades of one and the same answer lie apart: on right and on wrong answers of a few rows."""
    assert options.again is not None
    answers = [(s.row, text) for s in subjects[:SPREAD_ROWS] for text in (s.reference, s.wrong) if text is not None]
    values: list[list[float]] = [[] for _ in answers]
    for repeat in range(1, options.repeats + 1):
        grader = options.again(repeat)
        try:
            grades = _Session(grader, options.workers).grade_all(answers)
        finally:
            grader.close()
        for i, grade in enumerate(grades):
            values[i] += [grade.value] if grade.status == "ok" else []
    wide = [max(found) - min(found) for found in values if len(found) > 1]
    return Spread(len(wide), options.repeats, statistics.fmean(wide), max(wide)) if wide else None


def _cost(grades: Sequence[Grade], price: Price | None) -> Cost:
    seconds = sorted(grade.seconds for grade in grades)
    median, p95 = statistics.median(seconds), seconds[min(len(seconds) - 1, int(0.95 * len(seconds)))]
    asked = [grade.usage for grade in grades if grade.usage]
    if not asked:
        return Cost(median, p95)
    tokens = [
        sum(used.get(key, 0) for usage in asked for used in usage.values()) * 1000 / len(grades)
        for key in ("prompt_tokens", "completion_tokens")
    ]
    paid = sum(price(model, used) for usage in asked for model, used in usage.items()) if price else None
    dollars = None if paid is None else paid * 1000 / len(grades)
    return Cost(median, p95, tokens[0], tokens[1], dollars)
