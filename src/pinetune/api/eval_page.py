"""A run of an eval as a page for people: its numbers with their intervals, then the answers with their grades.

Everything that rows, models and graders wrote is escaped; the page loads nothing and runs nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import urlencode

from pinetune.records import Interval
from pinetune.wire.eval_objects import OutputItemObject, RunObject

STATUSES = {"pass": "passed", "fail": "failed", "error": "could not be graded"}
SHOWN = 4000  # characters of a text
STYLE = """
:root { color-scheme: light dark; --rule: #8884; --muted: #888; --good: #00785a; --bad: #b34700; }
@media (prefers-color-scheme: dark) { :root { --good: #2bc79b; --bad: #ff8a4c; } }
body { max-width: 1000px; margin: 0 auto; padding: 32px 24px; font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.3rem; margin: 0; } h2 { font-size: 1.1rem; margin: 36px 0 8px; }
.small, th { color: var(--muted); font-size: .875rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 6px 24px 6px 0; border-bottom: 1px solid var(--rule); }
article { border: 1px solid var(--rule); border-radius: 8px; padding: 12px 16px; margin: 12px 0; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .84rem; margin: 4px 0 8px; max-height: 20rem; overflow-y: auto; }
.pass { color: var(--good); } .fail, .error { color: var(--bad); }
"""


def run_page(
    eval_name: str, run: RunObject, measures: Mapping[str, Interval], items: Sequence[OutputItemObject], status: str | None, more: bool
) -> str:
    """`measures` may be empty; `items` is one page of them, those of `status` only where it is given; `more` follow."""
    title = escape(run.name or run.id)
    facts = (eval_name or run.eval_id, run.model or "answers that the rows brought along", run.status, _moment(run.created_at), run.id)
    parts = [
        f"<h1>{title}</h1>",
        f'<p class="small">{" &middot; ".join(map(escape, facts))}</p>',
        *([f'<p class="error">{escape(run.error.message)}</p>'] if run.error else []),
        *_numbers(run, measures),
        "<h2>Answers</h2>",
        f'<p class="small">Show {_filters(status)}</p>',
        *map(_answer, items),
        *([] if items else ["<p>None.</p>"]),
        *([f'<p><a href="{_address(status, items[-1].id)}">More answers</a></p>'] if more and items else []),
    ]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>'
    return "\n".join(
        ['<!doctype html>\n<html lang="en">', f"<head>{head}<style>{STYLE}</style></head>", "<body>", *parts, "</body>\n</html>\n"]
    )


def _numbers(run: RunObject, measures: Mapping[str, Interval]) -> Iterable[str]:
    counts = run.result_counts
    yield (
        f"<p>{counts.total} answers: {counts.passed} passed, {counts.failed} failed, {counts.errored} that a model did not give or "
        "a criterion could not grade.</p>"
    )
    if measures:
        rows = [(name, f"{i.value:.3f}", f"{i.low:.3f} to {i.high:.3f}", str(i.n)) for name, i in measures.items()]
        yield _table(("measure", "value", "95% interval", "rows"), rows)
    if run.per_testing_criteria_results:
        per = [(c.testing_criteria, str(c.passed), str(c.failed), str(c.errored)) for c in run.per_testing_criteria_results]
        yield "<h2>Criteria</h2>"
        yield _table(("criterion", "passed", "failed", "not graded"), per)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"

    return f"<table>{line(head, 'th')}{''.join(line(row, 'td') for row in rows)}</table>"


def _filters(status: str | None) -> str:
    links = [("all", None), *((name, key) for key, name in STATUSES.items())]
    shown = [f"<b>{escape(name)}</b>" if key == status else f'<a href="{_address(key)}">{escape(name)}</a>' for name, key in links]
    return " &middot; ".join(shown)


def _address(status: str | None, after: str | None = None) -> str:
    """Of the same page; "?" alone drops what was asked before."""
    return escape(f"?{urlencode({key: value for key, value in (('status', status), ('after', after)) if value})}")


def _answer(item: OutputItemObject) -> str:
    sample = item.sample
    asked = (sample.get("input") or [{}])[-1].get("content") or item.datasource_item
    said = "\n".join(_text(message.get("content")) for message in sample.get("output") or [])
    error = (sample.get("error") or {}).get("message", "")
    grades = "\n".join(f"{result.get('name')}: {_grade(result)}" for result in item.results)
    return (
        f'<article><b class="{escape(item.status)}">{escape(STATUSES.get(item.status, item.status))}</b> '
        f'<span class="small">row {item.datasource_item_id} &middot; {escape(item.id)}</span>{_block("asked", _text(asked))}'
        f"{_block('answered', said)}{_block('not answered', error)}{_block('grades', grades)}</article>"
    )


def _grade(result: Mapping[str, Any]) -> str:
    fault = result.get("error")
    if fault:
        return f"could not be graded ({fault.get('message', '') if isinstance(fault, Mapping) else fault})"
    score = result.get("score")
    number = f"{score:g}" if isinstance(score, int | float) else "no score"
    return f"{number}, {'passed' if result.get('passed') else 'failed'}"


def _block(name: str, text: str) -> str:
    return f'<div class="small">{name}</div><pre>{escape(text)}</pre>' if text else ""


def _text(value: Any) -> str:
    from pinetune.graders.template import as_text

    text = "" if value is None else as_text(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ... ({len(text) - SHOWN} more characters)"


def _moment(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
