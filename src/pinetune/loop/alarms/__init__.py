"""Alarms of a running job, in plain words: one small file each, and this table. Pure functions over the run's history.

A new alarm: a file with NAME and check(history), a line here, a line in docs/alarms.md, a planted fault in its tests.
"""

from __future__ import annotations

from pinetune.loop.alarms import (
    entropy_gone,
    gaming,
    grader_errors,
    held_out_falls,
    length_explodes,
    metric_stands_still,
    no_spread,
    part_saturated,
    sampler_gap,
    update_skipped,
)
from pinetune.loop.alarms.history import Check

STEP_ALARMS: dict[str, Check] = {  # asked after every step
    module.NAME: module.check
    for module in (entropy_gone, length_explodes, no_spread, sampler_gap, part_saturated, gaming, grader_errors, update_skipped)
}
EVAL_ALARMS: dict[str, Check] = {module.NAME: module.check for module in (held_out_falls, metric_stands_still)}  # after every evaluation
