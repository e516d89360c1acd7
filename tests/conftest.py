"""How hypothesis searches in our tests: the same examples each time, and no clock.

A test must fail by a change, never by chance. By default hypothesis tries other examples in every run, ends an example after 0.2 s
and calls a slow machine unhealthy: on a crowded one that is a failure without a fault. To look for new faults:

    pytest --hypothesis-profile=explore tests/unit/test_graders_template.py
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", deadline=None, max_examples=2_000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")
