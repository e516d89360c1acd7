"""After the loop: base and tuned on the same held-out rows, the finished weights, and the report.

The evidence rows are the test file's, on which no choice was made, or, without one, the validation file's: then the
report says that the step was chosen on them. Both models answer with the same seeds, drawn fresh for this comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from pinetune.evals.evaluate import build_report, evaluate, grade_answers
from pinetune.loop.config import eval_samples
from pinetune.loop.job import Prepared, evidence_options
from pinetune.loop.state import LoopState
from pinetune.models.export import check_export, save_adapter, save_merged
from pinetune.models.load import LoadedModel, load_model
from pinetune.records import EvalReport, Recorder, Row
from pinetune.reports.evidence import with_interval
from pinetune.reports.write import write_report
from pinetune.rollout.run import derive_seed
from pinetune.runs.folder import RunFolder
from pinetune.sampling.local import LocalSampler

Tool = Callable[[Row], str]  # an existing tool's answer to a row, in the form the grader expects


def finish(
    prepared: Prepared, folder: RunFolder, recorder: Recorder, state: LoopState, *, tool: Tool | None = None, held_out: str = ""
) -> dict[str, Any]:
    """Write model/, the final evals, report.html and summary.json; returns the summary ({} where no rows were held out).

    `tool`: a classical ranker to put beside the two models. `held_out`: what the evidence rows are called in the report.
    Raises BudgetSpent where judges have no budget left for the final evals; calling it again goes on from their cache.
    """
    export(prepared.loaded, folder)
    recorder.event("info", f"New fine-tuned model created: {folder.model}")
    rows = prepared.test or prepared.valid
    if not rows:
        recorder.event("warn", "There is no validation_file: nothing shows whether the model is better. Hold rows out: pinetune data split")
        return {}
    recorder.event("info", f"Comparing base and tuned model on {len(rows)} {'test' if prepared.test else 'validation'} rows")
    tuned, tuned_greedy = _evaluate(prepared, prepared.loaded, rows, "tuned", state.best_step if prepared.valid else state.step)
    base, base_greedy = _evaluate(prepared, _open_base(prepared), rows, "base", 0)
    ranker = _evaluate_tool(prepared, rows, tool) if tool else None
    for report in (base, tuned, base_greedy, tuned_greedy, *([ranker] if ranker else [])):
        folder.write_eval(report, f"final-{report.name}")
    summary = write_report(
        folder,
        base=base,
        tuned=tuned,
        ranker=ranker,
        model=prepared.body.model,
        held_out=held_out,
        overlap_of_answers=None if prepared.overlap is None or prepared.overlap.field is None else prepared.overlap.num_valid_rows,
        seconds=state.seconds,
        step_chosen_on_these_rows=not prepared.test,
        warnings=[_temperatures(base_greedy, tuned_greedy)],
        **evidence_options(prepared.body, rows),
    )
    if prepared.judges.was_asked:
        spent, known = prepared.judges.spending(), prepared.judges.from_cache
        recorder.event("info", f"Judges were asked {spent}; {known:,} answers of this session were known already")
    recorder.event("info", "The job has successfully completed")
    return summary


def _open_base(prepared: Prepared) -> LoadedModel:
    """The model as it was before training, in the precision of the tuned one: the comparison is of weights only."""
    dtype = str(prepared.loaded.base.dtype).removeprefix("torch.")
    return load_model(prepared.source, device=str(prepared.loaded.device), dtype=dtype)


def export(loaded: LoadedModel, folder: RunFolder) -> None:
    """model/, which opens anywhere, and under LoRA adapter/ too."""
    save_merged(loaded, folder.model)
    check_export(folder.model)
    if loaded.is_lora:
        save_adapter(loaded, folder.adapter)


def _evaluate(prepared: Prepared, loaded: LoadedModel, rows: Sequence[Row], name: str, step: int) -> tuple[EvalReport, EvalReport]:
    """At temperature 1, as the model was trained, and greedily: a gain by sharpness alone would vanish there."""
    sampler, params = LocalSampler(loaded), prepared.config.sampling()
    options = {"seed": derive_seed(prepared.config.seed, "evidence"), "step": step, **evidence_options(prepared.body, rows)}
    as_trained = evaluate(rows, sampler, prepared.grader, params=params, num_samples=eval_samples(len(rows)), name=name, **options)
    greedy = evaluate(rows, sampler, prepared.grader, params=replace(params, temperature=0.0), name=f"{name}-greedy", **options)
    return as_trained, greedy


def _temperatures(base: EvalReport, tuned: EvalReport) -> str:
    metric = "top1" if "top1" in base.metrics and "top1" in tuned.metrics else "reward"
    of = [with_interval(report.metrics.get(metric, report.reward), metric) for report in (base, tuned)]
    return (
        "Both models answered at temperature 1, as they were trained. Training also makes a model surer of itself; with greedy answers "
        f"(temperature 0) on the same rows {metric} is {of[0]} for the base and {of[1]} for the tuned model."
    )


def _evaluate_tool(prepared: Prepared, rows: Sequence[Row], tool: Tool) -> EvalReport:
    groups = grade_answers(rows, [tool(row) for row in rows], prepared.grader)
    return build_report(0, "ranker", groups, seconds=0.0, **evidence_options(prepared.body, rows))
