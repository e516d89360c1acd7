"""A job file to a run folder: check everything, put the parts together, run the loop, write the evidence.

    JOB.json -> rows, model, grader (all checked before anything is computed) -> loop.run -> finish

This is the only place that knows concrete rooms; `loop.run` sees protocols.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pinetune.data.answers import find_answer_field, lookup, normalise
from pinetune.data.leakage import Overlap, check_disjoint, looks_closed
from pinetune.data.rows import check_lengths, load_rows
from pinetune.errors import JobError
from pinetune.evals.evaluate import evaluate
from pinetune.graders.build import build_grader
from pinetune.graders.verdict import hide_headers
from pinetune.judges.service import JudgeService
from pinetune.loop.alarms.watch import AlarmRecorder
from pinetune.loop.checkpoints import LearnerCheckpoints
from pinetune.loop.config import JobFacts, TrainConfig, parse_job, resolve
from pinetune.loop.judging import check_judges, judge_service
from pinetune.loop.run import Parts, run
from pinetune.loop.state import LoopState
from pinetune.models.load import LoadedModel, LoraSettings, Reader, load_model
from pinetune.models.names import find_model
from pinetune.records import EvalReport, Grader, Recorder, Row
from pinetune.rollout.run import derive_seed
from pinetune.runs.files import PARTIAL
from pinetune.runs.folder import RunFolder
from pinetune.runs.provenance import describe_file, json_sha256, provenance
from pinetune.sampling.local import LocalSampler
from pinetune.training.advantages import ADVANTAGES
from pinetune.training.learner import GrpoLearner
from pinetune.training.losses import LOSSES, LossSettings
from pinetune.training.pack import batch_to_samples
from pinetune.training.settings import LearnerSettings
from pinetune.wire.fine_tuning import JobBody, LoraOptions, PinetuneOptions

UNKNOWN_CONTEXT = 32_768  # for models that do not state theirs
LEAST_ANSWER = 64  # tokens a prompt must leave free when max_tokens is "auto"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A job that was checked: nothing in it can be wrong any more but what only running shows."""

    body: JobBody
    raw: Mapping[str, Any]
    files: Mapping[str, Path]
    train: list[Row]
    valid: list[Row]
    test: list[Row]
    overlap: Overlap | None
    source: str
    loaded: LoadedModel
    grader: Grader
    config: TrainConfig
    judges: JudgeService

    def close(self) -> None:
        """Give back what the grader and the judges hold."""
        self.grader.close()
        self.judges.close()


@dataclass(frozen=True, slots=True)
class Checked:
    """A job of which everything was checked that can be without the model's weights."""

    body: JobBody
    files: Mapping[str, Path]
    rows: dict[str, list[Row]]  # role -> rows
    overlap: Overlap | None
    source: str
    grader: Grader
    judges: JudgeService

    def close(self) -> None:
        self.grader.close()
        self.judges.close()


def read_job_file(path: Path) -> dict[str, Any]:
    """The JSON object in `path`. Raises JobError with line and column."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise JobError(f"{path}: no such file; give the JSON body of a fine-tuning job") from None
    except (IsADirectoryError, PermissionError, UnicodeDecodeError) as error:
        raise JobError(f"{path}: cannot be read ({error}); give the JSON body of a fine-tuning job") from None
    except json.JSONDecodeError as error:
        raise JobError(f"{path}:{error.lineno}: not valid JSON at column {error.colno}: {error.msg}") from None
    if not isinstance(data, dict):
        raise JobError(f"{path}: a job is a JSON object with model, training_file and method, not {type(data).__name__}")
    return data


def prepare(
    raw: Mapping[str, Any], beside: Path, *, seed: int | None = None, trusted_grader: bool = False, source: str | None = None
) -> Prepared:
    """Check the job `raw` with file paths relative to `beside`, load data and model, resolve every "auto".

    `seed` is used where the body has none; `source` is where the weights are, for a caller who knows.
    Raises JobError, DataError, GraderError, ModelError or MissingToolError.
    """
    checked = check(raw, beside, trusted_grader=trusted_grader, source=source)
    body, rows = checked.body, checked.rows
    try:
        seed = body.seed if body.seed is not None else secrets.randbelow(2**31) if seed is None else seed
        loaded, config = _load(body, checked.source, checked.files, rows, seed)
    except BaseException:
        checked.close()
        raise
    return Prepared(
        body, raw, checked.files, rows["training_file"], rows.get("validation_file", []), rows.get("test_file", []),
        checked.overlap, checked.source, loaded, checked.grader, config, checked.judges,
    )  # fmt: skip


def check(raw: Mapping[str, Any], beside: Path, *, trusted_grader: bool = False, source: str | None = None) -> Checked:
    """The first half of `prepare`: the body, the grader, the files, where the model is. To be closed."""
    body = parse_job(raw)
    _check_names(body)
    judges = judge_service(body.pinetune, beside)
    grader = build_grader(
        body.method.reinforcement.grader,
        trusted=trusted_grader,
        unsafe_python=body.pinetune.unsafe_python_graders,
        json_answers=body.method.reinforcement.response_format is not None,
        services=judges.services(),
        endpoint_seconds=body.pinetune.endpoint_timeout,
        path="method.reinforcement.grader",
    )
    try:
        check_judges(body.method.reinforcement.grader, judges, beside)
        files = _files(body, beside)
        rows = {role: load_rows(path) for role, path in files.items()}
        overlap = _check_overlaps(body, files, rows)
        body = _without_labels(body, overlap)
        source = source or find_model(body.model, beside)
    except BaseException:
        grader.close()
        judges.close()
        raise
    return Checked(body, files, rows, overlap, source, grader, judges)


def open_run(prepared: Prepared, out: Path) -> RunFolder:
    """The run folder, new or of the very same job. Raises JobError when `out` holds another job or foreign files."""
    folder = RunFolder(out)
    if folder.exists():
        if folder.read_job().get("sha256") != _identity(prepared):
            raise JobError(f"{out} holds another job (other data, grader or settings); choose another --out, or remove it to start anew")
        return folder
    if out.exists() and not out.is_dir():
        raise JobError(f"{out} is a file; choose a folder as --out")
    if out.is_dir() and any(not path.name.endswith(PARTIAL) for path in out.iterdir()):  # one killed while it began may have left that
        raise JobError(f"{out} is not empty and holds no job; choose another --out")
    data_files = {role: str(path) for role, path in prepared.files.items()}
    grader = prepared.body.method.reinforcement.grader
    folder.write_job({"body": hide_headers(prepared.raw), "resolved": prepared.config.printed(), "sha256": _identity(prepared)})
    folder.write_provenance(provenance(model=prepared.source, data_files=data_files, grader=grader, seed=prepared.config.seed))
    return folder


def run_prepared(prepared: Prepared, folder: RunFolder, recorder: Recorder, *, keep_best: int = 1) -> LoopState:
    """Train to the end, or until asked to stop; the best weights are then in `prepared.loaded`.

    `keep_best`: how many checkpoints stay, by held-out reward, besides the newest two.
    """
    prepared.judges.keep_account(folder.judges_file)
    learner = GrpoLearner(prepared.loaded, _learner_settings(prepared))
    sampler = LocalSampler(prepared.loaded)
    checkpoints = LearnerCheckpoints(folder, learner, prepared.loaded, keep_best)
    parts = Parts(
        sampler=sampler,
        learner=learner,
        grader=prepared.grader,
        recorder=AlarmRecorder(recorder, folder),
        checkpoints=checkpoints,
        to_samples=partial(batch_to_samples, advantage=ADVANTAGES[prepared.config.advantage]),
        evaluate=_held_out(prepared, sampler) if prepared.valid else None,
    )
    return run(prepared.config, prepared.train, parts)


def _held_out(prepared: Prepared, sampler: LocalSampler) -> Callable[[int], EvalReport]:
    """The same rows with the same seeds at every step, so that two steps differ by their weights only."""

    def held_out(step: int) -> EvalReport:
        return evaluate(
            prepared.valid,
            sampler,
            prepared.grader,
            params=prepared.config.sampling(),
            num_samples=prepared.config.eval_samples,
            seed=derive_seed(prepared.config.seed, "valid"),
            step=step,
            **evidence_options(prepared.body, prepared.valid),
        )

    return held_out


def evidence_options(body: JobBody, held_out: Sequence[Row]) -> dict[str, Any]:
    """Where the answers are, and whether rows with the same answer vary together, which makes intervals wider.

    They do unless the job says otherwise, or allows answers to recur and those of `held_out` look like a closed set (yes/no,
    labels): 200 such rows would count as two facts. That answers may recur is no reason by itself: a server allows it to all.
    """
    own = body.pinetune
    together = own.cluster_by_answer
    if together is None:
        field = own.answer_field or find_answer_field(held_out)
        answers = {normalise(lookup(row.item, field)) for row in held_out} if field else set()
        together = not (own.allow_answer_overlap and answers and looks_closed(len(answers), len(held_out)))
    return {"answer_field": own.answer_field, "cluster_by_answer": together}


def _check_names(body: JobBody) -> None:
    for name, table, param in ((body.pinetune.advantage, ADVANTAGES, "advantage"), (body.pinetune.loss, LOSSES, "loss")):
        if name not in table:
            raise JobError(f"unknown {param} {name!r}; known are {', '.join(sorted(table))}", f"pinetune.{param}")


def _files(body: JobBody, beside: Path) -> dict[str, Path]:
    named = {"training_file": body.training_file, "validation_file": body.validation_file, "test_file": body.pinetune.test_file}
    files = {}
    for role, name in named.items():
        if name is None:
            continue
        path = beside / Path(name).expanduser()
        if not path.is_file():
            param = "pinetune.test_file" if role == "test_file" else role
            raise JobError(f"{path}: no such file; give the path of a JSONL file, relative to the job file or absolute", param)
        files[role] = path
    return files


def _check_overlaps(body: JobBody, files: Mapping[str, Path], rows: Mapping[str, list[Row]]) -> Overlap | None:
    """No answer to be learned by heart: held-out answers must not occur in training, test answers in neither."""
    own, found = body.pinetune, None
    for earlier, later in (("training_file", "validation_file"), ("training_file", "test_file"), ("validation_file", "test_file")):
        if earlier in rows and later in rows:
            overlap = check_disjoint(
                rows[earlier], rows[later], own.answer_field, allow_answer_overlap=own.allow_answer_overlap,
                train_file=str(files[earlier]), valid_file=str(files[later]),
            )  # fmt: skip
            found = overlap if earlier == "training_file" else found
    return found


def _without_labels(body: JobBody, overlap: Overlap | None) -> JobBody:
    """Answers of which none recurs in training are no labels, however few: their rows vary together (`evidence_options`)."""
    own = body.pinetune
    if own.cluster_by_answer is not None or overlap is None or overlap.answer_pairs:
        return body
    return body.model_copy(update={"pinetune": own.model_copy(update={"cluster_by_answer": True})})


def _load(
    body: JobBody, source: str, files: Mapping[str, Path], rows: Mapping[str, list[Row]], seed: int
) -> tuple[LoadedModel, TrainConfig]:
    """The model as the job trains it, and the settings its size and the prompts' lengths decide."""
    own = body.pinetune
    if own.threads != "auto":
        torch.set_num_threads(int(own.threads))
    loaded = load_model(source, device=own.device, dtype="float32")
    if loaded.is_lora and isinstance(own.lora, LoraOptions):
        raise JobError(f"{body.model} already has an adapter, which is trained on as it is; leave lora out", "pinetune.lora")
    config = resolve(body, _facts(loaded, own, files, rows), seed)
    if config.lora_rank and not loaded.is_lora:
        # The frozen base may be bfloat16 on a GPU; trained weights stay float32, where a small step is not rounded away.
        dtype = "float32" if loaded.device.type == "cpu" else own.dtype
        settings = LoraSettings(rank=config.lora_rank, alpha=config.lora_alpha)
        del loaded  # before the second copy: only one fits into memory
        loaded = load_model(source, device=own.device, dtype=dtype, lora=settings, seed=seed)
    return loaded, config


def _facts(loaded: LoadedModel, own: PinetuneOptions, files: Mapping[str, Path], rows: Mapping[str, list[Row]]) -> JobFacts:
    return JobFacts(
        num_train=len(rows["training_file"]),
        num_valid=len(rows.get("validation_file", [])),
        num_parameters=sum(p.numel() for p in loaded.model.parameters()),
        context_length=loaded.context_length or UNKNOWN_CONTEXT,
        longest_prompt=longest_prompt(loaded, own, files, rows),
        on_gpu=loaded.device.type == "cuda",
        adapter_rank=_adapter_rank(loaded),
    )


def longest_prompt(model: LoadedModel | Reader, own: PinetuneOptions, files: Mapping[str, Path], rows: Mapping[str, list[Row]]) -> int:
    """In tokens. Raises DataError naming each row that leaves no room for an answer."""
    context = model.context_length or UNKNOWN_CONTEXT
    limit = context - (LEAST_ANSWER if own.max_tokens == "auto" else int(own.max_tokens))
    limit = limit if own.max_prompt_tokens == "auto" else min(limit, int(own.max_prompt_tokens))
    longest = 0
    for role, of_role in rows.items():
        lengths = check_lengths(of_role, lambda row: len(model.chat.render(row).token_ids), limit, file=str(files[role]))
        longest = max(longest, *lengths)
    return longest


def _adapter_rank(loaded: LoadedModel) -> int:
    """The rank of the adapter a model came with; 0 = plain weights."""
    return next(iter(loaded.model.peft_config.values())).r if loaded.is_lora else 0


def _learner_settings(prepared: Prepared) -> LearnerSettings:
    config = prepared.config
    return LearnerSettings(
        learning_rate=config.learning_rate,
        loss=config.loss,
        loss_settings=LossSettings(kl_coefficient=config.kl_coefficient),
        micro_batch_tokens=config.micro_batch_tokens,
        bfloat16=config.bfloat16,
    )


# Where it runs and what it is called may change between two sessions of a job; so may its budgets.
NOT_IDENTITY = {"training_file", "validation_file", "suffix", "metadata", "pinetune"}
NOT_IDENTITY_OWN = {
    "test_file", "budget_minutes", "device", "threads", "micro_batch_tokens", "judge_base_url", "judge_concurrency", "judge_timeout",
    "judge_retries", "judge_budget_tokens", "judge_budget_usd", "judge_prices",
}  # fmt: skip


def _identity(prepared: Prepared) -> str:
    return job_identity(prepared.raw, {role: describe_file(path)["sha256"] for role, path in prepared.files.items()})


def job_identity(raw: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """What makes it the same job: its data (`data`, hashes by role) and every setting that changes the result."""
    body = {k: v for k, v in raw.items() if k not in NOT_IDENTITY}
    own = {k: v for k, v in raw.get("pinetune", {}).items() if k not in NOT_IDENTITY_OWN}
    return json_sha256({"body": body, "pinetune": own, "data": dict(data)})
