"""The example transcripts of the page: the same row, base and tuned side by side."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from pinetune.data.answers import lookup, normalise
from pinetune.evals.ranking import ranked_list
from pinetune.records import Rollout
from pinetune.reports.evidence import Evidence
from pinetune.reports.examples import Example, meaning_of_right, pick

CHIPS = 12  # entries of a ranked list that are shown; the rest is a number


def transcripts_section(evidence: Evidence) -> str:
    examples, turned = pick(evidence)
    total = turned.learned + turned.lost + turned.both + turned.neither
    counts = (
        f"Of {total} rows, {turned.learned} went from wrong to right, {turned.lost} from right to wrong; "
        f"{turned.both} were right and {turned.neither} wrong in both. Right means: {meaning_of_right(evidence)}, "
        "in the first sample of a row. The rows below are the first of their kind in the file; nobody picked them."
    )
    shown = "".join(_example(evidence, example) for example in examples)
    return f'<h2>Before and after</h2><p class="note">{escape(counts)}</p>{shown}'


def _example(evidence: Evidence, example: Example) -> str:
    row = example.row.row
    prompt = "\n\n".join(_message(message) for message in row.messages)
    expected = lookup(row.item, evidence.answer_field) if evidence.answer_field else None
    return (
        f'<article class="card example"><h3>{escape(example.title)} ({f"line {row.line}" if row.line else f"row {row.index}"})</h3>'
        f'<div class="label">Prompt</div><pre>{escape(prompt)}</pre>'
        + (f'<div class="label">Right answer</div><div><code>{escape(_plain(expected))}</code></div>' if expected is not None else "")
        + '<div class="sides">'
        + _side(evidence, example, example.base, "base", "Base", example.base_right)
        + _side(evidence, example, example.tuned, "tuned", "Tuned", example.tuned_right)
        + "</div></article>"
    )


def _side(evidence: Evidence, example: Example, rollout: Rollout, colour: str, name: str, right: bool) -> str:
    completion = rollout.completion
    head = f"{'✓ right' if right else '✗ wrong'}, reward {rollout.grade.value:.2f}, {completion.reasoning_tokens} tokens of thinking"
    if completion.finish == "length":
        head += ", cut off at the token limit"
    thinking = f'<div class="label">Thinking</div><pre>{escape(completion.reasoning.strip())}</pre>' if completion.reasoning.strip() else ""
    return (
        f'<section class="side" style="--colour:var(--{colour})"><h4>{name} <span>{escape(head)}</span></h4>{thinking}'
        f'<div class="label">Answer</div>{_answer(evidence, example, completion.answer)}</section>'
    )


def _answer(evidence: Evidence, example: Example, answer: str) -> str:
    raw = f"<pre>{escape(answer.strip()) or '(empty)'}</pre>"
    listed = ranked_list(answer, evidence.ranking.list_field) if evidence.ranking else None
    if evidence.ranking is None or not listed:
        return raw
    wanted = normalise(str(lookup(example.row.row.item, evidence.ranking.answer_field)))
    chips = "".join(
        f"<li{' class=hit' if normalise(name) == wanted else ''}><b>{place}</b>{escape(name)}</li>"
        for place, name in enumerate(listed[:CHIPS], 1)
    )
    more = f"<li>and {len(listed) - CHIPS} more</li>" if len(listed) > CHIPS else ""
    return f'<ol class="ranked">{chips}{more}</ol><details><summary>As written</summary>{raw}</details>'


def _message(message: Any) -> str:
    content = message.get("content")
    return f"{message.get('role', '')}: {content if isinstance(content, str) else _plain(content)}"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
