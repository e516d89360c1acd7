"""Can this model learn this task from these rewards? Sample it as training would, and look at the rewards of its groups."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pinetune.bench.keys import asks_a_judge
from pinetune.bench.options import BenchOptions
from pinetune.bench.paid import paid_form
from pinetune.bench.run import completion_of
from pinetune.data.answers import find_answer_field, lookup, normalise
from pinetune.evals.evaluate import clusters_of, row_reward
from pinetune.evals.statistics import mean_interval
from pinetune.preflight.options import Subject
from pinetune.preflight.report import Finding, Part, Verdict
from pinetune.records import Group, Row

PASS = 0.5  # a reward from here on counts as solved in pass@k
SOLVED = 0.9  # mean reward: prompts this good are retired by the curriculum
SPREAD = 0.25  # share of groups with a spread of rewards from which training moves at once
LITTLE = 0.05  # below: most steps would draw 64 answers and learn from three
HIT = 0.02  # share of answers with any reward below which nobody is ever paid
GUESS = 0.3  # a constant answer worth this much is a baseline that hides what is learned
COMMONEST, GUESS_ROWS = 5, 40
BINS = 10


@dataclass(frozen=True, slots=True)
class Guess:
    """The best constant answer, graded on other rows than its own."""

    answer: str
    score: float
    rows: int


def check_learnable(groups: Sequence[Group], guess: Guess | None, cluster_field: str | None = None) -> Part:
    """`groups`: samples of the base on a sample of training rows, graded. Rows with one answer in `cluster_field` count together."""
    rewards = [reward for group in groups for reward in group.rewards()]
    total = sum(len(group.rollouts) for group in groups)
    if not rewards:
        reason = next((r.grade.explanation for g in groups for r in g.rollouts), "no rows")[-300:]
        finding = Finding("stop", "ungraded", f"none of {total} answers of the base could be graded: {reason}")
        return Part("learnability", (finding,))
    figures = _figures(groups, rewards, total, cluster_field)
    findings = [_verdict(figures, guess), *_asides(figures, guess, groups)]
    if guess is not None:
        figures["best_constant_answer"] = {"answer": guess.answer[:200], "score": guess.score, "rows": guess.rows}
    return Part("learnability", tuple(findings), figures)


def _figures(groups: Sequence[Group], rewards: Sequence[float], total: int, cluster_field: str | None) -> dict[str, object]:
    graded = [group for group in groups if group.graded()]
    samples = min(len(group.rewards()) for group in graded)
    interval = mean_interval([row_reward(group) for group in graded], clusters_of(graded, cluster_field))
    with_spread = sum(max(group.rewards()) - min(group.rewards()) > 1e-9 for group in graded)
    ks = [k for k in (1, 2, 4, 8, 16, 32, 64) if k <= samples]
    passed = {
        f"pass@{k}": statistics.fmean(pass_at(k, len(g.rewards()), sum(value >= PASS for value in g.rewards())) for g in graded) for k in ks
    }
    completions = [rollout.completion for group in groups for rollout in group.rollouts]
    return {
        "rows": len(groups),
        "samples": len(groups[0].rollouts),
        "reward_mean": interval.value,
        "reward_ci95": [interval.low, interval.high],
        "reward_max": max(rewards),
        "rewarded_share": sum(value > 1e-9 for value in rewards) / len(rewards),
        **passed,
        "histogram": _histogram(rewards),
        "groups_with_spread": with_spread / len(graded),
        "ungraded": total - len(rewards),
        "completion_tokens_mean": statistics.fmean(len(c.token_ids) for c in completions),
        "truncated_fraction": sum(c.finish == "length" for c in completions) / len(completions),
    }


def pass_at(k: int, n: int, right: int) -> float:
    """Chance that one of k answers drawn from n, `right` of them right, is right (Chen et al., arXiv 2107.03374, unbiased).

    >>> pass_at(2, 4, 1)
    0.5
    """
    return 1.0 - math.comb(n - right, k) / math.comb(n, k)


def _histogram(rewards: Sequence[float]) -> list[int]:
    """Rewards in ten bins over 0..1, the last with 1 in it; what lies outside falls into the first or the last."""
    counts = [0] * BINS
    for value in rewards:
        counts[min(BINS - 1, max(0, int(value * BINS)))] += 1
    return counts


def _verdict(figures: dict[str, object], guess: Guess | None) -> Finding:
    mean, spread, rewarded = float(figures["reward_mean"]), float(figures["groups_with_spread"]), float(figures["rewarded_share"])  # type: ignore[arg-type]
    base = f"the base scores {mean:.2f} on average"
    if mean >= SOLVED:
        return Finding("stop", "already_solved", f"already solved: {base}; nothing is left to learn. Take harder rows or a stricter grader")
    if guess is not None and guess.score >= GUESS and guess.score > mean:
        text = (
            f"guessing pays: always answering {guess.answer[:60]!r} scores {guess.score:.2f} on {guess.rows} other rows, and {base}. The "
            "model will learn to guess first; balance the answers or make the grader ask for more"
        )
        return Finding("look", "guessing_pays", text)
    if spread >= SPREAD:
        return Finding("ok", "learnable", f"learnable: {base}, and in {spread:.0%} of the groups some answers do better than others")
    if spread <= LITTLE and rewarded <= HIT:
        text = (
            f"no signal: {base}, {rewarded:.0%} of its answers get any reward. Warm up first (a supervised job on some worked answers), or "
            "soften the grader so that steps on the way are paid, or take a larger model"
        )
        return Finding("stop", "no_signal", text)
    if spread <= LITTLE:
        text = f"no signal: {base}, and hardly a group ({spread:.0%}) has answers of different worth; check the grader, or raise group_size"
        return Finding("stop", "no_spread", text)
    text = f"little signal: {base}, and only {spread:.0%} of the groups have answers of different worth; a larger group_size helps"
    return Finding("look", "little_signal", text)


def _asides(figures: dict[str, object], guess: Guess | None, groups: Sequence[Group]) -> list[Finding]:
    found = []
    if guess is not None and guess.score < GUESS:
        found.append(
            Finding(
                "ok", "guessing", f"the best constant answer, {guess.answer[:60]!r}, scores {guess.score:.2f} on {guess.rows} other rows"
            )
        )
    ungraded, total = int(figures["ungraded"]), sum(len(g.rollouts) for g in groups)  # type: ignore[call-overload]
    if ungraded:
        reason = next(r.grade.explanation.strip().splitlines() for g in groups for r in g.rollouts if r.grade.status == "error")
        verdict: Verdict = "stop" if ungraded > total / 2 else "look"
        why = reason[-1][:160] if reason else ""
        found.append(Finding(verdict, "ungraded", f"{ungraded} of {total} answers of the base could not be graded ({why})"))
    cut = float(figures["truncated_fraction"])  # type: ignore[arg-type]
    if cut > 0.1:
        text = f"{cut:.0%} of the base's answers are cut off at the token limit: raise max_tokens, or ask for shorter answers in the prompt"
        found.append(Finding("look", "truncated", text))
    return found


def sample_of(rows: Sequence[Row], count: int, seed: int) -> list[Row]:
    if len(rows) <= count:
        return list(rows)
    return sorted(random.Random(seed).sample(list(rows), count), key=lambda row: row.index)


def best_guess(subject: Subject) -> Guess | None:
    """The commonest reference answers, each graded on rows it was not taken from; None where rows have no answer or a judge is paid."""
    field = subject.body.pinetune.answer_field or find_answer_field(subject.train)
    if field is None or asks_a_judge(subject.definition):
        return None
    rows = sample_of(subject.train, GUESS_ROWS, subject.options.seed)
    form = paid_form(subject.grader, rows, field, BenchOptions(answer_field=field, definition=subject.definition, schema=subject.schema))
    if form is None:
        return None
    owners: dict[str, list[Row]] = {}
    for row in subject.train:
        owners.setdefault(normalise(lookup(row.item, field)), []).append(row)
    guesses = []
    for of_answer in sorted(owners.values(), key=len, reverse=True)[:COMMONEST]:
        answer = form.write(of_answer[0])
        grades = [subject.grader.grade(completion_of(answer), row) for row in rows if row.index != of_answer[0].index]
        values = [grade.value for grade in grades if grade.status == "ok"]
        if values:
            guesses.append(Guess(answer, statistics.fmean(values), len(values)))
    return max(guesses, key=lambda guess: guess.score, default=None)
