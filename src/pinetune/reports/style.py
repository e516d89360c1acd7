"""The look of the charts: one palette, safe for colour-blind readers (Okabe & Ito 2008), on light and on dark paper."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

DOTS_PER_INCH = 170


@dataclass(frozen=True, slots=True)
class Theme:
    paper: str
    ink: str
    muted: str  # axis labels, notes
    rule: str  # grid lines
    base: str
    ranker: str
    tuned: str
    train: str


LIGHT = Theme("#ffffff", "#1b1f24", "#5b6570", "#e4e8ec", base="#9aa3ad", ranker="#e69f00", tuned="#0072b2", train="#009e73")
DARK = Theme("#171b21", "#eceff3", "#9aa5b1", "#2c333c", base="#7d8793", ranker="#e6a417", tuned="#56b4e9", train="#2bc79b")
THEMES = {"light": LIGHT, "dark": DARK}


def new_chart(theme: Theme, title: str, width: float = 5.2, height: float = 3.4) -> tuple[Any, Any]:
    """A figure and its axes without pyplot: no global state, no display needed, safe in threads."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor=theme.paper, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor=theme.paper)
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=theme.ink, pad=30)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(theme.muted)
    axes.tick_params(colors=theme.muted, labelsize=9, length=0, pad=6)
    axes.grid(axis="y", color=theme.rule, linewidth=1)
    axes.set_axisbelow(True)
    return figure, axes


def label_axes(axes: Any, theme: Theme, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=9, color=theme.muted)
    axes.set_ylabel(y, fontsize=9, color=theme.muted)


def add_legend(axes: Any, theme: Theme, columns: int) -> None:
    """Between title and axes, where it can hide no point; none where nothing was drawn."""
    if not axes.get_legend_handles_labels()[1]:
        return
    axes.legend(
        loc="lower left", bbox_to_anchor=(-0.008, 1.0), ncols=columns, frameon=False, fontsize=9, labelcolor=theme.ink,
        borderpad=0, handlelength=1.5, columnspacing=1.4, borderaxespad=0.6,
    )  # fmt: skip


def as_png(figure: Any) -> bytes:
    """The same numbers give the same bytes: no software name, no date."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, facecolor=figure.get_facecolor(), metadata={"Software": None})
    return buffer.getvalue()
