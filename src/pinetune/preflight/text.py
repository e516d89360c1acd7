"""A preflight report for people: a line a finding, the worst first, and one verdict at the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from pinetune.preflight.report import ORDER, Finding, Part, PreflightReport

MARKS = {"ok": "ok  ", "look": "LOOK", "stop": "STOP"}
SHOWN = 20  # places a finding names
WHOLE = "(all of them with --json)"
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
    pairs = [
        f"{pair.file}:{pair.line} and {pair.other_file}:{pair.other_line}{_alike(pair.alike)}: {pair.what!r}" for pair in finding.pairs
    ]
    more = len(pairs) - SHOWN
    return [*pairs[:SHOWN], *([f"... and {more:,} more {WHOLE}"] if more > 0 else []), *_lines(finding)]


def _lines(finding: Finding) -> list[str]:
    """One line a file, "rows.jsonl: lines 3, 67 and 69": a line each would push the rest of the report off the screen."""
    by_file: dict[str, list[int]] = defaultdict(list)
    for file, line in finding.lines:
        by_file[file].append(line)
    return [f"{file}: line{'s' if len(lines) > 1 else ''} {_listed(lines)}" for file, lines in by_file.items()]


def _listed(lines: Sequence[int]) -> str:
    shown, more = [str(line) for line in lines[:SHOWN]], len(lines) - SHOWN
    if more > 0:
        return f"{', '.join(shown)} and {more:,} more {WHOLE}"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def _alike(alike: float) -> str:
    return "" if alike >= 1 else f" ({alike:.0%} alike)"


def _rewards(figures: Mapping[str, Any]) -> list[str]:
    """The figures in two lines, and how many answers got which reward; empty bins at both ends are left out."""
    passed = ", ".join(f"{name} {value:.2f}" for name, value in figures.items() if name.startswith("pass@"))
    counts = figures["histogram"]
    most, filled = max(counts), [i for i, count in enumerate(counts) if count]
    low, high = figures["reward_ci95"]
    rows = f"{figures['rows']} rows, {figures['samples']} answers each"
    head = [
        f"{rows}: mean reward {figures['reward_mean']:.2f} (95% interval {low:.2f} to {high:.2f})",
        f"{passed} (pass@8: one of 8 answers gets 0.5 or more)" if "pass@8" in passed else passed,
        "answers by reward:",
    ]
    shown = range(filled[0], filled[-1] + 1)
    bars = [f"{i / 10:.1f}-{(i + 1) / 10:.1f} {'#' * round(30 * counts[i] / most):<30} {counts[i]}" for i in shown]
    return [*head, *bars]
