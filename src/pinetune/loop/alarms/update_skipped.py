"""A step changed no weights although there was something to learn: NaN or infinity in the gradient, or nothing left to train on."""

from __future__ import annotations

from pinetune.loop.alarms.history import Alarm, History

NAME = "update_skipped"
ADVICE = {
    "non-finite": "The weights are as before. Once does no harm; if it comes again, lower the learning rate or train in float32.",
    "no trained tokens": "Every answer that could have taught was cut off at the token limit: raise max_tokens, or lower thinking_budget.",
}
HUGE = 1e6  # rewards belong between 0 and 1; float32 ends at 3e38, and squares of advantages long before


def check(history: History) -> Alarm | None:
    if not history.steps:
        return None
    skipped = history.steps[-1].update.skipped
    advice = next((text for opening, text in ADVICE.items() if skipped.startswith(opening)), "")
    if not advice:  # updated; or no group had any spread, which `no_spread` speaks about once it lasts
        return None
    reward = history.steps[-1].reward_mean
    if abs(reward) >= HUGE:
        advice = f"The grader pays {reward:.3g} on average, which breaks the arithmetic: let it return numbers between 0 and 1."
    return Alarm(NAME, f"Step {history.steps[-1].step} made no update: {skipped}. {advice}", {"reason": skipped, "reward": reward})
