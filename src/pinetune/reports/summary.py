"""summary.json: the numbers of a run for scripts, one flat file."""

from __future__ import annotations

import math
from typing import Any

from pinetune.evals.evaluate import Comparison
from pinetune.evals.selection import Selection
from pinetune.evals.statistics import PairedResult
from pinetune.records import EvalReport, Interval
from pinetune.reports.charts import interval_of
from pinetune.reports.evidence import Evidence, outcome, paired, verdict


def summarise(evidence: Evidence) -> dict[str, Any]:
    """`ranker` is null where the job has none; metrics other than `reward` are there where answers are ranked lists."""
    return {
        "base": _model(evidence.base, evidence.metrics),
        "ranker": _model(evidence.ranker, evidence.metrics) if evidence.ranker else None,
        "tuned": _model(evidence.tuned, evidence.metrics),
        "n": evidence.tuned.reward.n,
        "overlap_of_answers": evidence.overlap_of_answers,
        "steps": evidence.steps,
        "best_step": evidence.tuned.step,
        "seconds": round(evidence.seconds, 1),
        "model": evidence.model,
        "tuned_minus_base": _comparison(evidence.gain, evidence.metrics),
        "tuned_minus_ranker": _comparison(evidence.edge, evidence.metrics) if evidence.edge else None,
        "shown_to_be": outcome(evidence),
        "verdict": verdict(evidence),
        "smallest_difference": evidence.smallest_difference if math.isfinite(evidence.smallest_difference) else None,
        "choice_of_step": _choice(evidence.selection),
    }


def _choice(made: Selection | None) -> dict[str, Any] | None:
    """null where the step was chosen on other rows than these."""
    return None if made is None else {"tried": made.tried, "flattery_of_reward": made.flattery, "words": made.words()}


def _model(report: EvalReport, metrics: list[str]) -> dict[str, Any]:
    return {metric: _interval(interval_of(report, metric)) for metric in metrics}


def _comparison(comparison: Comparison, metrics: list[str]) -> dict[str, Any]:
    return {metric: _result(paired(comparison, metric)) for metric in metrics}


def _result(result: PairedResult) -> dict[str, Any]:
    return {**_interval(result.difference), "p_value": result.p_value}


def _interval(interval: Interval) -> dict[str, Any]:
    return {"value": interval.value, "ci95": [interval.low, interval.high]}
