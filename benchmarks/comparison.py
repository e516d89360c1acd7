"""Base, classical ranker and tuned model of a finished demo on its untouched test rows, through the Evals API with OpenAI's client.

Run: python benchmarks/comparison.py [--demo demo-run] [--reranker runs/reranker] [--samples 16] [--rows 240] [--out comparison.json].
Beside the three stand the tuned model's greedy answer, its vote, its merged lists, and the pick of a reranker (`pinetune rerank train`),
runs like the others with `sampling_params.pinetune`. It starts `pinetune serve` on a home folder of its own, ends it, prints a markdown
table and writes everything as JSON. All runs have one seed, so the votes and the reranker choose among the same samples.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from openai import DefaultHttpxClient, OpenAI
from service import serving

from pinetune.data.answers import normalise
from pinetune.data.rows import load_rows
from pinetune.demo.facts import load_facts
from pinetune.demo.job import classical_tool
from pinetune.evals.statistics import PairedResult, mean_interval, paired_difference
from pinetune.graders.gallery.kinds import new_grader
from pinetune.models.names import MINIATURE
from pinetune.records import Interval

BASE, RANKER, TUNED = "base", "classical ranker", "tuned"
TUNED_ID, RERANKER_ID = "gene-expert", "genes"
# Grade 1 up to this place of the list, else 0: the gallery's ranked-list grader, which the hosted product runs as it is.
PLACES = {"top-1": 1, "top-5": 5, "top-max": 50}
SERVERS_NAME = {"top-1": "top1", "top-5": "top5", "top-max": "topmax"}  # of the same number in `/pinetune/evals`
POLL_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Way:
    """A run: of a model with these sampling parameters, or (model None) of answers that exist."""

    name: str
    model: str | None
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """A finished run: criterion -> one score a row, in the order of the rows."""

    run_id: str
    scores: Mapping[str, Sequence[float]]
    passed: int
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path, default=Path("demo-run"), help="what `make demo` left")
    parser.add_argument("--reranker", type=Path, help="made by pinetune rerank train; without it that row is left out")
    parser.add_argument("--samples", type=int, default=16, help="answers a row that are put together")
    parser.add_argument("--rows", type=int, help="only the first test rows")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--out", type=Path, default=Path("comparison.json"))
    asked = parser.parse_args()
    job = json.loads((asked.demo / "job.json").read_text())
    rows = load_rows(asked.demo / job["pinetune"]["test_file"], max_rows=None)[: asked.rows]
    genes = [normalise(row.item["reference_answer"]) for row in rows]
    head = {"demo": str(asked.demo), "rows": len(rows), "genes": len(set(genes)), "samples": asked.samples, "seed": asked.seed}
    found = already(asked.out, head)
    ways = [way for way in the_ways(job, asked.samples, asked.seed, asked.reranker is not None) if way.name not in found]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        register(home, asked.demo / "run", asked.reranker)
        with serving(home) as (url, _), OpenAI(base_url=url, api_key="none", http_client=DefaultHttpxClient(trust_env=False)) as client:
            made = client.evals.create(**new_eval(job["method"]["reinforcement"]["grader"]))
            names = dict(zip((criterion.id for criterion in made.testing_criteria), ["reward", *PLACES], strict=True))  # type: ignore[union-attr]
            for way in ways:
                found[way.name] = finished(client, made.id, way, rows, names)
                asked.out.write_text(json.dumps({**head, "ways": {name: asdict(run) for name, run in found.items()}}, indent=2) + "\n")
            report = {**head, "ways": judged(found, genes)}
            the_server_agrees(client, made.id, [way.name for way in ways], found, report)
    asked.out.write_text(json.dumps(report, indent=2) + "\n")
    print(table(report), flush=True)


def already(out: Path, head: Mapping[str, Any]) -> dict[str, Found]:
    """The ways that a run of this script with the same settings has written: it goes on where it was interrupted."""
    if not out.exists():
        return {}
    kept = json.loads(out.read_text())
    if any(kept.get(name) != value for name, value in head.items()):
        sys.exit(f"{out} is of other settings; give another --out, or remove it")
    fields = Found.__dataclass_fields__
    return {name: Found(**{field: way[field] for field in fields}) for name, way in kept["ways"].items()}


def register(home: Path, run: Path, reranker: Path | None) -> None:
    """The tuned model by a name, as a user would; the base comes with every server."""
    command = [sys.executable, "-m", "pinetune", "models", "add", str(run), "--name", TUNED_ID, "--home", str(home)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    if reranker is not None:
        shutil.copytree(reranker, home / "rerankers" / RERANKER_ID)


def new_eval(grader: Mapping[str, Any]) -> dict[str, Any]:
    """The job's own grader, and the ranked-list criteria."""
    lists = [new_grader("ranked_list", {"list_field": "genes", "decay": 1.0, "last_paid_rank": n}, name=name) for name, n in PLACES.items()]
    schema = {"type": "object", "properties": {"reference_answer": {"type": "string"}}, "required": ["reference_answer"]}
    return {
        "name": "the right gene",
        "data_source_config": {"type": "custom", "item_schema": schema, "include_sample_schema": True},
        "testing_criteria": [dict(grader), *lists],
    }


def the_ways(job: Mapping[str, Any], samples: int, seed: int, reranker: bool) -> list[Way]:
    params = {"max_completion_tokens": job["pinetune"]["max_tokens"], "temperature": 1.0, "seed": seed}

    def several(name: str, **options: Any) -> Way:
        return Way(name, TUNED_ID, {**params, "pinetune": {"samples": samples, **options}})

    found = [
        Way(BASE, MINIATURE, params),
        Way(RANKER, None, {}),
        Way(TUNED, TUNED_ID, params),
        Way("tuned, greedy", TUNED_ID, {**params, "temperature": 0.0}),
        several(f"tuned, majority of {samples}", rule="first"),
        several(f"tuned, {samples} lists merged", rule="reciprocal"),
    ]
    return [*found, several(f"tuned, reranker's pick of {samples}", rerank=RERANKER_ID)] if reranker else found


def finished(client: OpenAI, eval_id: str, way: Way, rows: Sequence[Any], names: Mapping[str, str]) -> Found:
    """The run of one way, to its end. Exits where it failed or a row was not graded."""
    began = time.monotonic()
    run = client.evals.runs.create(eval_id, name=way.name, data_source=data_source(way, rows))
    while run.status in ("queued", "in_progress"):
        time.sleep(POLL_SECONDS)
        run = client.evals.runs.retrieve(run.id, eval_id=eval_id)  # type: ignore[assignment]
    if run.status != "completed" or run.result_counts.errored:
        sys.exit(f"{way.name}: {run.status}, {run.result_counts.errored} rows could not be graded: {run.error}")
    scores: dict[str, list[float]] = {name: [] for name in names.values()}
    for item in client.evals.runs.output_items.list(run.id, eval_id=eval_id, limit=100):
        for result in item.results:
            scores[names[result.name]].append(result.score)
    seconds = time.monotonic() - began
    print(f"{way.name}: {run.result_counts.passed} of {run.result_counts.total} rows in {seconds:.0f} s", file=sys.stderr, flush=True)
    return Found(run.id, scores, run.result_counts.passed, seconds)


def data_source(way: Way, rows: Sequence[Any]) -> Any:
    if way.model is None:
        answer = classical_tool(load_facts())
        content = [{"item": dict(row.item), "sample": {"output_text": answer(row)}} for row in rows]
        return {"type": "jsonl", "source": {"type": "file_content", "content": content}}
    return {
        "type": "completions",
        "source": {"type": "file_content", "content": [{"item": dict(row.item)} for row in rows]},
        "model": way.model,
        "input_messages": {"type": "item_reference", "item_reference": "item.messages"},
        "sampling_params": dict(way.params),
    }


def judged(found: Mapping[str, Found], genes: Sequence[str]) -> dict[str, Any]:
    """Each way's numbers with intervals, and paired with the base's and (the ways to use the tuned model) with its single answer's."""
    ways: dict[str, Any] = {}
    for name, run in found.items():
        way: dict[str, Any] = {**asdict(run), "metrics": {}}
        for metric, scores in run.scores.items():
            way["metrics"][metric] = shown(mean_interval(scores, genes))
            for other in (BASE, TUNED):
                if name != other and (other == BASE or name.startswith(TUNED)):
                    paired = paired_difference(found[other].scores[metric], scores, genes)
                    way.setdefault(f"minus_{other}", {})[metric] = difference(paired)
        ways[name] = way
    return ways


def shown(number: Interval) -> dict[str, Any]:
    return {"value": number.value, "ci95": [number.low, number.high], "n": number.n}


def difference(paired: PairedResult) -> dict[str, Any]:
    return {**shown(paired.difference), "p_value": paired.p_value}


def the_server_agrees(client: OpenAI, eval_id: str, names: Sequence[str], found: Mapping[str, Found], report: Mapping[str, Any]) -> None:
    """`/pinetune/evals` reads the answers themselves: the same numbers on another path. Exits where they differ."""
    for name in names:
        run = found[name]
        told: Any = client.get(f"/pinetune/evals/{eval_id}/runs/{run.run_id}/metrics", cast_to=object)
        way = report["ways"][name]
        pairs = [(way["metrics"][metric], told["metrics"][other]) for metric, other in SERVERS_NAME.items()]
        if name != BASE and BASE in names:
            compared: Any = client.get(f"/pinetune/evals/compare?first={found[BASE].run_id}&second={run.run_id}", cast_to=object)
            pairs += [(way["minus_base"][metric], compared["metrics"][other]["difference"]) for metric, other in SERVERS_NAME.items()]
        for ours, theirs in pairs:
            if any(
                abs(a - b) > 1e-9
                for a, b in zip([ours["value"], *ours["ci95"]], [theirs["value"], theirs["low"], theirs["high"]], strict=True)
            ):
                sys.exit(f"{name}: the output items say {ours}, the server says {theirs}")


def table(report: Mapping[str, Any]) -> str:
    heads = [f"n = {report['rows']} cases of {report['genes']} genes", *PLACES, "reward", "top-1 minus base", "top-1 minus tuned"]
    lines = [f"| {' | '.join(heads)} |"]
    lines.append("|---|" + "---|" * (len(PLACES) + 3))
    for name, way in report["ways"].items():
        cells = [
            f"{m['value']:.1%} [{100 * m['ci95'][0]:.0f}-{100 * m['ci95'][1]:.0f}]" for m in (way["metrics"][place] for place in PLACES)
        ]
        reward = way["metrics"]["reward"]
        cells.append(f"{reward['value']:.2f} [{reward['ci95'][0]:.2f}-{reward['ci95'][1]:.2f}]")
        cells += [against(way.get(f"minus_{other}", {}).get("top-1")) for other in (BASE, TUNED)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def against(paired: Mapping[str, Any] | None) -> str:
    if paired is None:
        return ""
    p = f"p {paired['p_value']:.3f}" if paired["p_value"] >= 0.001 else "p < 0.001"
    low, high = paired["ci95"]
    return f"{100 * paired['value']:+.1f} [{100 * low:+.1f} to {100 * high:+.1f}], {p}"


if __name__ == "__main__":
    main()
