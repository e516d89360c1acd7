"""Search the answers of runs: every rollout of every step, and every answer of the held-out reports.

    found = search(["runs/gene-expert"], Query(text="ataxia", reward_max=0.0, step=20))
    found.total, found.rows[0].answer

Rollouts are read lazily from their Parquet files: a filter reads the columns it needs, a file whose statistics rule it out is not read,
and whole rows are fetched only for what is shown.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pinetune.errors import UserError
from pinetune.reading.eval_frame import eval_columns, eval_rows
from pinetune.reading.rollout_ids import RolloutId, Source
from pinetune.runs.folder import RunFolder

if TYPE_CHECKING:
    import polars as pl

Sort = Literal["newest", "oldest", "reward", "-reward", "tokens", "-tokens"]
# column to sort by, descending; ties by place
SORTS: dict[str, tuple[str, bool]] = {
    "newest": ("step", True),
    "oldest": ("step", False),
    "reward": ("grade_value", False),
    "-reward": ("grade_value", True),
    "tokens": ("completion_tokens", False),
    "-tokens": ("completion_tokens", True),
}
PLACES = ("source", "step", "report", "row_index", "sample_index")


@dataclass(frozen=True, slots=True)
class Query:
    """None or empty = any. `text` is found whatever its case, `regex` as written; both look into thinking and answer.

    `part` is (name of a grader part, least, most). `prompt` is looked for in the messages, `anywhere` in messages, thinking and answer.
    """

    text: str = ""
    anywhere: str = ""
    regex: str = ""
    prompt: str = ""
    reward_min: float | None = None
    reward_max: float | None = None
    part: tuple[str, float, float] | None = None
    step: int | None = None
    row: int | None = None
    status: Literal["ok", "error"] | None = None
    finish: Literal["stop", "length"] | None = None
    source: Source | None = None  # rollouts of training, or answers of held-out reports
    report: str | None = None  # one report by its name: "final-tuned", "20"
    sample: int | None = None
    sort: Sort = "newest"
    limit: int = 20
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """A rollout as it was kept. `reward` is None where it could not be graded; `explanation` then says why."""

    run: str
    id: RolloutId
    step: int
    messages: tuple[dict[str, Any], ...]
    reasoning: str
    answer: str
    status: str
    reward: float | None
    error_kind: str
    explanation: str
    parts: dict[str, Any]
    finish: str
    prompt_tokens: int
    reasoning_tokens: int
    completion_tokens: int
    seed: int | None = None
    logprob: float | None = None  # of the whole completion
    seconds: float | None = None  # the grade took
    item: dict[str, Any] | None = None  # the row itself: reports keep it, rollouts' files do not


@dataclass(frozen=True, slots=True)
class Found:
    """`total` answers fit; `rows` are those asked for."""

    total: int
    rows: tuple[Answer, ...] = field(default_factory=tuple)


def search(folders: Sequence[str | Path], query: Query | None = None) -> Found:
    """Answers of one or more run folders that fit every filter of `query`.

    Raises UserError for a folder without a run, a regular expression that is none, or an unknown order.
    """
    import polars as pl

    query = query or Query()
    _check(query)
    frames = [frame for folder in folders for frame in _frames(_run(folder), query)]
    if not frames:
        return Found(0)
    lazy = pl.concat(frames, how="diagonal_relaxed")
    for condition in _conditions(query):
        lazy = lazy.filter(condition)
    column, descending = SORTS[query.sort]
    order = [column, *(name for name in ("run", *PLACES) if name != column)]
    # First only what orders and names the answers, then the rows that are shown: texts of what is not shown are never kept.
    # A place is a position in the files, so the second pass finds the same answers.
    found = lazy.select(*dict.fromkeys(["run", *PLACES, column])).collect()
    shown = found.sort(order, descending=[descending] + [False] * (len(order) - 1), nulls_last=True).slice(query.offset, query.limit)
    return Found(found.height, tuple(_fetch(frames, shown.select("run", *PLACES))))


def find(folder: str | Path, id: RolloutId) -> Answer:
    """One answer by its name. Raises UserError where the run has none of that name."""
    place = {"step": int(id.place)} if id.source == "train" else {"report": id.place}
    found = search([folder], Query(source=id.source, row=id.row, sample=id.sample, limit=1, **place))
    if not found.rows:
        raise UserError(f"{folder}: has no answer {id}")
    return found.rows[0]


def part_of(text: str) -> tuple[str, float, float]:
    """The bounds of a grader part as they are written: a name, the least and the highest value. Raises UserError.

    >>> part_of("format,0,0.5")
    ('format', 0.0, 0.5)
    """
    name, *bounds = text.rsplit(",", 2)
    try:
        least, most = (float(bound) for bound in bounds)
    except ValueError:
        raise UserError(f"{text}: write a name and two numbers, as format,0,0.5") from None
    return name, least, most


def _run(folder: str | Path) -> RunFolder:
    run = RunFolder(folder)
    if not run.rollouts.is_dir() and not run.evals.is_dir():
        raise UserError(f"{folder}: no rollouts and no evals in this folder; give a run folder")
    return run


def _check(query: Query) -> None:
    if query.sort not in SORTS:
        raise UserError(f"sort {query.sort!r}: unknown; known: {', '.join(SORTS)}")
    if query.regex:
        import polars as pl

        try:
            pl.Series([""]).str.contains(query.regex, strict=True)
        except pl.exceptions.PolarsError as error:
            raise UserError(f"regex {query.regex!r}: cannot be read ({_why(str(error))})") from None


def _why(said: str) -> str:
    """polars draws the pattern over several lines, names the fault in one, and adds where it was at work."""
    lines = [line.strip() for line in said.splitlines()]
    faults = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return faults[0] if faults else lines[0].removeprefix("regex error: ")


def _frames(run: RunFolder, query: Query) -> Iterator[pl.LazyFrame]:
    import polars as pl

    if query.source != "eval" and query.report is None:
        pattern = "step-*.parquet" if query.step is None else f"step-{query.step:05d}.parquet"
        files = sorted(run.rollouts.glob(pattern))
        if files:
            lazy = pl.scan_parquet(files, missing_columns="insert", extra_columns="ignore")
            yield lazy.with_columns(run=pl.lit(str(run.path)), source=pl.lit("train"), report=pl.lit(""), item=pl.lit(None, pl.String))
    if query.source != "train":
        rows = [row for path in sorted(run.evals.glob("*.json")) for row in eval_rows(path, query.report, query.step)]
        if rows:
            yield pl.DataFrame(rows, schema=eval_columns()).lazy().with_columns(run=pl.lit(str(run.path)), source=pl.lit("eval"))


def _conditions(query: Query) -> Iterator[pl.Expr]:
    import polars as pl

    for column, wanted in (
        ("step", query.step),
        ("row_index", query.row),
        ("sample_index", query.sample),
        ("grade_status", query.status),
        ("finish", query.finish),
        ("report", query.report),
    ):
        if wanted is not None:
            yield pl.col(column) == wanted
    if query.reward_min is not None:
        yield pl.col("grade_value") >= query.reward_min
    if query.reward_max is not None:
        yield pl.col("grade_value") <= query.reward_max
    if query.part is not None:
        name, least, most = query.part
        # The parts are one JSON object as text; a name may hold any character, so it is matched as it was written there.
        number = rf"{re.escape(json.dumps(name))}: (-?[0-9.]+(?:[eE][-+]?[0-9]+)?)"
        value = pl.col("grade_parts").str.extract(number, 1).cast(pl.Float64, strict=False)
        yield (value >= least) & (value <= most)
    if query.text:
        # (?i) on the escaped text is several times faster than a lower-cased copy of every answer.
        yield _any_text(f"(?i){_escaped(query.text)}")
    if query.regex:
        yield _any_text(query.regex)
    if query.prompt:
        yield _in_messages(query.prompt)
    if query.anywhere:
        yield _any_text(f"(?i){_escaped(query.anywhere)}") | _in_messages(query.anywhere)


def _in_messages(text: str) -> pl.Expr:
    """The messages are JSON as text: what is looked for is written the way it stands there."""
    import polars as pl

    return pl.col("messages").str.contains(f"(?i){_escaped(json.dumps(text, ensure_ascii=False)[1:-1])}")


def _any_text(pattern: str) -> pl.Expr:
    import polars as pl

    return pl.col("answer").str.contains(pattern) | pl.col("reasoning").str.contains(pattern)


def _escaped(text: str) -> str:
    """As a pattern of the Rust regex crate, which knows no escaped spaces or quotes."""
    return re.sub(r"([\\.+*?()|\[\]{}^$#&~-])", r"\\\1", text)


def _fetch(frames: Sequence[pl.LazyFrame], shown: pl.DataFrame) -> Iterator[Answer]:
    """Whole answers in the order of `shown`, each place once."""
    import polars as pl

    if shown.height == 0:
        return
    steps, rows = shown["step"].unique().to_list(), shown["row_index"].unique().to_list()
    near = pl.col("step").is_in(steps) & pl.col("row_index").is_in(rows)  # simple enough to be decided by a file's statistics
    whole = pl.concat([frame.filter(near) for frame in frames], how="diagonal_relaxed").collect()
    ordered = shown.with_row_index("order").join(whole, on=["run", *PLACES], how="left", nulls_equal=True)
    for row in ordered.unique("order", keep="first").sort("order").to_dicts():
        yield _answer(row)


def _answer(row: dict[str, Any]) -> Answer:
    place = str(row["step"]) if row["source"] == "train" else row["report"]
    return Answer(
        run=row["run"],
        id=RolloutId(row["source"], place, row["row_index"], row["sample_index"]),
        step=row["step"],
        messages=tuple(json.loads(row["messages"])),
        reasoning=row["reasoning"],
        answer=row["answer"],
        status=row["grade_status"],
        reward=row["grade_value"],
        error_kind=row["grade_error_kind"],
        explanation=row["grade_explanation"],
        parts=json.loads(row["grade_parts"]),
        finish=row["finish"],
        prompt_tokens=row["prompt_tokens"],
        reasoning_tokens=row["reasoning_tokens"],
        completion_tokens=row["completion_tokens"],
        seed=row.get("seed"),  # files of an older version may lack what follows
        logprob=_finite(row.get("logprob")),
        seconds=row.get("grade_seconds"),
        item=None if row["item"] is None else json.loads(row["item"]),
    )


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None
