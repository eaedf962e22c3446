"""Settings of all tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# How long a machine takes is no property of the code; hypothesis makes its tables on the first run, which is slow.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
