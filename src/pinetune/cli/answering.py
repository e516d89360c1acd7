"""What `pinetune vote` and `pinetune rerank` ask with: model, grader and sampling, from flags or from the run that made the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pinetune.cli.grader_input import GraderInput, read_grader
from pinetune.errors import UserError
from pinetune.models.names import find_model
from pinetune.records import SamplingParams
from pinetune.runs.folder import RunFolder

if TYPE_CHECKING:
    from pinetune.sampling.local import LocalSampler

MAX_TOKENS = 512
THINKING_SHARE = 0.75  # as in jobs whose reasoning_effort is "default"


@dataclass(frozen=True, slots=True)
class Answering:
    """`run` is the run folder the model was named by, or None. `evidence` goes to `evals.evaluate`."""

    source: str
    grader: GraderInput
    grader_file: Path  # judges' settings are looked for beside it
    params: SamplingParams
    run: RunFolder | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def sampler(self) -> LocalSampler:
        from pinetune.models.load import load_model
        from pinetune.sampling.local import LocalSampler

        return LocalSampler(load_model(self.source))


def answering(
    model: str, grader: Path | None, *, max_tokens: int | None = None, thinking_budget: int | None = None, answer_field: str | None = None
) -> Answering:
    """A run folder brings the grader, the sampling settings and the response format of its job; flags win.

    Raises UserError where there is no grader to be found, ModelError for the model.
    """
    run = RunFolder(model)
    job = run.read_job() if run.exists() else None
    if job is None and grader is None:
        raise UserError(f"{model} is no run folder, which would bring its grader; give one: --grader GRADER.json")
    method = job["body"].get("method", {}).get("reinforcement", {}) if job else {}
    if grader is not None:
        found, file = read_grader(grader), grader
    elif "grader" in method:
        found, file = _of_job(job["body"], method), run.job_file  # type: ignore[index]
    else:
        raise UserError(f"{run.job_file}: this job has no grader; give one: --grader GRADER.json")
    resolved = job["resolved"] if job else {}
    own = found.own or {}
    most = max_tokens or resolved.get("max_tokens") or MAX_TOKENS
    budget = resolved.get("thinking_budget", int(THINKING_SHARE * most)) if thinking_budget is None else thinking_budget
    params = SamplingParams(
        max_tokens=most, thinking_budget=min(budget, most), stop=tuple(resolved.get("stop") or ()), json_schema=found.schema
    )
    evidence = {
        "answer_field": answer_field or own.get("answer_field"),
        "cluster_by_answer": not own.get("allow_answer_overlap", False),
    }
    return Answering(find_model(model), found, file, params, run if job else None, evidence)


def _of_job(body: Mapping[str, Any], method: Mapping[str, Any]) -> GraderInput:
    schema = ((method.get("response_format") or {}).get("json_schema") or {}).get("schema")
    return GraderInput(method["grader"], schema, body.get("pinetune") or {})
