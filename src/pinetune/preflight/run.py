"""A job checked before it runs: data, grader, learnability, cost; nothing is trained and nothing is written.

    preflight(raw, beside) -> PreflightReport

What the job itself would refuse becomes a finding with the verdict "stop", so that one look shows everything at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pinetune.data.answers import find_answer_field
from pinetune.data.rows import load_rows
from pinetune.errors import BudgetSpent, DataError, JobError, MissingToolError, ModelError, UserError
from pinetune.graders.build import build_grader
from pinetune.loop.config import parse_job
from pinetune.loop.judging import check_judges, judge_service
from pinetune.preflight.cost import check_cost
from pinetune.preflight.data import check_data
from pinetune.preflight.grader import check_grader
from pinetune.preflight.learnable import best_guess, check_learnable
from pinetune.preflight.options import PreflightOptions, Subject
from pinetune.preflight.report import Finding, Part, PreflightReport
from pinetune.records import Row
from pinetune.wire.fine_tuning import JobBody


def preflight(raw: Mapping[str, Any], beside: Path, options: PreflightOptions | None = None) -> PreflightReport:
    """Check the job `raw` with file paths relative to `beside`.

    Raises JobError or GraderError for a body that is no job; all else is in the report.
    """
    options = options or PreflightOptions()
    body = parse_job(raw)
    options.told("reading the data")
    rows, names, faults = _read(body, beside)
    if faults:
        return PreflightReport((Part("data", tuple(faults)),))
    judges = judge_service(body.pinetune, beside)
    try:
        grader = build_grader(
            body.method.reinforcement.grader,
            trusted=options.trusted_grader,
            unsafe_python=body.pinetune.unsafe_python_graders,
            json_answers=body.method.reinforcement.response_format is not None,
            services=judges.services(),
            endpoint_seconds=body.pinetune.endpoint_timeout,
            path="method.reinforcement.grader",
        )
    except MissingToolError as error:  # python graders where nothing can confine them: the data can be checked all the same
        judges.close()
        return PreflightReport((_data(body, rows, names, options), Part("grader", (Finding("stop", "refused", str(error)),))))
    except BaseException:
        judges.close()
        raise
    try:
        check_judges(body.method.reinforcement.grader, judges, beside)
        return _check(Subject(body, beside, names, rows, grader, judges, options))
    finally:
        grader.close()
        judges.close()


def _check(subject: Subject) -> PreflightReport:
    options = subject.options
    data = _data(subject.body, subject.rows, subject.names, options)
    options.told("testing the grader")
    grader, benched = check_grader(subject)
    if not options.model:
        return PreflightReport((data, grader))
    from pinetune.loop.job import evidence_options
    from pinetune.preflight.model import draw_groups, load_of, open_base

    try:
        opened = open_base(subject)
        data = Part("data", (*data.findings, *opened.findings), {**data.figures, **opened.figures})
        if not opened.fitting:
            raise JobError("no training prompt leaves the model room for an answer")
        groups, seconds = draw_groups(subject, opened)
    except (ModelError, JobError, BudgetSpent) as error:
        return PreflightReport((data, grader, Part("learnability", (Finding("stop", "not_tested", str(error)),))))
    options.told("trying constant answers")
    own = subject.body.pinetune
    together = evidence_options(subject.body, subject.train)["cluster_by_answer"]
    cluster_field = own.answer_field or find_answer_field(subject.train) if together else None
    learnable = check_learnable(groups, best_guess(subject), cluster_field)
    options.told("timing a forward pass")
    cost = check_cost(load_of(subject, opened, groups, seconds), benched.cost if benched else None, subject.beside.resolve())
    return PreflightReport((data, grader, learnable, cost))


def _data(body: JobBody, rows: Mapping[str, list[Row]], names: Mapping[str, str], options: PreflightOptions) -> Part:
    options.told("comparing the rows")
    own = body.pinetune
    held_out = [names[role] for role in ("validation_file", "test_file") if role in rows]
    by_name = {names[role]: of_role for role, of_role in rows.items()}
    return check_data(by_name, own.answer_field, own.allow_answer_overlap, names["training_file"], held_out)


def _read(body: JobBody, beside: Path) -> tuple[dict[str, list[Row]], dict[str, str], list[Finding]]:
    """(rows by role, shown names by role, faults): a file that is no dataset is a finding like any other."""
    wanted = {"training_file": body.training_file, "validation_file": body.validation_file, "test_file": body.pinetune.test_file}
    rows: dict[str, list[Row]] = {}
    names: dict[str, str] = {}
    faults: list[Finding] = []
    for role, name in wanted.items():
        if name is None:
            continue
        path = beside / Path(name).expanduser()
        names[role] = name if name not in names.values() else f"{name} ({role})"
        try:
            if not path.is_file():
                raise DataError(f"{path}: no such file; give the path of a JSONL file, relative to the job file or absolute")
            rows[role] = load_rows(path)
            if not rows[role]:
                raise DataError(f"{path}: there is no row in it; add some")
        except UserError as error:
            faults += [Finding("stop", "unreadable", line) for line in (getattr(error, "complaints", None) or [str(error)])]
    return rows, names, faults
