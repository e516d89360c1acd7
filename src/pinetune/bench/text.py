"""A bench report for people: the table of probes, then what it means."""

from __future__ import annotations

from collections.abc import Sequence

from pinetune.bench.probes import PROBES
from pinetune.bench.report import Agreement, BenchReport, Cost, ProbeResult

LEVELS = {"bad": "BAD ", "warn": "warn", "note": "note"}


def as_text(report: BenchReport) -> str:
    """The whole report, without colours, at most about 130 columns wide."""
    wanted = f"answers written as {report.form}" if report.form else "no form of the reference answer scores above 0"
    field = f"reference: {report.answer_field}, " if report.answer_field else ""
    blocks = [
        f"{report.grader}: {report.rows} rows, {report.grades} grades; {field}{wanted}",
        table(["probe", "variant", "mean", "min", "max", "n", f"above {report.threshold:g}", "shown"], [_line(p) for p in report.probes]),
    ]
    if report.skipped:
        blocks.append("not run: " + "; ".join(f"{name} ({why})" for name, why in report.skipped.items()))
    if report.agreement is not None:
        blocks.append(_agreement(report.agreement))
    blocks.append(_cost(report.cost))
    said = [f"{LEVELS[finding.level]}  {finding.text}" for finding in report.findings]
    blocks.append("\n".join(said) if said else "nothing suspicious found")
    bad = dict.fromkeys(finding.probe or "grading" for finding in report.findings if finding.level == "bad")
    blocks.append("verdict: passed" if report.passed() else f"verdict: failed ({', '.join(bad)})")
    return "\n\n".join(blocks)


def _line(result: ProbeResult) -> list[str]:
    numbers = [f"{value:.2f}" if value is not None else "-" for value in (result.mean, result.low, result.high)]
    count = f"{result.n}" + (f" (+{result.ungraded} ungraded)" if result.ungraded else "")
    share = f"{result.share:.0%}" if result.n else "-"
    return [result.probe, result.variant, *numbers, count, share, PROBES[result.probe].meaning]


def _cost(cost: Cost) -> str:
    text = f"a grade takes {cost.median * 1000:.3g} ms (median), {cost.p95 * 1000:.3g} ms (p95)"
    if cost.prompt_tokens is not None and cost.completion_tokens is not None:
        text += f"; 1,000 grades: {cost.prompt_tokens:,.0f} prompt and {cost.completion_tokens:,.0f} completion tokens"
    return text + (f", {cost.dollars:.2f} US dollars" if cost.dollars is not None else "")


def _agreement(agreed: Agreement) -> str:
    figures = [f"{name} {value:.2f}" if value is not None else f"{name} -" for name, value in _named(agreed)]
    lines = [f"against {agreed.n} expert labels: {', '.join(figures)}"]
    if agreed.worst:
        lines.append("they differ most on:")
    lines += [f"  line {worst.line}: expert {worst.label:.2f}, grader {worst.grade:.2f}: {worst.answer}" for worst in agreed.worst]
    return "\n".join(lines)


def _named(agreed: Agreement) -> list[tuple[str, float | None]]:
    return [("Spearman", agreed.spearman), ("Cohen's kappa", agreed.kappa), ("same verdict", agreed.same_verdict)]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, two spaces apart; cells that are numbers stand to the right."""
    cells = [list(head), *(list(row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    numeric = [all(row[i][:1].isdigit() or row[i] == "-" for row in rows) for i in range(len(head))]
    lines = []
    for row in cells:
        placed = [cell.rjust(width) if right else cell.ljust(width) for cell, width, right in zip(row, widths, numeric, strict=True)]
        lines.append("  ".join(placed).rstrip())
    return "\n".join(lines)
