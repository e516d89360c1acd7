"""When grading itself is broken, stop and show why, before a broken grader trains the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pinetune.errors import JobFailed
from pinetune.records import Group, UpdateReport

MAX_LOGPROB_GAP = 2.0  # nats at any token; float32 agrees within 1e-4, bfloat16 within a few tenths
MAX_UNGRADED_SHARE = 0.5  # mean over the window; below it, ungraded rollouts are only left out and counted
WINDOW = 3  # steps


def ungraded_share(groups: Sequence[Group]) -> float:
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    return sum(r.grade.status != "ok" for r in rollouts) / max(1, len(rollouts))


def check_grading(shares: list[float], groups: Sequence[Group]) -> list[float]:
    """Append this step's ungraded share to the window. Raises JobFailed with the commonest reasons when it is too high.

    A first step without a single grade fails at once; later the mean over WINDOW steps decides.
    """
    shares = [*shares, ungraded_share(groups)][-WINDOW:]
    hopeless = shares[-1] == 1.0 and len(shares) == 1
    if hopeless or (len(shares) == WINDOW and sum(shares) / WINDOW > MAX_UNGRADED_SHARE):
        raise JobFailed(f"{shares[-1]:.0%} of the answers could not be graded; the job stops here.\n{reasons(groups)}")
    return shares


def reasons(groups: Sequence[Group], most: int = 3) -> str:
    """The commonest reasons why answers could not be graded, most frequent first."""
    found = Counter(
        (r.grade.error_kind, r.grade.explanation.strip()) for g in groups for r in g.rollouts if r.grade.status != "ok"
    )  # fmt: skip
    return "\n".join(f"{count} x {kind}: {text[-600:]}" for (kind, text), count in found.most_common(most))


def check_agreement(update: UpdateReport) -> None:
    """Raise JobFailed when sampler and learner give the same token different probabilities: then ratios mean nothing."""
    gap = update.metrics.get("logprob_gap_max", 0.0)
    if gap > MAX_LOGPROB_GAP:
        raise JobFailed(
            f"sampler and learner differ by {gap:.1f} nats on a token, so the model is not computed alike by both; "
            "please report the model's architecture, and train another model meanwhile"
        )
