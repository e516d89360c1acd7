"""The rule for answers that are programs: each is executed, and its number is what it says (P-CoT with majority voting, ReFT 4.4).

The programs are models' own and run as a grader's do: in the sandbox, in a child with a time limit, by the gallery's
`program_answer` source with another last step (it gives the number instead of comparing it).
"""

from __future__ import annotations

import math

from pinetune.evals.answer_rules import PROGRAM, Reading, number_key
from pinetune.graders.gallery.inline import source_of
from pinetune.sandbox.levels import choose_level
from pinetune.sandbox.limits import Limits
from pinetune.sandbox.pool import WarmPool

# The sandbox hands back a float and nothing else, so one float has to say "no number"; no answer to a question is this one.
NOTHING = -1.7e308
READ = f"""

def grade(sample, item):
    program = "" if overlong(sample, MAX_CHARS) else program_of(sample)
    if not program.strip() or not is_fair(program, MODULES):
        return {NOTHING!r}
    number = as_number(in_child(lambda: result_of(program), SECONDS))
    return {NOTHING!r} if number is None else float(number)
"""


class ProgramRule:
    """Reads the number a program gives; None where it fails, takes too long or reaches for what is not its own."""

    name = PROGRAM

    def __init__(self, *, unsafe_python: bool = False) -> None:
        source = source_of("program_answer", {}) + READ
        self._pool = WarmPool(source, choose_level(source, trusted=False, unsafe=unsafe_python), Limits())

    def read(self, text: str) -> Reading | None:
        outcome = self._pool.call({"output_text": text}, {})
        number = outcome.value
        if number is None or number == NOTHING or not math.isfinite(number):
            return None
        return Reading(number_key(number), f"{number:.12g}")

    def close(self) -> None:
        self._pool.close()
