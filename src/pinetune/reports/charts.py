"""The three pictures of a run: reward over training, the numbers with their intervals, length of thinking.

Each takes plain rows of metrics.jsonl or Intervals and gives the bytes of a PNG.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pinetune.records import EvalReport, Interval
from pinetune.reports.style import Theme, add_legend, as_png, label_axes, new_chart

METRIC_NAMES = {"top1": "top-1", "top5": "top-5", "topmax": "top-max", "mrr": "MRR", "reward": "reward"}
SMOOTHING = 10  # training steps in a running mean: a step's reward is of a few prompts only

Curve = Sequence[Mapping[str, Any]]


def reward_chart(curve: Curve, theme: Theme, best_step: int | None = None) -> bytes:
    """Training reward (each step faint, running mean strong) and held-out reward with its 95% band; the kept step marked."""
    figure, axes = new_chart(theme, "Reward over training")
    steps, rewards = _series(curve, "train_reward_mean")
    if steps:
        axes.plot(steps, rewards, color=theme.train, linewidth=1, alpha=0.35)
        axes.plot(steps, running_mean(rewards, SMOOTHING), color=theme.train, linewidth=2, label=f"training, mean of {SMOOTHING} steps")
    at, held_out = _series(curve, "valid_reward_mean")
    if at:
        _, low = _series(curve, "valid_reward_low")
        _, high = _series(curve, "valid_reward_high")
        if len(low) == len(high) == len(at):
            axes.fill_between(at, low, high, color=theme.tuned, alpha=0.16, linewidth=0)
        axes.plot(at, held_out, color=theme.tuned, linewidth=2.2, marker="o", markersize=5, label="held-out, 95% interval")
    if best_step in at:
        _mark_best(axes, theme, best_step, held_out[at.index(best_step)], last=max([*steps, *at]))
    shown = [*rewards, *held_out]
    if shown and min(shown) >= 0 and max(shown) <= 1:
        axes.set_ylim(0, min(1.02, max(*_series(curve, "valid_reward_high")[1], *shown, 0.1) * 1.08))
    label_axes(axes, theme, "step", "mean reward")
    add_legend(axes, theme, columns=2)
    return as_png(figure)


def _mark_best(axes: Any, theme: Theme, step: int, reward: float, last: int) -> None:
    axes.axvline(step, color=theme.muted, linewidth=1, linestyle=(0, (3, 3)), zorder=1)
    axes.plot([step], [reward], marker="*", markersize=15, color=theme.tuned, markeredgecolor=theme.paper, zorder=5)
    left_of_line = step > 0.5 * last
    axes.annotate(
        f"weights of step {step} kept",
        (step, 0.04),
        xycoords=("data", "axes fraction"),
        xytext=(-6 if left_of_line else 6, 0),
        textcoords="offset points",
        ha="right" if left_of_line else "left",
        fontsize=9,
        color=theme.ink,
    )


def numbers_chart(base: EvalReport, tuned: EvalReport, ranker: EvalReport | None, theme: Theme) -> bytes:
    """Bars with 95% intervals: top-1, top-5, top-max (or the reward, where answers are no ranked lists) of each model."""
    models = [("base", base, theme.base), ("classical ranker", ranker, theme.ranker), ("tuned", tuned, theme.tuned)]
    present = [(name, report, colour) for name, report, colour in models if report is not None]
    metrics = [m for m in ("top1", "top5", "topmax") if m in tuned.metrics] or ["reward"]
    percent = metrics != ["reward"]
    figure, axes = new_chart(theme, "How often the right answer is there" if percent else "Reward on held-out rows", 7.6, 4.0)
    width = (0.8 if percent else 0.5) / len(present)
    for i, (name, report, colour) in enumerate(present):
        at = [x + (i - (len(present) - 1) / 2) * width for x in range(len(metrics))]
        _bars(axes, theme, at, [interval_of(report, metric) for metric in metrics], width * 0.9, (colour, name), percent)
    axes.set_xticks(range(len(metrics)), [METRIC_NAMES[m] for m in metrics], fontsize=11, color=theme.ink)
    axes.set_xlim(-0.6, len(metrics) - 0.4)
    _value_axis(axes, [interval_of(report, metric) for _, report, _ in present for metric in metrics], percent)
    label_axes(axes, theme, f"{tuned.reward.n} held-out rows; lines are 95% intervals", "")
    add_legend(axes, theme, columns=len(present))
    return as_png(figure)


def _bars(
    axes: Any, theme: Theme, at: Sequence[float], intervals: Sequence[Interval], width: float, look: tuple[str, str], percent: bool
) -> None:
    """One model's bars; `look` is its colour and its name."""
    values = [interval.value for interval in intervals]
    errors = [[i.value - i.low for i in intervals], [i.high - i.value for i in intervals]]
    axes.bar(at, values, width, color=look[0], label=look[1])
    axes.errorbar(at, values, yerr=errors, fmt="none", ecolor=theme.ink, elinewidth=1.3, capsize=4, capthick=1.3)
    number = {"textcoords": "offset points", "ha": "center", "fontsize": 10, "fontweight": "bold", "color": theme.ink}
    for x, interval in zip(at, intervals, strict=True):
        text = f"{100 * interval.value:.0f}%" if percent else f"{interval.value:.2f}"
        axes.annotate(text, (x, interval.high), xytext=(0, 5), **number)


def _value_axis(axes: Any, shown: Sequence[Interval], percent: bool) -> None:
    bottom, top = min(0.0, *(interval.low for interval in shown)), max(interval.high for interval in shown)
    axes.set_ylim(bottom, bottom + (top - bottom) * 1.12)  # room for the numbers above the bars
    if percent:
        ticks = [tick / 100 for tick in range(0, 101, 20 if top > 0.4 else 10 if top > 0.2 else 5) if tick / 100 <= top * 1.12]
        axes.set_yticks(ticks, [f"{100 * tick:.0f}%" for tick in ticks])


def thinking_chart(curve: Curve, theme: Theme) -> bytes:
    """Mean tokens of thinking a completion; of the whole completion for a model that does not think."""
    thinks = any(value > 0 for key in ("reasoning_tokens_mean", "valid_reasoning_tokens_mean") for value in _series(curve, key)[1])
    kind = "reasoning" if thinks else "completion"
    figure, axes = new_chart(theme, "Length of thinking" if thinks else "Length of completions")
    steps, lengths = _series(curve, f"{kind}_tokens_mean")
    if steps:
        axes.plot(steps, lengths, color=theme.train, linewidth=1, alpha=0.35)
        axes.plot(steps, running_mean(lengths, SMOOTHING), color=theme.train, linewidth=2, label=f"training, mean of {SMOOTHING} steps")
    at, held_out = _series(curve, f"valid_{kind}_tokens_mean")
    if at:
        axes.plot(at, held_out, color=theme.tuned, linewidth=2.2, marker="o", markersize=5, label="held-out")
    axes.set_ylim(0, max([*lengths, *held_out, 1.0]) * 1.25)
    label_axes(axes, theme, "step", "mean tokens")
    add_legend(axes, theme, columns=2)
    return as_png(figure)


def interval_of(report: EvalReport, metric: str) -> Interval:
    return report.reward if metric == "reward" else report.metrics[metric]


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """Mean of each value and up to window - 1 before it.

    >>> running_mean([1.0, 3.0, 5.0], 2)
    [1.0, 2.0, 4.0]
    """
    return [sum(part) / len(part) for part in (values[max(0, i - window + 1) : i + 1] for i in range(len(values)))]


def _series(curve: Curve, key: str) -> tuple[list[int], list[float]]:
    rows = [(row["step"], row[key]) for row in curve if row.get(key) is not None]
    return [step for step, _ in rows], [value for _, value in rows]
