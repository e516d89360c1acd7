"""Base, tuned and classical ranker on the same held-out cases: top-1, top-5, top-10 with intervals, and paired tests.

    python benchmarks/rare/compare.py runs/rare-hybrid

Ties of the ranker: a gene that shares its score takes the middle of the tied places, as in the published 18.0. The paired
test against the ranker is also given with ties broken at random (a gene tied with one other for the first place counts 1/2),
which favours the ranker. Intervals and tests resample genes, not rows.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tables import cases, ranker

from pinetune.evals.ranking import rank_of
from pinetune.evals.statistics import mean_interval, paired_difference
from pinetune.runs.folder import RunFolder

CUTS = (1, 5, 10, 50)


def model_hits(run: RunFolder, name: str, cut: int) -> list[float]:
    """For each test row the share of samples that name the right gene within `cut` places."""
    hits = []
    for group in run.read_eval(f"final-{name}").groups:
        ranks = [rank_of(rollout.completion.answer, str(group.row.item["reference_answer"])) for rollout in group.rollouts]
        hits.append(sum(rank is not None and rank <= cut for rank in ranks) / len(ranks))
    return hits


def ranker_hits(cut: int, random_ties: bool) -> list[float]:
    hits = []
    for case in cases("demo_valid"):
        genes, scores = ranker().genes, ranker().scores(case.present)
        if case.gene not in genes:
            hits.append(0.0)
            continue
        own = scores[genes.index(case.gene)]
        better, equal = int((scores > own).sum()), int((scores == own).sum())
        hits.append(min(1.0, max(0.0, (cut - better) / equal)) if random_ties else float(better + (1 + equal) / 2 <= cut))
    return hits


def percent(values: list[float], clusters: list[str]) -> str:
    interval = mean_interval(values, clusters)
    return f"{100 * interval.value:5.1f} [{100 * interval.low:.1f}-{100 * interval.high:.1f}]"


def difference(a: list[float], b: list[float], clusters: list[str]) -> str:
    result = paired_difference(a, b, clusters)
    found = result.difference
    return f"{100 * found.value:+5.1f} [{100 * found.low:+.1f} to {100 * found.high:+.1f}], p = {result.p_value:.4f}"


def main() -> None:
    run = RunFolder(Path(sys.argv[1]))
    rows = cases("demo_valid")
    ids = [str(group.row.item["case_id"]) for group in run.read_eval("final-tuned").groups]
    if ids != [case.id for case in rows]:
        raise SystemExit(f"{run.path}: the evidence rows are not demo_valid's, in order")
    clusters = [case.gene for case in rows]
    hits = {
        "base": {cut: model_hits(run, "base", cut) for cut in CUTS},
        "ranker": {cut: ranker_hits(cut, False) for cut in CUTS},
        "ranker, random ties": {cut: ranker_hits(cut, True) for cut in CUTS},
        "tuned": {cut: model_hits(run, "tuned", cut) for cut in CUTS},
    }
    print(f"n = {len(rows)} cases of {len(set(clusters))} genes; percent, 95% interval")
    for who, found in hits.items():
        print(f"{who:20}", "  ".join(f"top-{cut} {percent(found[cut], clusters)}" for cut in CUTS))
    for who in ("base", "ranker", "ranker, random ties"):
        for cut in (1, 5):
            print(f"tuned - {who}, top-{cut}: {difference(hits[who][cut], hits['tuned'][cut], clusters)}")


if __name__ == "__main__":
    main()
