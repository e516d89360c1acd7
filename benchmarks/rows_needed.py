"""How many rows are enough? The demo's job on 12, 48, 200 and 1,000 training rows, three seeds each.

    python benchmarks/rows_needed.py                       # runs what is not done yet (hours), then prints the table
    python benchmarks/rows_needed.py --sizes 12 --seeds 1  # one job
    python benchmarks/rows_needed.py --table --plot docs/rows-needed.svg

All jobs take the same number of steps and of rollouts a step; a small file is simply read more often. A seed draws other
rows (and, of 12 and 48, other genes) and other random numbers of the training. The 60 validation rows that choose the step
and the 240 test rows are the demo's own and the same for all: their genes are in no training file.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from pinetune.demo.cases import case_row, demo_cases, draw_cases, split_genes
from pinetune.demo.facts import load_facts
from pinetune.demo.job import SEED, job_body
from pinetune.evals.ranking import rank_of
from pinetune.evals.statistics import mean_interval, paired_difference
from pinetune.records import Interval
from pinetune.reports.evidence import difference_text, p_text, with_interval
from pinetune.runs.folder import RunFolder

Rows = list[dict[str, Any]]
Scores = dict[str, list[float]]
METRICS = ("reward", "top-1")


def write_job(folder: Path, size: int, seed: int, steps: int) -> Path:
    """The demo's job with `size` training rows drawn by `seed`; everything else as in the demo."""
    table = load_facts()
    genes = list(split_genes(table, SEED)["train"])
    random.Random(f"genes {seed}").shuffle(genes)
    held_out = demo_cases(table, SEED)
    rows = {"train": draw_cases(table, genes, size, f"rows {seed}"), "valid": held_out["valid"], "test": held_out["test"]}
    folder.mkdir(parents=True, exist_ok=True)
    for name, cases in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(case_row(case)) + "\n" for case in cases), encoding="utf-8")
    body = job_body({name: f"{name}.jsonl" for name in rows}, quick=False, seed=seed)
    body["pinetune"] |= {"steps": steps, "threads": 1}
    del body["pinetune"]["budget_minutes"]  # a busy machine may not change what is learned
    path = folder / "job.json"
    path.write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")
    return path


def run_folder(out: Path, size: int, seed: int) -> Path:
    return out / f"rows-{size}-seed-{seed}" / "run"


def scores(run: Path, name: str) -> Scores:
    """Each test row's reward and top-1 hit, means over its samples."""
    found: Scores = {metric: [] for metric in METRICS}
    for group in RunFolder(run).read_eval(f"final-{name}").groups:
        ranks = [rank_of(rollout.completion.answer, str(group.row.item["reference_answer"])) for rollout in group.rollouts]
        rewards = [rollout.grade.value or 0.0 for rollout in group.rollouts]
        found["top-1"].append(sum(rank == 1 for rank in ranks) / len(ranks))
        found["reward"].append(sum(rewards) / len(rewards))
    return found


def answers(run: Path) -> list[str]:
    return [str(group.row.item["reference_answer"]) for group in RunFolder(run).read_eval("final-tuned").groups]


def mean_of(runs: list[list[float]]) -> list[float]:
    return [sum(values) / len(values) for values in zip(*runs, strict=True)]


def reached(out: Path, size: int, seeds: list[int]) -> dict[str, list[list[float]]]:
    """Each metric's per-row scores of the tuned models, one list a seed."""
    runs = [scores(run_folder(out, size, seed), "tuned") for seed in seeds]
    return {metric: [run[metric] for run in runs] for metric in METRICS}


def table(out: Path, sizes: list[int], seeds: list[int]) -> dict[int, dict[str, Interval]]:
    """Print one line a size; returns the intervals. They are over the held-out genes; the seeds' own values stand beside."""
    genes = answers(run_folder(out, sizes[0], seeds[0]))
    base = scores(run_folder(out, sizes[0], seeds[0]), "base")
    found = {0: {metric: mean_interval(base[metric], genes) for metric in METRICS}}
    tops: dict[int, list[float]] = {}
    print("| training rows | top-1, mean of seeds | each seed | reward | each seed | top-1 minus base | p |\n|---|---|---|---|---|---|---|")
    print(f"| none: base | {with_interval(found[0]['top-1'], 'top1')} | | {with_interval(found[0]['reward'], 'reward')} | | | |")
    for size in sizes:
        runs = reached(out, size, seeds)
        tops[size] = mean_of(runs["top-1"])
        found[size] = {metric: mean_interval(mean_of(runs[metric]), genes) for metric in METRICS}
        top, reward = (", ".join(f"{sum(run) / len(run):.2f}" for run in runs[metric]) for metric in METRICS[::-1])
        gain = paired_difference(base["top-1"], tops[size], genes)
        cells = [f"{size:,}", with_interval(found[size]["top-1"], "top1"), top, with_interval(found[size]["reward"], "reward"), reward]
        print(f"| {' | '.join(cells)} | {difference_text(gain.difference, 'top1')} | {p_text(gain.p_value)} |")
    for small, large in itertools.pairwise(sizes):
        step = paired_difference(tops[small], tops[large], genes)
        print(f"{large:,} rows minus {small:,}: top-1 {difference_text(step.difference, 'top1')}, {p_text(step.p_value)}")
    return found


def plot(out: Path, sizes: list[int], seeds: list[int], found: dict[int, dict[str, Interval]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "rows"
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axes, metric, title in zip(panels, ("top-1", "reward"), ("Right gene first", "Mean reward"), strict=True):
        base = found[0][metric]
        axes.axhspan(base.low, base.high, color="#999999", alpha=0.25, linewidth=0)
        axes.axhline(base.value, color="#666666", linestyle="--", label="base, no training")
        middle = [found[size][metric] for size in sizes]
        spread = [[value.value - value.low for value in middle], [value.high - value.value for value in middle]]
        axes.errorbar(
            sizes, [v.value for v in middle], yerr=spread, color="#0072B2", marker="o", capsize=4, label="mean of seeds, 95% interval"
        )
        dots = [(size, scores(run_folder(out, size, seed), "tuned")[metric]) for size in sizes for seed in seeds]
        axes.scatter([x for x, _ in dots], [sum(y) / len(y) for _, y in dots], color="#D55E00", s=14, zorder=3, label="each seed")
        axes.set(xscale="log", xlabel="training rows", title=f"{title} (held-out cases, n = {len(dots[0][1])})", ylim=(0, 1))
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1))
    panels[1].legend(loc="lower right", frameon=False)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[12, 48, 200, 1000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("runs/rows"))
    parser.add_argument("--table", action="store_true", help="run nothing; read what is there")
    parser.add_argument("--plot", type=Path)
    asked = parser.parse_args()
    for seed in asked.seeds:
        for size in asked.sizes:
            run = run_folder(asked.out, size, seed)
            if not asked.table and not (run / "summary.json").exists():
                job = write_job(run.parent, size, seed, asked.steps)
                subprocess.run([sys.executable, "-m", "pinetune", "run", str(job), "--out", str(run)], check=True)
    found = table(asked.out, asked.sizes, asked.seeds)
    if asked.plot:
        plot(asked.out, asked.sizes, asked.seeds, found, asked.plot)


if __name__ == "__main__":
    main()
