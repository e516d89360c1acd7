"""What the run will take: hours, memory, disk, and what judges are paid. Estimates, from what this machine just did."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from pinetune.bench.report import Cost
from pinetune.preflight.report import Finding, Part, Verdict

BACKWARD = 3.0  # a forward and a backward pass take three times the forward one (two products of matrices for one)
WEIGHTS, GRADIENTS, MOMENTS = 4, 4, 8  # bytes a parameter: float32, and AdamW's two moments
CHECKPOINTS = 4  # the best, the newest two, and the one being written
FINAL_EVALS = 4  # base and tuned, each at temperature 1 and greedily
ROLLOUT_BYTES = 12  # a token of a completion in the rollouts file: its text and its share of the columns
TIGHT = 0.7  # of the memory or the free disk


@dataclass(frozen=True, slots=True)
class Load:
    """The job in numbers."""

    steps: int
    rollouts_a_step: int
    evals: int  # during training, the first included
    rollouts_an_eval: int
    rollouts_final: int  # of each final evaluation
    parameters: int
    trained_parameters: int
    activation_bytes: int  # of one micro-batch
    seconds_a_rollout: float  # sampled and graded
    forward_seconds: float  # of scoring one completion
    tokens_a_rollout: float
    budget_minutes: float
    memory_bytes: int
    device: str


def check_cost(load: Load, judge: Cost | None, out: Path) -> Part:
    """`judge`: what the bench measured of one grade; `out`: a folder on the disk that will hold the run."""
    step = load.rollouts_a_step * (load.seconds_a_rollout + BACKWARD * load.forward_seconds)
    evals = load.seconds_a_rollout * (load.evals * load.rollouts_an_eval + FINAL_EVALS * load.rollouts_final)
    rollouts = load.steps * load.rollouts_a_step + load.evals * load.rollouts_an_eval + FINAL_EVALS * load.rollouts_final
    memory = load.parameters * WEIGHTS + load.trained_parameters * (GRADIENTS + MOMENTS) + load.activation_bytes
    disk = (
        CHECKPOINTS * load.trained_parameters * (WEIGHTS + MOMENTS)
        + load.parameters * WEIGHTS
        + int(rollouts * load.tokens_a_rollout * ROLLOUT_BYTES)
    )
    free = shutil.disk_usage(out).free
    findings = [
        _time(load, step, evals),
        _fits(
            "memory", memory, load.memory_bytes, f"this {load.device} has", "lower micro_batch_tokens, use LoRA, or take a smaller model"
        ),
        _fits("disk", disk, free, "that are free", "free some, or put the run elsewhere (--out)"),
    ]
    figures: dict[str, float | None] = {
        "seconds_a_step": step,
        "seconds": step * load.steps + evals,
        "memory_bytes": memory,
        "memory_there_bytes": load.memory_bytes,
        "disk_bytes": disk,
        "disk_free_bytes": free,
        "grades": rollouts,
    }
    if judge is not None and judge.prompt_tokens is not None and judge.completion_tokens is not None:
        tokens = (judge.prompt_tokens + judge.completion_tokens) * rollouts / 1000
        dollars = None if judge.dollars is None else judge.dollars * rollouts / 1000
        figures |= {"judge_tokens": tokens, "judge_dollars": dollars}
        findings.append(_judges(rollouts, tokens, dollars))
    return Part("cost", tuple(findings), figures)


def _time(load: Load, step: float, evals: float) -> Finding:
    whole = step * load.steps + evals
    said = f"time: about {_duration(step)} a step, {_duration(whole)} for {load.steps} steps with evaluations, on a machine as busy as now"
    budget = load.budget_minutes * 60
    if whole > budget:
        share = max(0.0, budget - evals) / max(1e-9, step * load.steps)
        return Finding("look", "time", f"{said}; the budget of {_duration(budget)} ends it after about {share:.0%} of the steps")
    return Finding("ok", "time", said)


def _fits(kind: str, needed: int, there: int, where: str, advice: str) -> Finding:
    said = f"{kind}: about {_size(needed)} of the {_size(there)} {where}"
    if needed > there:
        return Finding("stop", kind, f"{said}: it does not fit; {advice}")
    return Finding("look" if needed > TIGHT * there else "ok", kind, said if needed <= TIGHT * there else f"{said}: tight; {advice}")


def _judges(grades: int, tokens: float, dollars: float | None) -> Finding:
    money = f", {dollars:,.2f} US dollars" if dollars is not None else "; give judge_prices to see the money"
    verdict: Verdict = "ok" if dollars is not None else "look"
    return Finding(verdict, "judges", f"judges: about {grades:,} grades, {tokens:,.0f} tokens{money} (set judge_budget_usd to be safe)")


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if count >= 10 or unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
