"""A preflight report for people: a line a finding, the worst first, and one verdict at the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pinetune.preflight.report import ORDER, Finding, Part, PreflightReport

MARKS = {"ok": "ok  ", "look": "LOOK", "stop": "STOP"}
SHOWN = 20  # places a finding names
MEANING = {
    "ok": "nothing speaks against running this job",
    "look": "the job can run; read the lines marked LOOK first",
    "stop": "do not run this job before the lines marked STOP are dealt with",
}


def as_text(report: PreflightReport) -> str:
    """The whole report without colours."""
    blocks = [_part(part) for part in report.parts]
    return "\n\n".join([*blocks, f"verdict: {report.verdict} ({MEANING[report.verdict]})"])


def _part(part: Part) -> str:
    lines = [f"{part.name}: {part.verdict}"]
    for finding in sorted(part.findings, key=lambda finding: -ORDER[finding.verdict]):
        lines.append(f"  {MARKS[finding.verdict]}  {finding.text}")
        lines += [f"          {where}" for where in _places(finding)]
    if part.name == "learnability" and "histogram" in part.figures:
        lines += [f"          {line}" for line in _rewards(part.figures)]
    return "\n".join(lines)


def _places(finding: Finding) -> list[str]:
    places = [
        f"{pair.file}:{pair.line} and {pair.other_file}:{pair.other_line}{_alike(pair.alike)}: {pair.what!r}" for pair in finding.pairs
    ] + [f"{file}:{line}" for file, line in finding.lines]
    more = len(places) - SHOWN
    return [*places[:SHOWN], *([f"... and {more} more (all of them with --json)"] if more > 0 else [])]


def _alike(alike: float) -> str:
    return "" if alike >= 1 else f" ({alike:.0%} alike)"


def _rewards(figures: Mapping[str, Any]) -> list[str]:
    passed = ", ".join(f"{name} {value:.2f}" for name, value in figures.items() if name.startswith("pass@"))
    counts = figures["histogram"]
    most = max(counts)
    low, high = figures["reward_ci95"]
    head = (
        f"{figures['rows']} rows, {figures['samples']} answers each: reward {figures['reward_mean']:.2f} [{low:.2f}-{high:.2f}]; {passed}"
    )
    bars = [f"{i / 10:.1f}-{(i + 1) / 10:.1f} {'#' * round(30 * count / most):<30} {count}" for i, count in enumerate(counts)]
    return [head, *bars]
