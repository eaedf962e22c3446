"""Settings of all tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# How long a machine takes is no property of the code; hypothesis makes its tables on the first run, which is slow.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def llama_cpp_stays_outside() -> Iterator[None]:
    """llama.cpp may end the process that it runs in, so it runs in a child (see llama_cpp_process.py)."""
    yield
    assert "llama_cpp" not in sys.modules, "llama_cpp was imported into the tests' own process"
