"""The grader: the bench on a few training rows, and what its findings mean for the job."""

from __future__ import annotations

from dataclasses import asdict

from pinetune.bench.keys import asks_a_judge
from pinetune.bench.options import BenchOptions, Price
from pinetune.bench.report import BenchReport
from pinetune.bench.run import bench
from pinetune.errors import BudgetSpent, DataError
from pinetune.preflight.options import Subject
from pinetune.preflight.report import Finding, Part, Verdict

VERDICTS: dict[str, Verdict] = {"bad": "stop", "warn": "look", "note": "ok"}
JUDGES_AT_ONCE = 8


def check_grader(subject: Subject) -> tuple[Part, BenchReport | None]:
    """The part, and the bench's report for what cost asks (None where it could not run)."""
    options, judged = subject.options, asks_a_judge(subject.definition)
    wanted = BenchOptions(
        num_rows=options.bench_rows_judge if judged else options.bench_rows,
        seed=options.seed,
        answer_field=subject.body.pinetune.answer_field,
        definition=subject.definition,
        schema=subject.schema,
        workers=JUDGES_AT_ONCE if judged else 1,
        price=price_of(subject),
        told=options.told,
    )
    try:
        report = bench(subject.grader, subject.train, wanted, file=subject.names["training_file"])
    except (DataError, BudgetSpent) as error:
        return Part("grader", (Finding("look", "not_tested", f"the grader was not tested: {error}"),)), None
    findings = [Finding(VERDICTS[found.level], found.probe or "grading", found.text) for found in report.findings]
    if not findings:
        said = (
            f"nothing suspicious in {report.grades} grades on {report.rows} rows; the right answer, written as {report.form}, scores well"
        )
        findings = [Finding("ok", "sharp", said)]
    figures = {"grades": report.grades, "rows": report.rows, "form": report.form, "cost": asdict(report.cost)}
    figures["probes"] = {probe.probe: probe.mean for probe in report.probes}
    return Part("grader", tuple(findings), figures), report


def price_of(subject: Subject) -> Price | None:
    """US dollars of a judge's answer, where the job says what every judge costs."""
    from pinetune.loop.judging import judges_of

    settings = subject.judges.settings
    judges = judges_of(subject.definition)
    known = {model: price for name in judges for model in (name, settings.resolve(name)) if (price := settings.price(name))}
    if not judges or any(settings.price(name) is None for name in judges):
        return None
    only = next(iter(known.values()))  # a server may name its model otherwise
    return lambda model, used: known.get(model, only).of(used)
