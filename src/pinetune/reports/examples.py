"""Which transcripts to show, by a rule that is printed beside them: no picking of pretty ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pinetune.records import Group, Rollout
from pinetune.reports.evidence import Evidence

RIGHT_REWARD = 0.5


@dataclass(frozen=True, slots=True)
class Example:
    """The first graded sample of one row by either model."""

    title: str
    row: Group
    base: Rollout
    tuned: Rollout
    base_right: bool
    tuned_right: bool


@dataclass(frozen=True, slots=True)
class Turned:
    """How many rows changed sides between base and tuned."""

    learned: int  # wrong, then right
    lost: int  # right, then wrong
    both: int
    neither: int


def pick(evidence: Evidence) -> tuple[list[Example], Turned]:
    """The first row, in file order, that the tuned model learned, that it lost, and that both got wrong, where there is one."""
    pairs = _pairs(evidence)
    rules: list[tuple[str, Callable[[Example], bool]]] = [
        ("Learned: the first row that the base got wrong and the tuned model right", lambda e: not e.base_right and e.tuned_right),
        ("Lost: the first row that the base got right and the tuned model wrong", lambda e: e.base_right and not e.tuned_right),
        ("Still wrong: the first row that neither got right", lambda e: not e.base_right and not e.tuned_right),
    ]
    chosen = []
    for title, rule in rules:
        found = next((example for example in pairs if rule(example)), None)
        if found is not None:
            chosen.append(replace(found, title=title))
    sides = [(example.base_right, example.tuned_right) for example in pairs]
    turned = Turned(
        learned=sides.count((False, True)),
        lost=sides.count((True, False)),
        both=sides.count((True, True)),
        neither=sides.count((False, False)),
    )
    return chosen, turned


def meaning_of_right(evidence: Evidence) -> str:
    return "the right answer stands first" if evidence.ranking else f"the reward is at least {RIGHT_REWARD}"


def _pairs(evidence: Evidence) -> list[Example]:
    tuned = {group.row.index: group for group in evidence.tuned.groups if group.graded()}
    pairs = []
    for group in sorted(evidence.base.groups, key=lambda group: group.row.index):
        if group.graded() and group.row.index in tuned:
            before, after = group.graded()[0], tuned[group.row.index].graded()[0]
            pairs.append(Example("", group, before, after, _is_right(evidence, group, before), _is_right(evidence, group, after)))
    return pairs


def _is_right(evidence: Evidence, group: Group, rollout: Rollout) -> bool:
    if evidence.ranking:
        return evidence.ranking.rank(rollout.completion, group.row) == 1
    return rollout.grade.value >= RIGHT_REWARD
