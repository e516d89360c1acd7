"""A finished run as report.html, report/*.png and summary.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pinetune.data.answers import find_answer_field
from pinetune.evals.selection import Selection, selection
from pinetune.records import EvalReport
from pinetune.reports.charts import numbers_chart, reward_chart, thinking_chart
from pinetune.reports.evidence import Evidence, gather, verdict
from pinetune.reports.page import Picture, render_page
from pinetune.reports.style import THEMES
from pinetune.reports.summary import summarise
from pinetune.runs.folder import RunFolder


def write_report(
    run: RunFolder,
    *,
    base: EvalReport,
    tuned: EvalReport,
    ranker: EvalReport | None = None,
    model: str,
    seconds: float,
    overlap_of_answers: int | None = None,
    answer_field: str | None = None,
    list_field: str | None = None,
    cluster_by_answer: bool = True,
    held_out: str = "",
    step_chosen_on_these_rows: bool = True,
    curve: Sequence[Mapping[str, Any]] | None = None,
    warnings: Sequence[str] = (),
    title: str = "",
) -> dict[str, Any]:
    """Write the report of a run and return its summary.

    `base`, `tuned` and `ranker` are of the same rows, with their groups; `tuned.step` is the step whose weights were kept.
    `ranker` is the comparison with an existing tool, where the task has one. `overlap_of_answers` counts the rows whose
    answer occurs in training (None: no answers); `answer_field`, `list_field` and `cluster_by_answer` are as in
    `evals.evaluate.build_report`. `held_out` says what the rows are ("held-out cases of genes never trained on").
    `step_chosen_on_these_rows` False: these rows were not looked at before. `curve` None: the run's own metrics.jsonl.
    Warnings of the run's events are shown with `warnings`. Raises ValueError where the reports are not of the same rows.
    """
    evidence = gather(
        base=base,
        tuned=tuned,
        ranker=ranker,
        curve=run.read_metrics() if curve is None else curve,
        model=model,
        held_out=held_out,
        overlap_of_answers=overlap_of_answers,
        seconds=seconds,
        step_chosen_on_these_rows=step_chosen_on_these_rows,
        answer_field=answer_field,
        list_field=list_field,
        cluster_by_answer=cluster_by_answer,
        selection=_selection(run, base, answer_field, cluster_by_answer) if step_chosen_on_these_rows else None,
    )
    pictures = {"numbers": _numbers(evidence)}
    if evidence.curve:
        pictures |= {"reward": _reward(evidence), "thinking": _thinking(evidence)}
    for name, picture in pictures.items():
        run.write_chart(name, picture.light)
    noted = [str(event["message"]) for event in run.read_events() if event["level"] in ("warn", "error")]
    page = render_page(
        evidence,
        list(pictures.values()),
        title=title or f"Fine-tuning report: {evidence.model}",
        job=run.read_job() if run.job_file.exists() else {},
        provenance=run.read_provenance() if run.provenance_file.exists() else {},
        warnings=[*warnings, *noted],
    )
    run.write_report(page)
    summary = summarise(evidence)
    run.write_summary(summary)
    return summary


def _selection(run: RunFolder, base: EvalReport, answer_field: str | None, cluster_by_answer: bool) -> Selection:
    """What choosing the step on these rows adds to its score."""
    field = answer_field or find_answer_field([group.row for group in base.groups])
    return selection([run.read_eval(step) for step in run.eval_steps()], field, cluster_by_answer)


def _numbers(evidence: Evidence) -> Picture:
    drawn = {name: numbers_chart(evidence.base, evidence.tuned, evidence.ranker, theme) for name, theme in THEMES.items()}
    return Picture(f"Bar chart. {verdict(evidence)}", drawn["light"], drawn["dark"], wide=True)


def _reward(evidence: Evidence) -> Picture:
    drawn = {name: reward_chart(evidence.curve, theme, evidence.tuned.step) for name, theme in THEMES.items()}
    before, after = evidence.base.reward.value, evidence.tuned.reward.value
    alt = f"Line chart of the reward over {evidence.steps} steps; on held-out rows it went from {before:.2f} to {after:.2f}."
    return Picture(alt, drawn["light"], drawn["dark"])


def _thinking(evidence: Evidence) -> Picture:
    drawn = {name: thinking_chart(evidence.curve, theme) for name, theme in THEMES.items()}
    before, after = evidence.base.reasoning_tokens_mean, evidence.tuned.reasoning_tokens_mean
    alt = f"Line chart of the mean tokens of thinking over training; on held-out rows they went from {before:.0f} to {after:.0f}."
    return Picture(alt, drawn["light"], drawn["dark"])
