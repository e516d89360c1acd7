"""How the command line speaks: one console for results, one for errors."""

from __future__ import annotations

import sys


def say_error(text: str) -> None:
    """`error: ...` on standard error, in red on a terminal; further lines are further faults."""
    first, *rest = text.splitlines() or [""]
    red, plain = ("\033[1;31m", "\033[0m") if sys.stderr.isatty() else ("", "")
    print(f"{red}error:{plain} {first}", file=sys.stderr)
    for line in rest:
        print(f"  {line}", file=sys.stderr)


def duration(seconds: float) -> str:
    """
    >>> duration(42), duration(200), duration(7300)
    ('42 s', '3 min 20 s', '2 h 1 min')
    """
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
