"""How much memory there is, by each of the ways in which a system limits it, and what a full verification takes."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from checkpoint_builder import write_model
from safetensors.torch import load_file

from converter.errors import EnvironmentFailure
from converter.runtime import memory
from converter.verification.memory import check_memory, memory_of_full_verification
from converter.verification.source_results import SourceResults


def write_system(root: Path, free_kb: int, cgroup: str, groups: dict[str, dict[str, str]]) -> None:
    """``/proc`` and ``/sys/fs/cgroup`` as Linux writes them."""
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "meminfo").write_text(f"MemTotal: 99999999 kB\nMemAvailable:   {free_kb} kB\nSwapTotal: 0 kB\n")
    (root / "proc" / "self" / "cgroup").write_text(cgroup)
    for group, files in groups.items():
        (root / "cgroup" / group).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (root / "cgroup" / group / name).write_text(text)


@pytest.mark.parametrize(
    ("free_kb", "cgroup", "groups", "expected"),
    [
        (4_000_000, "", {}, (4_096_000_000, "free")),
        (4_000_000, "0::/\n", {"": {"memory.max": "max\n", "memory.current": "5\n"}}, (4_096_000_000, "free")),
        (
            4_000_000,
            "0::/a/b\n",
            {
                "a": {"memory.max": "3000000000\n", "memory.current": "2500000000\n", "memory.stat": "anon 7\n"},
                "a/b": {"memory.max": "max\n", "memory.current": "1\n"},
            },
            (500_000_000, "left to this container or control group"),
        ),
        (
            4_000_000,
            "0::/\n",
            {
                "": {
                    "memory.max": "3000000000\n",
                    "memory.current": "2500000000\n",
                    "memory.stat": "anon 7\ninactive_file 900000000\nactive_file 100000000\n",
                }
            },
            (1_500_000_000, "left to this container or control group"),
        ),
        (
            4_000_000,
            "5:cpu:/x\n4:memory:/docker/abc\n",
            {"memory": {"memory.limit_in_bytes": "1000000000\n", "memory.usage_in_bytes": "400000000\n"}},
            (600_000_000, "left to this container or control group"),
        ),
        (
            4_000_000,
            "4:memory:/\n",
            {"memory": {"memory.limit_in_bytes": "9223372036854771712\n", "memory.usage_in_bytes": "4\n"}},
            (4_096_000_000, "free"),
        ),
    ],
)
def test_the_least_limit_counts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    free_kb: int,
    cgroup: str,
    groups: dict[str, dict[str, str]],
    expected: tuple[int, str],
) -> None:
    write_system(tmp_path, free_kb, cgroup, groups)
    monkeypatch.setattr(memory, "PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    found = memory.available_memory()
    assert found is not None
    assert (found.nbytes, found.limit) == expected


def test_what_this_system_has() -> None:
    found = memory.available_memory()
    assert found is not None
    assert 0 < found.nbytes <= psutil.virtual_memory().total


def test_a_system_that_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "PROC", tmp_path)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert memory.available_memory() is None


PEAK = """
import re, sys
from pathlib import Path
from converter.verification.run_source import write_results
source, folder, words, batch = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
print(write_results(
    kind="causal", source=source, tokenizer=source, folder=folder, context_length=256, row_length=words,
    batch_size=batch, threads=1, trust_remote_code=False, load_dtype=None,
))
# Unlike ru_maxrss, it says nothing of the process that started this one.
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024)
"""


@pytest.mark.parametrize(("words", "batch"), [(512, 1), (60_000, 2)])
def test_the_estimate_is_that_of_a_run(tmp_path: Path, words: int, batch: int) -> None:
    """A bfloat16 model of 50 or 170 million weights, against the peak of the process that runs it."""
    sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 3}
    source = write_model(tmp_path / "source", "llama", dtype="bfloat16", vocab_size=words, **sizes)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, source, tmp_path, str(words), str(batch)],
        capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    peak = int(done.stdout.splitlines()[-1])
    weights = 3 * (1024 * 1024 * 4 + 3 * 1024 * 4096) + 2 * words * 1024
    estimate = memory_of_full_verification(weights, largest=max(4096, words) * 1024, vocab_size=words, batch_size=batch)
    assert peak < estimate * 1.1
    assert estimate < peak * 1.8


def test_what_cannot_fit_is_refused_before_anything_is_loaded(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("converter.verification.memory.available_memory", lambda: memory.Available(440_000_000, "free"))
    monkeypatch.setattr("converter.verification.source_results.ask", None)
    told: list[str] = []
    with SourceResults(checkpoint, checkpoint) as results, pytest.raises(EnvironmentFailure) as failure:
        results.computed("causal", 256, 512, batch_size=16, threads=1, tell=told.append)
    said = str(failure.value)
    assert said.startswith("a full verification runs the source in float32, which takes about 0.")
    weights = sum(tensor.numel() for tensor in load_file(checkpoint / "model.safetensors").values())
    assert f"GB for {weights:,} weights, with 0.4 GB free; use --verify load, or a machine with more memory" in said
    assert told == []


def test_a_smaller_batch_is_advised_where_that_helps(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "converter.verification.memory.available_memory", lambda: memory.Available(10_000_000_000, "free")
    )
    check_memory(checkpoint, vocab_size=100_000, batch_size=4)
    with pytest.raises(EnvironmentFailure, match="use a smaller --batch-size or --verify load"):
        check_memory(checkpoint, vocab_size=100_000, batch_size=64)


def test_addresses_are_limited_too(checkpoint: Path) -> None:
    program = (
        "import resource, sys; from pathlib import Path; from converter.verification.memory import check_memory\n"
        "resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]), int(sys.argv[1])))\n"
        "check_memory(Path(sys.argv[2]))\n"
    )
    for limit, refused in ((1_200_000_000, True), (9_000_000_000, False)):
        done = subprocess.run(
            [sys.executable, "-c", program, str(limit), checkpoint], capture_output=True, text=True, check=False
        )
        assert ("GB allowed by ulimit -v; use --verify load" in done.stderr) == refused, done.stderr
