"""Held-out reward falls while training reward rises: the rows are learned by heart.

On the miniature, trained too long, held-out reward went from 0.35 at step 60 to 0.12 at step 240 while training reward rose to 0.99.
"""

from __future__ import annotations

from pinetune.loop.alarms.history import RECENT, START, Alarm, History, mean

NAME = "held_out_falls"
EVALS = 2  # in a row: the best of several evaluations is a lucky one, so a single lower one means nothing
TRAIN_RISE = 0.03  # of the reward, means of five steps: above what the choice of rows moves it on a plateau of the miniature


def check(history: History) -> Alarm | None:
    earlier, recent = history.evals[:-EVALS], history.evals[-EVALS:]
    if not earlier or len(history.steps) < 2 * RECENT:
        return None
    best = max(earlier, key=lambda report: report.reward.value)
    if any(report.reward.value >= best.reward.low for report in recent):  # below its 95% interval
        return None
    at_best = [report for report in history.steps if report.step <= best.step][-RECENT:] or history.steps[:START]
    before, now = mean(at_best, lambda r: r.reward_mean), mean(history.steps[-RECENT:], lambda r: r.reward_mean)
    if now - before < TRAIN_RISE:
        return None
    lower = " and ".join(f"{report.reward.value:.2f}" for report in recent)
    return Alarm(
        NAME,
        f"Held-out reward fell from {best.reward.value:.2f} (step {best.step}) to {lower}, while training reward rose from {before:.2f} "
        f"to {now:.2f}: the model learns the training rows by heart, or the held-out rows ask for something else than they do. "
        f"Stop here: the weights of step {best.step} are kept. Read some held-out answers; more rows, fewer steps or a lower learning "
        "rate help next time.",
        {"best_step": best.step, "best": best.reward.value, "recent": [r.reward.value for r in recent], "train": [before, now]},
    )
