"""`pinetune eval show|list|compare`: runs from files or from the server's store, as tables for people or JSON for programs."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from pinetune.data.answers import right_answer
from pinetune.data.leakage import looks_closed
from pinetune.errors import NotFound, UserError

if TYPE_CHECKING:
    from pinetune.evals.measures import PairedMeasure, Reading, RunComparison
    from pinetune.evals.run_file import StoredRun
    from pinetune.store import Store

Measured = TypeVar("Measured")
How = tuple[str | None, str | None, bool]  # answer field, list field, cluster by answer
RUN_ID = "evalrun_"
SIGNIFICANT = 0.05


def show_command(run: str, home: Path | None, failed: int, inspect_log: Path | None, how: How, as_json: bool) -> None:
    found = find_run(run, home)
    if inspect_log is not None:
        from pinetune.evals.inspect_log import write_inspect_log

        write_inspect_log(found, inspect_log)
    show_run(found, run, how=how, failed=failed, as_json=as_json)


def show_run(run: StoredRun, where: str, *, how: How = (None, None, True), failed: int = 0, as_json: bool = False) -> None:
    """The table of one run."""
    from pinetune.evals.measures import measure

    try:
        found = measure(run.items, _reading(how))
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    if as_json:
        body = {"run": where, "eval": run.eval_name, "model": run.model, "status": run.status, **run.result}
        numbers = {name: asdict(interval) for name, interval in found.measures.items()}
        rows = {"num_rows": found.num_rows, "num_items": found.num_items, "num_errored": found.num_errored}
        rows["num_clusters"] = found.num_clusters
        typer.echo(json.dumps({**body, **rows, "metrics": numbers}, ensure_ascii=False))
        return
    console = Console()
    table = Table(title=f"{run.eval_name}: {run.model or 'answers as given'}", title_justify="left")
    for head in ("", "value", "95% interval", "rows"):
        table.add_column(head, justify="right" if head else "left")
    for name, interval in _told_once(found.measures).items():
        table.add_row(name, f"{interval.value:.3f}", f"{interval.low:.3f} to {interval.high:.3f}", str(interval.n))
    console.print(table)
    _tell_few_answers(found.num_clusters, found.num_rows, console)
    console.print(_tokens(run), highlight=False)
    if found.num_errored:
        console.print(f"{found.num_errored} of {found.num_items} answers could not be had or graded; they count nowhere. The first:")
        console.print(f"  {_first_error(run)}", highlight=False, markup=False)
    for item in [item for item in run.items if item["status"] == "fail"][:failed]:
        console.print(_example(item, how[0]), highlight=False, markup=False)
    if run.status != "completed":
        console.print(f"The run is {run.status}.")
    console.print(f"{where}", highlight=False)


def list_command(folder: Path, home: Path | None, as_json: bool) -> None:
    runs = [*_files(folder), *_stored(home)]
    if as_json:
        typer.echo(json.dumps(runs, ensure_ascii=False))
        return
    if not runs:
        typer.echo(
            f"No runs in {folder}, and none in the server's store; make one: pinetune eval run EVAL.json --data ROWS.jsonl --model MODEL"
        )
        return
    for run in runs:
        made = time.strftime("%Y-%m-%d %H:%M", time.localtime(run["created_at"]))
        errored = f", {run['errored']} errored" if run["errored"] else ""
        typer.echo(run["run"])  # on a line of its own, to be copied
        passed = f"{run['passed']} of {run['total']} passed{errored}"
        typer.echo(f"  {run['eval']}, {run['model'] or 'answers as given'}: {passed}; {run['status']}, {made}")


def compare_command(first: str, second: str, home: Path | None, how: How, as_json: bool) -> None:
    from pinetune.evals.measures import compare_runs

    a, b = find_run(first, home), find_run(second, home)
    try:
        found = compare_runs(a.items, b.items, _reading(how))
    except ValueError as error:
        raise UserError(f"{first} and {second} cannot be compared: {error}") from None
    if as_json:
        head = {"first": first, "second": second, "num_rows": found.num_rows, "num_unpaired": found.num_unpaired}
        head |= {"num_clusters": found.num_clusters, "graded_differently": a.regraded(b)}
        typer.echo(json.dumps({**head, "metrics": {name: _as_object(pair) for name, pair in found.measures.items()}}, ensure_ascii=False))
        return
    _print_comparison(found, _titled(a, first), _titled(b, second), a.regraded(b))


def find_run(name: str, home: Path | None) -> StoredRun:
    """A file, or a run of the server's store. Raises UserError."""
    from pinetune.evals.run_file import read_run

    path = Path(name)
    if path.suffix == ".json" and path.is_file():
        from pinetune.evals.inspect_log import read_inspect_log

        return read_inspect_log(path)
    if not name.startswith(RUN_ID) or path.exists():
        return read_run(path)
    with _store(home) as store:
        try:
            return _of_store(store, name)
        except NotFound:
            raise UserError(f"{name}: no such run in {store.settings.home}; name the server's home folder with --home") from None


def _print_comparison(found: RunComparison, first: str, second: str, regraded: Sequence[str]) -> None:
    console = Console()
    measures = _told_once(found.measures)
    counts = {pair.paired.difference.n for pair in measures.values()}
    same = f", {counts.pop()} rows" if len(counts) == 1 else ""  # then a column of its own says nothing
    # No frame and no folded numbers: the table must be readable, and fit to be copied, on a screen of 80 columns.
    table = Table(title=f"{second} against {first}{same}", title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for head in ("", "first", "second", "difference", "95% interval", "p", *([] if same else ["rows"]), "smallest"):
        table.add_column(head, justify="right" if head else "left", no_wrap=bool(head))
    for name, pair in measures.items():
        gap = pair.paired.difference
        smallest = f"{pair.smallest:.3f}" if math.isfinite(pair.smallest) else "-"
        numbers = [f"{pair.first:.3f}", f"{pair.second:.3f}", f"{gap.value:+.3f}", f"{gap.low:+.3f} to {gap.high:+.3f}"]
        table.add_row(name, *numbers, _p(pair.paired.p_value), *([] if same else [str(gap.n)]), smallest)
    console.print(table)
    main = found.measures.get("passed") or next(iter(found.measures.values()))
    if regraded:
        said = "the two were graded by other definitions of " + ", ".join(regraded)
        console.print(f"No comparison of models: {said}, so the numbers do not measure the same. Grade both by one.", highlight=False)
    else:
        console.print(verdict(main), highlight=False)
    _tell_few_answers(found.num_clusters, found.num_rows, console)
    if found.num_unpaired:
        console.print(f"{found.num_unpaired} rows that only one of the two has are left out.")
    if len(measures) > 3:
        console.print("Several numbers are tested here: one p below 0.05 among many happens by chance; decide beforehand which one counts.")


def verdict(pair: PairedMeasure) -> str:
    """The comparison in a sentence."""
    gap, n = pair.paired.difference, pair.paired.difference.n
    can = (
        f"{n} rows show a difference of {pair.smallest:.3f} or more (four times in five)"
        if math.isfinite(pair.smallest)
        else "One row shows nothing"
    )
    p, one_side = pair.paired.p_value, gap.low > 0 or gap.high < 0
    if one_side and p <= SIGNIFICANT:
        better = "second" if gap.value > 0 else "first"
        return f"The {better} is better: the whole interval of the difference lies on one side of zero. {can}."
    # Interval and test are made in two ways, and where few rows differ they may part: five rows better and none worse is p = 0.0625.
    why = f"p is {p:.2g}" if one_side else "the interval holds zero"
    return f"No difference is shown: {why}. That is not proof of equality: {can}."


def _tell_few_answers(num_clusters: int, num_rows: int, console: Console) -> None:
    """Of 200 rows that are all "yes" or "no" the intervals know two facts: right for memorised names, wrong for labels."""
    if looks_closed(num_clusters, num_rows):
        console.print(
            f"These {num_rows} rows have {num_clusters} different right answer{'s' * (num_clusters != 1)}, and rows with one answer count "
            "together. Where answers are a small closed set (yes/no, labels), add --rows-alone.",
            highlight=False,
        )


def _as_object(pair: PairedMeasure) -> dict[str, Any]:
    smallest = pair.smallest if math.isfinite(pair.smallest) else None
    gap = asdict(pair.paired.difference)
    return {"first": pair.first, "second": pair.second, "difference": gap, "p_value": pair.paired.p_value, "smallest_difference": smallest}


def _files(folder: Path) -> Iterator[dict[str, Any]]:
    from pinetune.evals.run_file import is_run, read_run

    for path in sorted(folder.rglob("*.jsonl")) if folder.is_dir() else []:
        if is_run(path):
            run = read_run(path)
            yield _listed(str(path), run.eval_name, run.model, run.created_at, run.status, run.result)


def _stored(home: Path | None) -> Iterator[dict[str, Any]]:
    """Runs of the server's evals; none where there is no store yet: looking must not make one."""
    from pinetune.settings import Settings

    settings = Settings.read(home=home)
    if settings.database_url.startswith("sqlite:///") and not Path(settings.database_url.removeprefix("sqlite:///")).exists():
        return
    with _store(home) as store:
        for evaluation in _pages(store.evals.list):
            for run in _pages(lambda **options: store.eval_runs.list(evaluation.id, **options)):  # noqa: B023  # used up at once
                yield _listed(run.id, evaluation.name or evaluation.id, run.model or "", run.created_at, run.status, run.result)


def _pages(listed: Any) -> Iterator[Any]:
    after = None
    while True:
        page = listed(after=after, limit=100)
        yield from page.items
        if not page.has_more:
            return
        after = page.items[-1].id


def _listed(run: str, name: str, model: str, created: float, status: str, result: Mapping[str, Any]) -> dict[str, Any]:
    counts = result.get("result_counts") or {"passed": 0, "total": 0, "errored": 0}
    return {"run": run, "eval": name, "model": model, "created_at": int(created), "status": status, **counts}


def _store(home: Path | None) -> Store:
    from pinetune.settings import Settings
    from pinetune.store import Store

    return Store.open(Settings.read(home=home))


def _of_store(store: Store, id: str) -> StoredRun:
    from pinetune.evals.criteria import criterion_ids, shown_criterion
    from pinetune.evals.items import tally
    from pinetune.evals.run_file import StoredRun
    from pinetune.evals.run_items import items_of

    run = store.eval_runs.get(id)
    evaluation = store.evals.get(run.eval_id)
    items = [{"position": item.position, "status": item.status, **item.body} for item in items_of(store, id)]
    criteria = criterion_ids(evaluation.body["testing_criteria"])
    result = run.result or tally(((item["status"], item) for item in items), criteria)
    name, params = evaluation.name or evaluation.id, run.body["data_source"].get("sampling_params")
    graders = dict(zip(criteria, map(shown_criterion, evaluation.body["testing_criteria"]), strict=True))
    return StoredRun(run.name or id, name, run.model or "", run.created_at, run.status, items, result, criteria, params, graders=graders)


def _reading(how: How) -> Reading:
    from pinetune.evals.measures import Reading

    return Reading(*how)


def _titled(run: StoredRun, name: str) -> str:
    return run.model or Path(name).stem


def _tokens(run: StoredRun) -> str:
    used = [f"{usage['model_name']} {usage['total_tokens']:,}" for usage in run.result.get("per_model_usage") or []]
    return f"tokens: {', '.join(used)}" if used else "no model was asked"


def _first_error(run: StoredRun) -> str:
    item = next(item for item in run.items if item["status"] == "error")
    faults = [item["sample"].get("error"), *(result.get("error") for result in item["results"])]
    fault = next((fault for fault in faults if fault), {"message": "no reason was given"})
    return f"row {item['datasource_item_id']}: {fault['message']}"


def _told_once(measures: Mapping[str, Measured]) -> dict[str, Measured]:
    """Without "exact passed" where "exact" is the only criterion: then it is "passed" over again."""
    own = [name for name in measures if name.endswith(" passed")]
    return {name: value for name, value in measures.items() if len(own) > 1 or name not in own}


def _example(item: Mapping[str, Any], answer_field: str | None) -> str:
    said = item["sample"].get("input") or []
    asked = said[-1]["content"] if said else json.dumps(item["datasource_item"], ensure_ascii=False)
    output = item["sample"].get("output")
    answer = output[0].get("content") if output else "(no answer)"
    scores = ", ".join(f"{result['name']} {result['score']:g}" for result in item["results"])
    right = right_answer(item["datasource_item"], answer_field)
    expected = "" if right is None else f"\n  right:    {_short(right)}"
    return f"\nrow {item['datasource_item_id']} ({scores})\n  asked:    {_short(asked)}\n  answered: {_short(answer)}{expected}"


def _short(text: Any) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= 400 else f"{line[:200]} ... {line[-180:]}"


def _p(value: float) -> str:
    return "<0.0001" if value < 0.0001 else f"{value:.4f}"
