"""report.html: one self-contained page. The verdict in plain words first, then numbers, pictures, transcripts, inputs.

Everything that comes from a row, a model or a job is escaped; the page's own policy forbids scripts and outside resources.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from string import Template
from typing import Any

from pinetune.records import EvalReport
from pinetune.reports.charts import METRIC_NAMES, interval_of
from pinetune.reports.evidence import (
    Evidence,
    capital,
    cautions,
    difference_text,
    outcome,
    p_text,
    paired,
    ranker_verdict,
    verdict,
    with_interval,
)
from pinetune.reports.transcripts import transcripts_section

BADGES = {"better": "Shown to be better", "unclear": "Not shown to be better", "worse": "Worse"}
MEANINGS = {
    "top1": "right answer first",
    "top5": "among the first five",
    "topmax": "anywhere in the list",
    "mrr": "mean of 1 / rank",
    "reward": "mean grade",
}
METHODS = """Every number is a mean over held-out rows (a row's value is the mean over its samples) with a 95% bootstrap interval
(BCa; a Wilson interval where there is too little to draw from). {clusters} Base and tuned model are compared on the same
rows: the difference has its own interval, and p is from a paired permutation test. “Shown to be better” takes both
p ≤ 0.05 and intervals that do not overlap. Answers that could not be graded are left out and counted, never taken as 0.
No correction is made for looking at several metrics; the verdict is about the first."""
CLUSTERED = """Rows that share a right answer are drawn, and flipped, together, so that many cases of one answer do not pass for
many facts."""
ALONE = "Every row counts as an independent case."


@dataclass(frozen=True, slots=True)
class Picture:
    """One chart on light and on dark paper, with what it shows in words for those who cannot see it."""

    alt: str
    light: bytes
    dark: bytes
    wide: bool = False


def render_page(
    evidence: Evidence,
    pictures: Sequence[Picture],
    *,
    title: str,
    job: Mapping[str, Any],
    provenance: Mapping[str, Any],
    warnings: Sequence[str],
) -> str:
    template = Template(resources.files("pinetune.reports").joinpath("page.html").read_text("utf-8"))
    return template.substitute(
        title=escape(title),
        facts=escape(_facts(evidence, job, provenance)),
        verdict=_verdict(evidence),
        numbers=_numbers(evidence),
        charts=_charts(pictures),
        examples=transcripts_section(evidence),
        cautions=_cautions([*cautions(evidence), *warnings]),
        inputs=_inputs(job, provenance),
        methods=_methods(evidence),
    )


def _facts(evidence: Evidence, job: Mapping[str, Any], provenance: Mapping[str, Any]) -> str:
    seed = provenance.get("seed", job.get("seed"))
    parts = [
        f"model {evidence.model}",
        f"{evidence.steps} steps, the weights of step {evidence.tuned.step} kept",
        _duration(evidence.seconds),
        *([f"seed {seed}"] if seed is not None else []),
    ]
    return " · ".join(parts)


def _verdict(evidence: Evidence) -> str:
    kind, second = outcome(evidence), ranker_verdict(evidence)
    return (
        f'<section class="card verdict {kind}"><div class="badge">{BADGES[kind]}</div>'
        f'<p class="lead">{escape(verdict(evidence))}</p>' + (f'<p class="second">{escape(second)}</p>' if second else "") + "</section>"
    )


def _numbers(evidence: Evidence) -> str:
    models = [("base", "Base", evidence.base), ("ranker", "Classical ranker", evidence.ranker), ("tuned", "Tuned", evidence.tuned)]
    present = [(colour, name, report) for colour, name, report in models if report is not None]
    head = "".join(f'<th scope="col"><span class="dot" style="--colour:var(--{c})"></span>{name}</th>' for c, name, _ in present)
    against = '<th scope="col">Tuned − base</th>' + ('<th scope="col">Tuned − ranker</th>' if evidence.edge else "")
    rows = "".join(_number_row(evidence, metric, [report for *_, report in present]) for metric in evidence.metrics)
    size = (
        f"n = {evidence.tuned.reward.n} {evidence.held_out}. In brackets: 95% intervals. Thinking, mean tokens: "
        f"base {evidence.base.reasoning_tokens_mean:.0f}, tuned {evidence.tuned.reasoning_tokens_mean:.0f}."
    )
    return (
        '<h2>The numbers</h2><div class="card"><div class="scroll"><table class="numbers">'
        f'<thead><tr><th scope="col"></th>{head}{against}</tr></thead><tbody>{rows}</tbody></table></div>'
        f'<p class="note" style="margin:12px 0 0">{escape(size)}</p></div>'
    )


def _number_row(evidence: Evidence, metric: str, reports: Sequence[EvalReport]) -> str:
    name = f'<th scope="row">{capital(METRIC_NAMES[metric])}<br><span class="note" style="font-weight:400">{MEANINGS[metric]}</span></th>'
    cells = ""
    for report in reports:
        value, _, interval = with_interval(interval_of(report, metric), metric, decimals=1).partition(" ")
        cells += f'<td><strong>{value}</strong><br><span class="ci">{interval}</span></td>'
    for comparison in (evidence.gain, evidence.edge):
        if comparison is not None:
            result = paired(comparison, metric)
            value, _, interval = difference_text(result.difference, metric).partition(" [")
            cells += f'<td>{value}<br><span class="ci">[{interval}, {escape(p_text(result.p_value))}</span></td>'
    return f"<tr>{name}{cells}</tr>"


def _charts(pictures: Sequence[Picture]) -> str:
    wide = "".join(_figure(picture) for picture in pictures if picture.wide)
    narrow = "".join(_figure(picture) for picture in pictures if not picture.wide)
    return f'<h2>The pictures</h2>{wide}<div class="charts">{narrow}</div>'


def _figure(picture: Picture) -> str:
    return (
        f'<figure class="card{" wide" if picture.wide else ""}"><picture>'
        f'<source media="(prefers-color-scheme: dark)" srcset="{_data_url(picture.dark)}">'
        f'<img alt="{escape(picture.alt)}" src="{_data_url(picture.light)}"></picture></figure>'
    )


def _data_url(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _cautions(texts: Sequence[str]) -> str:
    if not texts:
        return ""
    items = "".join(f"<li>{escape(text)}</li>" for text in dict.fromkeys(texts))
    return f'<h2>Read this before you believe it</h2><div class="card"><ul class="cautions">{items}</ul></div>'


def _inputs(job: Mapping[str, Any], provenance: Mapping[str, Any]) -> str:
    rows = "".join(f"<tr><th scope='row'>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in _flat(provenance) if value)
    config = escape(json.dumps(job, ensure_ascii=False, indent=2))
    return (
        '<h2>What went in</h2><div class="card">'
        + (f'<table class="plain"><tbody>{rows}</tbody></table>' if rows else "")
        + f"<details><summary>The job, with every “auto” resolved</summary><pre>{config}</pre></details></div>"
    )


def _methods(evidence: Evidence) -> str:
    text = METHODS.format(clusters=CLUSTERED if evidence.cluster_by_answer and evidence.answer_field else ALONE)
    return f'<h2>How the numbers are made</h2><div class="card small">{text}</div>'


def _flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested provenance as (name, value) lines; a mapping of plain values is one line."""
    lines: list[tuple[str, str]] = []
    for key, inner in value.items():
        name = f"{prefix}{key}".replace("_", " ")
        if not isinstance(inner, Mapping):
            lines.append((name, str(inner)))
        elif any(isinstance(deeper, Mapping) for deeper in inner.values()):
            lines += _flat(inner)
        else:
            lines.append((name, ", ".join(f"{k} {v}" for k, v in inner.items() if v is not None)))
    return lines


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
