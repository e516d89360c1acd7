"""The held-out reward moves, the metrics that the grader does not decide do not: the reward may be won without the skill."""

from __future__ import annotations

from pinetune.loop.alarms.history import Alarm, History

NAME = "metric_stands_still"
EVALS = 2
SHARE = 0.25  # a metric that follows the reward gains at least a quarter as much (on the miniature top-1 gains more than it)


def check(history: History) -> Alarm | None:
    recent = history.evals[-EVALS:]
    if len(history.evals) <= EVALS:
        return None
    first = history.evals[0]
    names = [name for name in first.metrics if all(name in report.metrics for report in recent)]
    if not names or any(report.reward.value <= first.reward.high for report in recent):  # moved out of its 95% interval
        return None
    for report in recent:
        gain = report.reward.value - first.reward.value
        if any(report.metrics[name].value - first.metrics[name].value > SHARE * gain for name in names):
            return None
    now, name = recent[-1], names[0]
    return Alarm(
        NAME,
        f"Held-out reward rose from {first.reward.value:.2f} to {now.reward.value:.2f}, but {name}, which is counted without the grader, "
        f"went from {first.metrics[name].value:.2f} to {now.metrics[name].value:.2f}: the model learns to please the grader, not to answer "
        "better. Read some answers with a high reward, and try the grader: pinetune grader test.",
        {"reward": [first.reward.value, now.reward.value], **{n: [first.metrics[n].value, now.metrics[n].value] for n in names}},
    )
