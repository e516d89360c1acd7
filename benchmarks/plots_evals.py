"""The pictures of docs/evals.md, drawn from a finished run of the demo.

    make demo
    python benchmarks/plots_evals.py demo-run/run --out docs

Nothing is made up: every dot is counted from the answers in RUN/evals. The same run gives the same bytes.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG

from pinetune.evals.power import detectable_share
from pinetune.evals.ranking import Ranking
from pinetune.records import EvalReport
from pinetune.reports.charts import METRIC_NAMES
from pinetune.reports.style import LIGHT, add_legend, label_axes, new_chart
from pinetune.runs.folder import RunFolder

RANKING = Ranking("reference_answer")
SIZES, DRAWS = (12, 24, 48, 120, 240), 40
TEST_SIZES = (12, 25, 50, 100, 200, 400, 800)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    asked = parser.parse_args()
    matplotlib.rcParams["svg.hashsalt"] = "evals"
    run = RunFolder(asked.run)
    reports = {name: run.read_eval(f"final-{name}") for name in ("base", "ranker", "tuned")}
    pictures: dict[str, Callable[[], Any]] = {
        "models": lambda: models(reports),
        "places": lambda: places(reports["tuned"]),
        "small-tests": lambda: small_tests(reports["tuned"]),
        "genes": lambda: genes(reports["base"], reports["tuned"]),
        "what-n-shows": what_n_shows,
        "curve": lambda: curve(run.read_metrics()),
    }
    for name, draw in pictures.items():
        figure = draw()
        FigureCanvasSVG(figure)
        path = asked.out / f"evals-{name}.svg"
        figure.savefig(path, metadata={"Date": None})
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def models(reports: Mapping[str, EvalReport]) -> Any:
    """Three models, three questions, each with its interval."""
    rows = reports["tuned"].reward.n
    figure, axes = new_chart(LIGHT, f"How often the right gene is there: {rows} cases no model was trained on", 8.0, 4.2)
    names = {"base": "before training", "tuned": "after training", "ranker": "classical ranker"}
    shades = {"base": LIGHT.base, "tuned": LIGHT.tuned, "ranker": LIGHT.ranker}
    metrics, width = ("top1", "top5", "topmax"), 0.26
    for i, (who, name) in enumerate(names.items()):
        found = [reports[who].metrics[metric] for metric in metrics]
        at = [x + (i - 1) * width for x in range(len(metrics))]
        values = [100 * interval.value for interval in found]
        below = [100 * (interval.value - interval.low) for interval in found]
        above = [100 * (interval.high - interval.value) for interval in found]
        axes.bar(at, values, 0.9 * width, color=shades[who], label=name)
        axes.errorbar(at, values, yerr=[below, above], fmt="none", ecolor=LIGHT.ink, elinewidth=1.3, capsize=4, capthick=1.3)
        for x, value, up in zip(at, values, above, strict=True):
            axes.annotate(f"{value:.0f}%", (x, value + up), xytext=(0, 4), textcoords="offset points", ha="center", fontsize=10)
    axes.set_xticks(range(3), ["top-1\nin first place", "top-5\namong the first five", "top-max\nanywhere in the list"], color=LIGHT.ink)
    axes.set_ylim(0, 112)
    axes.set_yticks(range(0, 101, 20))
    label_axes(axes, LIGHT, "", "% of cases; lines: 95% intervals")
    add_legend(axes, LIGHT, columns=3)
    return figure


def places(report: EvalReport) -> Any:
    """At which place the right gene stood, of every case: what top-1, top-5 and top-max add up."""
    ranks = [RANKING.rank(rollout.completion, group.row) for group in report.groups for rollout in group.graded()]
    last = max(rank for rank in ranks if rank)
    counts = [ranks.count(place) for place in range(1, last + 1)] + [ranks.count(None)]
    figure, axes = new_chart(LIGHT, f"Where the right gene stood, {len(ranks)} cases", 6.4, 3.4)
    bars = axes.bar(range(len(counts)), counts, 0.7, color=[LIGHT.tuned] + [LIGHT.train] * (last - 1) + [LIGHT.base])
    for bar, count in zip(bars, counts, strict=True):
        axes.annotate(str(count), (bar.get_x() + bar.get_width() / 2, count), xytext=(0, 3), textcoords="offset points", ha="center")
    axes.set_xticks(range(len(counts)), [f"place {place}" for place in range(1, last + 1)] + ["not named"], color=LIGHT.ink)
    axes.set_ylim(0, 1.12 * max(counts))
    label_axes(axes, LIGHT, "", "cases")
    return figure


def small_tests(report: EvalReport) -> Any:
    """One model, many tests: what luck alone does to a score. Whole genes are drawn with replacement, as the intervals do it."""
    of_gene = _by_gene(report)
    figure, axes = new_chart(LIGHT, "The same model, tested again and again", 7.2, 3.8)
    whole = statistics.fmean(value for values in of_gene.values() for value in values)
    rng = random.Random(1)
    for place, size in enumerate(SIZES):
        scores = sorted(100 * _one_test(of_gene, size, rng) for _ in range(DRAWS))
        spread = [place + 0.045 * (7 * i % 11 - 5) for i in range(DRAWS)]  # side by side, so that equal scores stay visible
        axes.plot(spread, scores, "o", color=LIGHT.tuned, alpha=0.45, markersize=5, markeredgewidth=0)
        axes.annotate(f"{scores[0]:.0f} to {scores[-1]:.0f}%", (place, 102), ha="center", fontsize=9, color=LIGHT.ink)
    axes.axhline(100 * whole, color=LIGHT.ink, linewidth=1, linestyle=(0, (4, 3)))
    cases = sum(map(len, of_gene.values()))
    axes.annotate(f"all {cases} cases:\n{100 * whole:.0f}%", (len(SIZES) - 0.45, 100 * whole), va="center", fontsize=9, color=LIGHT.ink)
    axes.set_xticks(range(len(SIZES)), [f"{size} cases" for size in SIZES], color=LIGHT.ink)
    axes.set_xlim(-0.5, len(SIZES) + 0.2)
    axes.set_ylim(0, 108)
    axes.set_yticks(range(0, 101, 20))
    label_axes(axes, LIGHT, f"each dot: one test of that many cases, {DRAWS} tests a column", "right gene first, % of cases")
    return figure


def _one_test(of_gene: Mapping[str, Sequence[float]], size: int, rng: random.Random) -> float:
    names, drawn = list(of_gene), []
    while len(drawn) < size:
        drawn += of_gene[rng.choice(names)]
    return statistics.fmean(drawn[:size])


def genes(base: EvalReport, tuned: EvalReport) -> Any:
    """Before and after, gene by gene: cases of one gene rise and fall together."""
    before, after = _by_gene(base), _by_gene(tuned)
    pairs = sorted((100 * statistics.fmean(before[gene]), 100 * statistics.fmean(after[gene])) for gene in before)
    better, worse = sum(a > b for b, a in pairs), sum(a < b for b, a in pairs)
    figure, axes = new_chart(
        LIGHT, f"{better} of {len(pairs)} genes better after training, {worse} worse, {len(pairs) - better - worse} level", 8.0, 3.8
    )
    for x, (b, a) in enumerate(pairs):
        axes.plot([x, x], [b, a], color=LIGHT.tuned if a > b else LIGHT.ranker, linewidth=1.6, alpha=0.55, zorder=1)
    axes.plot(
        [b for b, _ in pairs], "o", color=LIGHT.base, markersize=6, label="before training", markeredgecolor=LIGHT.ink, markeredgewidth=0.5
    )
    axes.plot([a for _, a in pairs], "D", color=LIGHT.tuned, markersize=5, label="after training")
    axes.set_xticks([])
    axes.set_ylim(-5, 105)
    cases = statistics.fmean(map(len, before.values()))
    label_axes(
        axes,
        LIGHT,
        f"{len(pairs)} genes, about {cases:.0f} cases each, from hard to easy for the model before",
        "right gene first, % of its cases",
    )
    add_legend(axes, LIGHT, columns=2)
    return figure


def what_n_shows() -> Any:
    """The smallest gain that so many cases show in four of five tries."""
    figure, axes = new_chart(LIGHT, "How small a gain can your cases show?", 7.2, 3.6)
    points = [100 * detectable_share(size) for size in TEST_SIZES]
    axes.plot(range(len(points)), points, "o-", color=LIGHT.tuned, linewidth=2, markersize=7)
    for x, y in enumerate(points):
        axes.annotate(f"{y:.0f} points", (x, y), xytext=(6, 7), textcoords="offset points", fontsize=10, color=LIGHT.ink)
    axes.set_xticks(range(len(points)), [str(size) for size in TEST_SIZES], color=LIGHT.ink)
    axes.set_xlim(-0.3, len(points) - 0.2)
    axes.set_ylim(0, 50)
    label_axes(axes, LIGHT, "held-out cases with different answers", "smallest gain shown, points")
    return figure


def curve(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Held-out top-1 as training goes on: the ups and downs lie within the intervals."""
    held = [row for row in rows if row.get("valid_top1") is not None]
    steps = [row["step"] for row in held]
    figure, axes = new_chart(
        LIGHT, f"{METRIC_NAMES['top1'].capitalize()} on {held[0]['valid_n']} held-out cases while the model trains", 7.2, 3.6
    )
    values = [100 * row["valid_top1"] for row in held]
    below = [100 * (row["valid_top1"] - row["valid_top1_low"]) for row in held]
    above = [100 * (row["valid_top1_high"] - row["valid_top1"]) for row in held]
    axes.errorbar(
        steps, values, yerr=[below, above], color=LIGHT.tuned, ecolor=LIGHT.muted, elinewidth=1.2, capsize=4, marker="o", linewidth=1.5
    )
    axes.set_ylim(0, 100)
    axes.set_xticks(steps)
    label_axes(axes, LIGHT, "training step", "right gene first, %; lines: 95% intervals")
    return figure


def _by_gene(report: EvalReport) -> dict[str, list[float]]:
    """Gene -> 1.0 or 0.0 a case: was it in first place?"""
    found: dict[str, list[float]] = defaultdict(list)
    for group in report.groups:
        ranks = [RANKING.rank(rollout.completion, group.row) for rollout in group.graded()]
        found[str(group.row.item["reference_answer"])].append(statistics.fmean(float(rank == 1) for rank in ranks))
    return dict(found)


if __name__ == "__main__":
    main()
