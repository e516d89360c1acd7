"""From the probes' figures to plain words: what is wrong with the grader, the worst first. One function a question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pinetune.bench.options import BenchOptions
from pinetune.bench.report import Agreement, Finding, Level, ProbeResult, Spread
from pinetune.records import Grade

ORDER: dict[Level, int] = {"bad": 0, "warn": 1, "note": 2}
VISIBLE = 0.05  # differences of mean scores below this are left unsaid
WORTH_SAYING = 0.1  # mean score of a gaming probe from which it is a baseline to know
FEW_ANSWERS = 20
OFTEN = 0.25  # share of rows won by a gaming probe
WIDE_SPREAD = 0.1
MARKS_SHOWN = 10
GOOD_SPEARMAN = 0.8  # what practitioners ask of a judge beside experts before they train on it

# What was shown, and what it means where it wins.
GAMED = {
    "other_row": ("a wrong answer (another row's)", "the grader does not tell right from wrong"),
    "commonest": ("always giving the file's commonest answer", "an answer that knows nothing can win"),
    "list_everything": ("listing {variant}", "an answer that knows nothing can win"),
    "empty": ("an answer without content ({variant})", "saying nothing can win"),
    "prompt_echo": ("the prompt echoed back {variant}", "copying can win"),
    "padding": ("an answer of {variant}", "length alone can win"),
    "judge_talk": ("talking to the judge ({variant})", "an answer can ask for its grade and get it"),
    "python_talk": ("text that looks like code ({variant})", "an answer can break the grader's own code"),
}


def find(
    results: Sequence[ProbeResult],
    grades: Sequence[Grade],
    options: BenchOptions,
    satisfied: bool,
    spread: Spread | None,
    agreed: Agreement | None,
) -> list[Finding]:
    """All findings, bad ones first; an unsuspicious grader has none."""
    by_name = {result.probe: result for result in results}
    found = [
        *_constant(grades),
        *_gamed(results, options.threshold),
        *_reference(by_name["reference"], satisfied),
        *_same(results, satisfied),
        *_odd(by_name, options.threshold),
        *_ungraded(results),
        *_range(grades),
        *_spread(spread),
        *_agreement(agreed),
    ]
    return sorted(found, key=lambda finding: ORDER[finding.level])


def _constant(grades: Sequence[Grade]) -> Iterator[Finding]:
    values = {grade.value for grade in grades if grade.status == "ok"}
    if len(values) == 1 and len(grades) > 2:
        yield Finding("warn", "", f"every answer scores {values.pop():.2f}: a constant grader teaches nothing")
    if not values and grades:
        reason = grades[0].explanation.strip().splitlines()
        yield Finding("bad", "", f"the grader could not grade a single answer: {reason[-1] if reason else grades[0].error_kind}")


def _gamed(results: Sequence[ProbeResult], threshold: float) -> Iterator[Finding]:
    for result in results:
        if result.kind != "gaming" or result.mean is None:
            continue
        shown, meaning = GAMED[result.probe]
        said = f"{' '.join(shown.format(variant=result.variant).split())} scores {result.mean:.2f} on average"
        if result.mean > threshold:
            yield Finding("bad", result.probe, f"{said}: {meaning}{_few_answers(result)}")
        elif result.share >= OFTEN:
            yield Finding("warn", result.probe, f"{said}, and above {threshold:g} on {result.share:.0%} of the rows: there {meaning}")
        elif result.mean >= WORTH_SAYING:
            yield Finding("note", result.probe, f"{said}: what is paid for knowing nothing of the row")


def _few_answers(result: ProbeResult) -> str:
    """In a file with few answers, listing them all is nearly knowing them."""
    count = result.variant.removeprefix("all ").split(" ")[0]
    if result.probe != "list_everything" or not count.isdigit() or int(count) >= FEW_ANSWERS:
        return ""
    return f" (the file has only {count} different answers; unless there are no others, test on more rows)"


def _reference(result: ProbeResult, satisfied: bool) -> Iterator[Finding]:
    if not satisfied:
        yield Finding(
            "warn",
            "reference",
            "no form of the reference answer scores above 0: the grader cannot be satisfied, or the bench does not know your "
            'answer\'s form; give --answer-template \'{"genes": ["{{ item.reference_answer }}"]}\'',
        )
    elif result.mean is not None and result.low is not None and result.low < 1 - 1e-6:
        where = f"line {result.line}" if result.line else "one row"
        yield Finding(
            "warn" if result.mean < 1 - VISIBLE else "note",
            "reference",
            f"the reference answer scores {result.mean:.2f} on average and {result.low:.2f} at worst ({where}: {result.example[:80]!r}): "
            "a perfect model cannot reach 1, or its best form is another one (--answer-template)",
        )


def _same(results: Sequence[ProbeResult], satisfied: bool) -> Iterator[Finding]:
    for result in results:
        if not satisfied or result.kind != "same" or result.mean is None:
            continue
        right = result.mean + result.drop
        lost = [
            f"{name}: {right:.2f} -> {mean:.2f}" for name, mean in result.variants.items() if mean is not None and right - mean > VISIBLE
        ]
        if lost:
            yield Finding("warn", result.probe, f"the right answer, {', '.join(lost)}")


def _odd(by_name: dict[str, ProbeResult], threshold: float) -> Iterator[Finding]:
    long, cut = by_name.get("over_long"), by_name.get("broken_json")
    if long is not None and long.mean is not None:
        if -long.drop > VISIBLE:
            text = f"the right answer made over-long ({long.variant}) scores {long.mean:.2f}, more than as it is: length pays"
            yield Finding("bad" if long.mean > threshold else "warn", "over_long", text)
        elif long.mean > threshold and long.drop < VISIBLE:
            text = f"the right answer made over-long ({long.variant}) still scores {long.mean:.2f}: nothing in it keeps answers short"
            yield Finding("note", "over_long", text)
    if cut is not None and cut.mean is not None and cut.mean > threshold:
        yield Finding("warn", "broken_json", f"the right answer's JSON cut in half scores {cut.mean:.2f}: unfinished answers pass")


def _ungraded(results: Sequence[ProbeResult]) -> Iterator[Finding]:
    bad = [result for result in results if result.ungraded]
    total, failed = sum(result.n + result.ungraded for result in results), sum(result.ungraded for result in bad)
    if failed:
        names = ", ".join(f"{result.probe} {result.ungraded} of {result.n + result.ungraded}" for result in bad)
        reason = bad[0].reason
        yield Finding(
            "warn",
            "",
            f"the grader could not grade {failed / total:.0%} of the probes ({names}; {reason}): such rollouts are left "
            "out of training; where the answer is to blame, return 0 instead of failing",
        )


def _range(grades: Sequence[Grade]) -> Iterator[Finding]:
    values = [grade.value for grade in grades if grade.status == "ok"]
    if values and (min(values) < 0 or max(values) > 1):
        yield Finding("note", "", f"scores reach from {min(values):g} to {max(values):g}, not 0 to 1: set --threshold to match")


def _spread(spread: Spread | None) -> Iterator[Finding]:
    if spread is not None and spread.largest > 0:
        level: Level = "warn" if spread.mean > WIDE_SPREAD or spread.largest > 2 * WIDE_SPREAD else "note"
        said = f"the judge's spread on the same answer is {spread.mean:.2g} on average and {spread.largest:.2g} at most"
        yield Finding(level, "spread", f"{said} ({spread.repeats} grades of each of {spread.answers} answers)")


def _agreement(agreed: Agreement | None) -> Iterator[Finding]:
    if agreed is None:
        return
    if agreed.ungraded:
        yield Finding("warn", "labels", f"{agreed.ungraded} of {agreed.n + agreed.ungraded} labelled answers could not be graded")
    if agreed.missed:
        lines = ", ".join(str(one.line) for one in agreed.missed[:MARKS_SHOWN]) + (", ..." if len(agreed.missed) > MARKS_SHOWN else "")
        where = f"labels, line{'s' if len(agreed.missed) > 1 else ''} {lines}"
        text = f"{len(agreed.missed)} of {agreed.marked} answers that experts marked get the other verdict ({where})"
        yield Finding("bad", "labels", f"{text}: a grade that was found wrong is still wrong")
    if agreed.n and agreed.spearman is None:
        level: Level = "note" if agreed.same_verdict == 1 else "warn"
        yield Finding(level, "labels", "no rank correlation with the experts: labels or grades never vary")
    elif agreed.spearman is not None:
        level = "note" if agreed.spearman >= GOOD_SPEARMAN else "warn"
        short = "" if level == "note" else f", below the {GOOD_SPEARMAN:g} usually asked of a grader"
        yield Finding(level, "labels", f"Spearman correlation with the experts' labels is {agreed.spearman:.2f}{short} (n = {agreed.n})")
