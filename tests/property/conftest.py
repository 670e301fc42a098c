"""One profile for all property tests: the same examples in every run, and no deadline on a machine that is shared."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "sipfleet", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("sipfleet")
