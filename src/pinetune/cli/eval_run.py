"""`pinetune eval run`: rows from a file, answers from them, from a model here or from an endpoint; graded into a run's file."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pinetune.errors import JobFailed, UserError

if TYPE_CHECKING:
    from pinetune.evals.cases import Case
    from pinetune.evals.eval_file import EvalFile
    from pinetune.evals.eval_run import Plan
    from pinetune.evals.items import Item
    from pinetune.evals.places import Place
    from pinetune.evals.run_file import RunFile
    from pinetune.graders.options import Services

LOCAL_MAX_TOKENS = 512
ENDS = 2**20  # bytes
THINKING_SHARE = 0.75  # as in jobs whose reasoning_effort is "default"


@dataclass(frozen=True, slots=True)
class Asked:
    """The command's flags; see `cli.eval.run`."""

    eval_file: Path
    data: Path | None
    model: str | None
    base_url: str | None
    key_env: str | None
    samples: int
    rows: int | None
    max_tokens: int | None
    temperature: float | None
    seed: int | None
    out: Path | None
    concurrency: int


def run_command(asked: Asked, *, unsafe_python: bool, as_json: bool) -> None:
    """Make the run, or go on with it, and show its numbers."""
    from pinetune.cli.eval_show import show_run
    from pinetune.evals.cases import repeated
    from pinetune.evals.criteria import Criteria
    from pinetune.evals.eval_file import read_eval
    from pinetune.evals.run_file import RunFile
    from pinetune.models.names import find_model

    found = read_eval(asked.eval_file)
    cases, data = _rows(asked, found)
    place = _place(asked)
    here = find_model(asked.model) if asked.model is not None and place is None else None  # before anything is written
    params = _params(asked, found, local=asked.model is not None and place is None)
    times = asked.samples if asked.model is not None else 1
    file = RunFile(asked.out or Path("runs/evals") / f"{_slug(found.name)}--{_slug(asked.model or 'answers')}.jsonl")
    with _judges(found, asked.eval_file) as services:
        criteria = Criteria(found.criteria, services=services, unsafe_python=unsafe_python)
        try:
            settings = {"params": params, "samples": times, "endpoint": place.shown if place else None}
            settings |= {"weights": weights_mark(Path(here))} if here else {}
            ids = [criterion["id"] for criterion in found.criteria]
            head = {"eval": found.name, "model": asked.model or "", "criteria": ids, "graders": _shown(found), "data": data}
            done = file.begin({**head, "settings": settings})
            wanted = repeated(cases, times) if times > 1 else cases
            if len(done) < len(wanted):
                _work(wanted, done, file, found, criteria, params, place, asked)
        finally:
            criteria.close()
    run = file.end()
    show_run(run, str(file.path), as_json=as_json)
    if all(item["status"] == "error" for item in run.items):
        raise JobFailed(f"not one of {len(run.items)} answers could be had or graded; remove {file.path} to try again")


def _work(
    cases: Sequence[Case],
    done: frozenset[int],
    file: RunFile,
    found: EvalFile,
    criteria: Any,
    params: Mapping[str, Any],
    place: Place | None,
    asked: Asked,
) -> None:
    from rich.console import Console

    from pinetune.evals.asking import Asker
    from pinetune.evals.cases import Prompter
    from pinetune.evals.eval_run import Plan, run_cases

    prompter = Prompter(found.input_messages, "input_messages") if found.input_messages else None
    count = len(done)
    with Console(stderr=True).status(f"{count} of {len(cases)} answers ...") as status:

        def keep(items: Sequence[Item]) -> None:
            nonlocal count
            file.keep(items)
            count += len(items)
            status.update(f"{count} of {len(cases)} answers ...")

        if asked.model is None:
            run_cases(cases, Plan(criteria), keep=keep, done=done, concurrency=asked.concurrency)
        elif place is not None:
            asker = Asker(place, "completions", params)
            try:
                plan = Plan(criteria, asker, prompter, params)
                run_cases(cases, plan, keep=keep, done=done, concurrency=asked.concurrency)
            finally:
                asker.close()
        else:
            _sample_here(cases, Plan(criteria, None, prompter, params), asked.model, params, keep, done)


def _sample_here(cases: Sequence[Case], plan: Plan, model: str, params: Mapping[str, Any], keep: Any, done: frozenset[int]) -> None:
    from pinetune.evals.sampled_run import run_sampled
    from pinetune.models.load import load_model
    from pinetune.models.names import find_model
    from pinetune.records import SamplingParams
    from pinetune.sampling.local import LocalSampler

    form = params.get("response_format") or {}
    settings = SamplingParams(
        max_tokens=params["max_completion_tokens"],
        temperature=params["temperature"],
        top_p=params["top_p"],
        thinking_budget=int(THINKING_SHARE * params["max_completion_tokens"]),
        json_schema=(form.get("json_schema") or {}).get("schema"),
    )
    sampler = LocalSampler(load_model(find_model(model)))
    run_sampled(cases, plan, sampler, model, settings, seed=params["seed"], keep=keep, done=done)


def weights_mark(folder: Path) -> str:
    """Changes with the weights in a model's folder (a run trained anew lies where the old one lay); "" for a hub id.

    Of each file its size and both ends: the whole of a large model would take minutes to read, and training changes every tensor.
    """
    mark = hashlib.sha256()
    found = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    for path in found:
        size = path.stat().st_size
        mark.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            mark.update(file.read(ENDS))
            file.seek(max(0, size - ENDS))
            mark.update(file.read(ENDS))
    return mark.hexdigest() if found else ""


def _rows(asked: Asked, found: EvalFile) -> tuple[list[Case], dict[str, Any]]:
    """The rows, and what is written of where they came from."""
    from pinetune.evals.cases import cases_of, read_cases

    if asked.data is None:
        if found.rows is None:
            raise UserError("--data is missing: give the rows, a JSONL file")
        cases = cases_of((row, None) for row in found.rows)
        name, raw = str(asked.eval_file), asked.eval_file.read_bytes()
    else:
        cases = read_cases(asked.data, found.schema)
        name, raw = str(asked.data), asked.data.read_bytes()
    if asked.model is None and all(case.sample is None for case in cases):
        raise UserError('--model is missing: no row brings an answer along ({"item": {...}, "sample": {"output_text": "..."}})')
    cases = cases[: asked.rows]
    return cases, {"name": Path(name).name, "sha256": hashlib.sha256(raw).hexdigest(), "rows": len(cases)}


def _place(asked: Asked) -> Place | None:
    """The endpoint that has the model; None where the model is here."""
    from pinetune.evals.places import Place, Places

    if asked.model is None:
        return None
    if asked.base_url is None:
        return Places.read().at_remote(asked.model)
    key = os.environ.get(asked.key_env, "") if asked.key_env else ""
    if asked.key_env and not key:
        raise UserError(f"--key-env: {asked.key_env} is not set; export it")
    if not asked.base_url.startswith(("http://", "https://")):
        raise UserError(f"--base-url: {asked.base_url} is no web address; give one such as http://localhost:8000/v1")
    return Place(asked.base_url.rstrip("/"), asked.model, key)


def _params(asked: Asked, found: EvalFile, *, local: bool) -> dict[str, Any]:
    flags = {"temperature": asked.temperature, "max_completion_tokens": asked.max_tokens, "seed": asked.seed}
    params = {**found.params, **{name: value for name, value in flags.items() if value is not None}}
    if local and params.get("pinetune"):
        raise UserError(f"{asked.eval_file}: sampling_params.pinetune: only a server takes one of several answers; use pinetune vote")
    if local:
        params = {"temperature": 1.0, "top_p": 1.0, "seed": 42, "max_completion_tokens": LOCAL_MAX_TOKENS, **params}
    return params


def _shown(found: EvalFile) -> list[dict[str, Any]]:
    from pinetune.evals.criteria import shown_criterion

    return [shown_criterion(criterion) for criterion in found.criteria]


@contextmanager
def _judges(found: EvalFile, file: Path) -> Iterator[Services]:
    """Judges as the environment or the job's own section names them. Raises UserError where one could not be asked at all."""
    from pydantic import ValidationError

    from pinetune.loop.judging import check_judges, judge_service
    from pinetune.wire.base import complaints
    from pinetune.wire.fine_tuning import PinetuneOptions

    try:
        own = PinetuneOptions.model_validate(found.own)
    except ValidationError as error:
        lines = [f"{file}: pinetune.{where}: {said}" for where, said in complaints(error, PinetuneOptions)]
        raise UserError("\n".join(lines)) from None
    service = judge_service(own, file.parent)
    try:
        for criterion in found.criteria:
            check_judges(criterion, service, file.parent)
        yield service.services()
    finally:
        service.close()


def _slug(name: str) -> str:
    """A part of a file's name: letters, digits, dots and dashes of the name's end."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[-60:] or "run"
