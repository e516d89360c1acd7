"""`pinetune ablate`: each control arm as an ordinary run folder under `out`; what is finished is not done again.

    out/job  out/random  out/format  out/sft  out/prompt    and out/ablation.json

The random and the format arm are the same job with another grader; SFT learns the reference answers; the prompt arm trains nothing.
All are judged by the job's own grader, on the same rows with the same seeds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pinetune.bench.forms import Form
from pinetune.bench.options import BenchOptions
from pinetune.bench.paid import paid_form
from pinetune.data.answers import find_answer_field
from pinetune.data.rows import write_rows
from pinetune.errors import JobError
from pinetune.evals.evaluate import align, compare, evaluate
from pinetune.loop.ablation.controls import FormatCheck, FormatGrader, RandomGrader, format_check
from pinetune.loop.ablation.fewshot import candidates, choice_rows, with_shots
from pinetune.loop.ablation.report import AblationReport, Arm
from pinetune.loop.ablation.split import split_gain
from pinetune.loop.config import eval_samples, parse_job
from pinetune.loop.finish import finish
from pinetune.loop.job import Prepared, evidence_options, open_run, prepare, run_prepared
from pinetune.loop.methods import method_of
from pinetune.models.load import LoadedModel, load_model
from pinetune.records import EvalReport, Grader, Recorder, Row
from pinetune.rollout.run import derive_seed
from pinetune.runs.files import write_json
from pinetune.runs.folder import RunFolder
from pinetune.sampling.local import LocalSampler

OpenRecorder = Callable[[RunFolder], AbstractContextManager[Recorder]]
ARMS = {
    "job": "The job as it is",
    "random": "The same job with a coin for a grader",
    "format": "The same job paid for form only",
    "sft": "Supervised training on the reference answers",
    "prompt": "The base with worked examples in its prompt",
}
TRAINED = ("job", "random", "format")  # run folders of this very job, whatever their grader
SFT_OPTIONS = ("device", "dtype", "threads", "lora", "micro_batch_tokens")  # of the job's "pinetune" section
FINAL = "final-tuned"
SEED = 1  # where the job names none: every arm must draw alike


class Stopped(Exception):
    """A person asked to stop; the same command goes on."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all arms use."""

    raw: Mapping[str, Any]
    beside: Path
    out: Path
    open_recorder: OpenRecorder
    form: Form | None  # how right answers are written; None where none is paid
    check: FormatCheck
    format_asked: str


def ablate(
    raw: Mapping[str, Any], beside: Path, out: Path, open_recorder: OpenRecorder, arms: Sequence[str] = tuple(ARMS)
) -> AblationReport:
    """Run the arms that are not finished yet, in order, and compare. The job itself is always among them.

    Raises JobError for unknown arms, a job without held-out rows or an `out` of another job, Stopped where a person asked to.
    """
    unknown = [name for name in arms if name not in ARMS]
    if unknown:
        raise JobError(f"unknown arm {unknown[0]!r}; known are {', '.join(ARMS)}")
    wanted = [name for name in ARMS if name in arms or name == "job"]
    raw = {**raw, "seed": raw.get("seed") if raw.get("seed") is not None else SEED}
    skipped: dict[str, str] = {}
    shared = None
    for name in wanted:
        prepared = prepare(raw, beside)
        try:
            if not (prepared.test or prepared.valid):
                raise JobError("the controls need held-out rows to be judged on (pinetune data split)", "validation_file")
            shared = shared or _shared(raw, beside, out, open_recorder, prepared)
            if not _is_done(out / name):
                skipped |= _run(name, shared, prepared)
            elif name in TRAINED:
                open_run(prepared, out / name)  # refuses what another job left there
        finally:
            prepared.close()
    assert shared is not None
    report = _report(shared, wanted, skipped)
    write_json(out / "ablation.json", json.loads(json.dumps(report.as_json(), default=str)))
    return report


def _shared(raw: Mapping[str, Any], beside: Path, out: Path, open_recorder: OpenRecorder, prepared: Prepared) -> Shared:
    reinforcement, field = prepared.body.method.reinforcement, prepared.body.pinetune.answer_field or find_answer_field(prepared.train)
    schema = prepared.config.json_schema
    options = BenchOptions(answer_field=field, definition=reinforcement.grader, schema=schema)
    form = paid_form(prepared.grader, prepared.train, field, options) if field else None
    check, asked = format_check(schema, form.write(prepared.train[0]) if form else None)
    return Shared(raw, beside, out, open_recorder, form, check, asked)


def _is_done(folder: Path) -> bool:
    return (RunFolder(folder).evals / f"{FINAL}.json").exists()


def _run(name: str, shared: Shared, prepared: Prepared) -> dict[str, str]:
    """{} or {name: why it makes no sense for this job}."""
    if name in ("sft", "prompt") and shared.form is None:
        return {name: "no form of the reference answers is paid by the grader, so there are no answers to show"}
    if name == "sft":
        _sft(shared, prepared)
    elif name == "prompt":
        _prompt(shared, prepared)
    else:
        graders: dict[str, Grader] = {"random": RandomGrader(prepared.config.seed), "format": FormatGrader(shared.check)}
        _train(shared, prepared, name, graders.get(name, prepared.grader))
    return {}


def _train(shared: Shared, prepared: Prepared, name: str, grader: Grader) -> None:
    """Trained and steered by the arm's grader, judged by the job's."""
    folder = open_run(prepared, shared.out / name)
    with shared.open_recorder(folder) as recorder:
        state = run_prepared(replace(prepared, grader=grader), folder, recorder)
        if state.stop_reason == "stopped":
            raise Stopped
        finish(prepared, folder, recorder, state)


def _sft(shared: Shared, prepared: Prepared) -> None:
    assert shared.form is not None
    folder = shared.out / "sft-data"
    files = {"training_file": prepared.train, **({"validation_file": prepared.valid} if prepared.valid else {})}
    body: dict[str, Any] = {"model": shared.raw["model"], "seed": prepared.config.seed, "method": {"type": "supervised"}}
    for role, rows in files.items():
        body[role] = f"{role.removesuffix('_file')}.jsonl"
        write_rows(folder / body[role], [_worked(row, shared.form) for row in rows])
    own = shared.raw.get("pinetune", {})
    body["pinetune"] = {key: own[key] for key in SFT_OPTIONS if key in own}
    prepare_sft, _ = method_of(body)
    job = prepare_sft(body, folder, prepared.source)
    run = job.open_run(shared.out / "sft")
    with shared.open_recorder(run) as recorder:
        state = job.run(run, recorder)
        if state.stop_reason == "stopped":
            raise Stopped
        job.finish(run, recorder, state)
        recorder.evaluation(_judge(prepared, load_model(str(run.model), device=str(prepared.loaded.device), dtype="float32"), FINAL))


def _worked(row: Row, form: Form) -> dict[str, Any]:
    tools = {"tools": list(row.tools)} if row.tools else {}
    return {"messages": [*map(dict, row.messages), {"role": "assistant", "content": form.write(row)}], **tools}


def _prompt(shared: Shared, prepared: Prepared) -> None:
    """The choice is made on validation rows (training rows where there are none), the evidence on the others, as for every arm."""
    assert shared.form is not None
    write, sampler = shared.form.write, LocalSampler(prepared.loaded)
    evidence = prepared.test or prepared.valid
    room = (prepared.loaded.context_length or 10**9) - prepared.config.max_tokens
    best, best_reward, tried = None, -1.0, 0
    for shots in candidates(prepared.train, prepared.config.seed):
        chosen_on = choice_rows(prepared.train, prepared.valid, shots)
        rows = {"choice": [with_shots(row, shots, write) for row in chosen_on], "all": [with_shots(r, shots, write) for r in evidence]}
        if max(len(prepared.loaded.chat.render(row).token_ids) for of in rows.values() for row in of) > room:
            continue
        report = evaluate(
            rows["choice"], sampler, prepared.grader, params=prepared.config.sampling(), seed=derive_seed(prepared.config.seed, "few-shot"),
            name="choice", **evidence_options(prepared.body, chosen_on),
        )  # fmt: skip
        tried += 1
        if report.reward.value > best_reward:
            best, best_reward = shots, report.reward.value
    assert best is not None  # the plain prompt always fits: the job was checked
    run = RunFolder(shared.out / "prompt")
    with shared.open_recorder(run) as recorder:
        run.write_job({"body": dict(shared.raw), "few_shot": {"chosen": best.name, "lines": [r.line for r in best.rows], "tried": tried}})
        judged = len(choice_rows(prepared.train, prepared.valid, best))
        recorder.event("info", f"Best of {tried} prompts on {judged} rows: {best.name} (reward {best_reward:.2f})")
        recorder.evaluation(_judge(prepared, prepared.loaded, FINAL, [with_shots(row, best, write) for row in evidence]))


def _judge(prepared: Prepared, loaded: LoadedModel, name: str, rows: Sequence[Row] | None = None) -> EvalReport:
    """As `finish` judges the job: the same rows, seeds and number of samples."""
    evidence = rows or prepared.test or prepared.valid
    return evaluate(
        evidence,
        LocalSampler(loaded),
        prepared.grader,
        params=prepared.config.sampling(),
        num_samples=eval_samples(len(evidence)),
        seed=derive_seed(prepared.config.seed, "evidence"),
        name=name,
        **evidence_options(prepared.body, evidence),
    )


def _report(shared: Shared, wanted: Sequence[str], skipped: Mapping[str, str]) -> AblationReport:
    base = RunFolder(shared.out / "job").read_eval("final-base")
    body = parse_job(shared.raw)
    fields = evidence_options(body, [group.row for group in base.groups])
    done = {name: RunFolder(shared.out / name).read_eval(FINAL) for name in wanted if name not in skipped}
    base, *others = align([base, *done.values()], **fields)
    reports = dict(zip(done, others, strict=True))
    job = reports["job"]
    arms = [Arm("base", "The base model", base.reward, base.metrics)]
    for name in wanted:
        if name in skipped:
            arms.append(Arm(name, ARMS[name], None, skipped=skipped[name]))
            continue
        report = reports[name]
        under = None if name == "job" else compare(report, job, **fields).reward
        arms.append(
            Arm(name, ARMS[name], report.reward, report.metrics, compare(base, report, **fields).reward, under, _detail(shared.out / name))
        )
    split = split_gain(base, job, shared.check, **fields)
    which = "test" if body.pinetune.test_file else "validation"
    return AblationReport(tuple(arms), split, shared.format_asked, f"{job.reward.n} {which} rows")


def _detail(folder: Path) -> str:
    run = RunFolder(folder)
    chosen = run.read_job().get("few_shot") if run.job_file.exists() else None
    if chosen:
        return f"best of {chosen['tried']} prompts: {chosen['chosen']}"
    return f"best step {run.read_summary()['best_step']}" if run.summary_file.exists() else ""
