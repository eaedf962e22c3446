"""Settings of all tests, in one process or in several side by side."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# How long a machine takes is no property of the code; hypothesis makes its tables on the first run, which is slow.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

#: Memory that a process of tests and its children take at most, in bytes.
MEMORY = 5 << 30
#: Modules whose tests may be run in several processes, all of one parameter in the same.
SPREAD = ("tests/families/test_families.py",)


def processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# Before torch is imported: processes that run side by side share the processors instead of fighting for them.
if "PYTEST_XDIST_WORKER" in os.environ:
    share = processors() // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, share)))

# Before transformers is imported: code of checkpoints is copied to where no other process looks.
os.environ["HF_MODULES_CACHE"] = modules = tempfile.mkdtemp(prefix="transformers-modules-")
atexit.register(shutil.rmtree, modules, ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process for each processor, as far as the memory goes."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(processors(), memory // MEMORY))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep a module's tests in one process and in their order, so that what its fixtures make is made once.

    Those of ``SPREAD`` share nothing but their parameter.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByModule(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            module, _, test = nodeid.partition("::")
            return test.partition("[")[2] if module in SPREAD else module

    return ByModule(config, log)


@pytest.fixture(autouse=True)
def llama_cpp_stays_outside() -> Iterator[None]:
    """llama.cpp may end the process that it runs in, so it runs in a child (see llama_cpp_process.py)."""
    yield
    assert "llama_cpp" not in sys.modules, "llama_cpp was imported into the tests' own process"
