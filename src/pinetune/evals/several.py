"""One model, several answers to each row: a single sample, the vote, the best of n and the reranker's pick, judged alike.

    report = judge_several(groups, grader, [rule])    # groups of n graded samples, from rollout.run

Each way of taking one answer becomes an EvalReport over the same rows, so that intervals, ranking metrics and paired tests are those of
every other eval. "best of n" takes the sample with the highest grade: it knows the reference, and no way of choosing can pass it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pinetune.data.answers import find_answer_field
from pinetune.evals.answer_rules import Rule
from pinetune.evals.evaluate import Comparison, align, build_report, clusters_of, compare, row_reward
from pinetune.evals.statistics import mean_interval
from pinetune.evals.voting import Voted, vote
from pinetune.records import EvalReport, Grader, Group, Interval, Rollout

Scorer = Callable[[Group], Sequence[float]]  # one score a rollout of the group; the highest is taken

GREEDY, SINGLE, VOTE, RERANKED, BEST = "greedy", "single sample", "vote", "reranker", "best of n"
WEIGHTED = "weighted"  # before a vote's name: each sample's vote counts what the reranker thinks of it
AGREEMENTS = (0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Rows whose winner had at least this share of the samples: how many, and the reward of the vote on them."""

    share: float
    reward: Interval


@dataclass(frozen=True, slots=True)
class SeveralReport:
    """`ways` in the order of the table; `against` holds each way minus the baseline (the first way), paired by row.

    `votes`, `num_read` (samples in which it found an answer) and `agreement` are those of the first rule.
    """

    rules: tuple[str, ...]
    num_samples: int
    ways: tuple[EvalReport, ...]
    against: dict[str, Comparison]
    votes: tuple[Voted, ...]
    num_read: int
    agreement: tuple[Agreement, ...]

    def way(self, name: str) -> EvalReport:
        return next(report for report in self.ways if report.name == name)


def judge_several(
    groups: Sequence[Group],
    grader: Grader,
    rules: Sequence[Rule],
    *,
    greedy: EvalReport | None = None,
    scorer: Scorer | None = None,
    **options: Any,
) -> SeveralReport:
    """`groups`: n graded samples of each row. `greedy`: a report of one answer a row at temperature 0, the baseline where it is given.

    Several rules are votes over the same samples, named "vote RULE"; with a scorer each is there again as "weighted vote", the samples
    counting what they score. Only a merged list is graded anew; every other answer keeps the grade it has. `options` as in
    `evaluate.build_report`.
    Raises GraderError where a way's answers could not be graded at all.
    """
    ways = [*([greedy] if greedy else []), _report(SINGLE, groups, options)]
    names = {rule.name: VOTE if len(rules) == 1 else f"{VOTE} {rule.name}" for rule in rules}
    by_rule = [_by_vote(groups, rule, grader) for rule in rules]
    ways += [_report(names[rule.name], voted, options) for rule, (_, voted) in zip(rules, by_rule, strict=True)]
    votes, voted = by_rule[0]
    if scorer is not None:
        scores = [scorer(group) for group in groups]
        for rule in rules:
            ways.append(_report(f"{WEIGHTED} {names[rule.name]}", _by_vote(groups, rule, grader, scores)[1], options))
        ways.append(_report(RERANKED, [_taken(group, pick(group, own)) for group, own in zip(groups, scores, strict=True)], options))
    ways.append(_report(BEST, [_taken(group, _best(group)) for group in groups], options))
    ways = align(ways, **options)
    return SeveralReport(
        rules=tuple(rule.name for rule in rules),
        num_samples=len(groups[0].rollouts),
        ways=tuple(ways),
        against={way.name: compare(ways[0], way, **options) for way in ways[1:]},
        votes=tuple(votes),
        num_read=sum(one.num_read for one in votes),
        agreement=tuple(_agreement(voted, votes, options)),
    )


def _by_vote(
    groups: Sequence[Group], rule: Rule, grader: Grader, weights: Sequence[Sequence[float]] | None = None
) -> tuple[list[Voted], list[Group]]:
    """The votes, and the groups of the one answer that each of them takes."""
    counted = [None] * len(groups) if weights is None else weights
    votes = [vote([rollout.completion.answer for rollout in g.rollouts], rule, own) for g, own in zip(groups, counted, strict=True)]
    return votes, [_taken(group, _voted_rollout(group, one, grader)) for group, one in zip(groups, votes, strict=True)]


def pick(group: Group, scores: Sequence[float]) -> Rollout:
    """The rollout with the highest score; of equal ones the first."""
    place = max(range(len(group.rollouts)), key=lambda i: (scores[i], -i))
    return group.rollouts[place]


def _best(group: Group) -> Rollout:
    graded = group.graded()
    return max(graded, key=lambda rollout: rollout.grade.value) if graded else group.rollouts[0]


def _taken(group: Group, rollout: Rollout) -> Group:
    return replace(group, rollouts=(rollout,))


def _voted_rollout(group: Group, voted: Voted, grader: Grader) -> Rollout:
    rollout = group.rollouts[voted.index]
    if not voted.merged or voted.answer == rollout.completion.answer:
        return rollout
    completion = replace(rollout.completion, answer=voted.answer)
    return replace(rollout, completion=completion, grade=grader.grade(completion, group.row))


def _report(name: str, groups: Sequence[Group], options: dict[str, Any]) -> EvalReport:
    return build_report(0, name, groups, seconds=0.0, **{"answer_field": None, **options})


def _agreement(voted: Sequence[Group], votes: Sequence[Voted], options: Mapping[str, Any]) -> list[Agreement]:
    """The vote's share as a measure of trust: the surer the samples, the better the answer should be."""
    field = options.get("answer_field") or find_answer_field([group.row for group in voted])
    by_answer = options.get("cluster_by_answer", True)
    found = []
    for share in AGREEMENTS:
        sure = [group for group, one in zip(voted, votes, strict=True) if one.share >= share and group.graded()]
        if sure:
            found.append(
                Agreement(share, mean_interval([row_reward(group) for group in sure], clusters_of(sure, field if by_answer else None)))
            )
    return found
