"""A verification that is killed, runs out of memory or lacks a package: the output is kept, and gone on with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import broken_packages
import pytest

SAMPLE = Path(__file__).parent / "fixtures" / "sample"


def convert(directory: Path, *arguments: str, packages: Path | None = None, shell: str = "") -> tuple[int, str]:
    """Run the command as a user does, in a directory, with packages that child processes meet first."""
    paths = [*([str(packages)] if packages else []), os.environ.get("PYTHONPATH", "")]
    command = ["bash", "-c", f'{shell} exec "$@"', "bash", sys.executable, "-m", "converter", *arguments]
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def killed_while_it_generates(packages: Path, signal: str) -> None:
    broken_packages.llama_cpp_with(
        packages, f"def llama_decode(context, batch):\n    os.kill(os.getpid(), signal.{signal})\n"
    )


def completed(directory: Path, before: bytes, *arguments: str) -> None:
    """The command where everything works: the very same file gets its name."""
    code, said = convert(directory, *arguments)
    assert code == 0, said
    assert (directory / "x.gguf").read_bytes() == before
    assert not list(directory.glob("x.gguf.*"))


CONVERSION = ("--method", "q4_0", "--model", str(SAMPLE), "--output", "x.gguf")


@pytest.mark.parametrize("signal", ["SIGILL", "SIGKILL", "SIGSEGV"])
def test_a_killed_verification(tmp_path: Path, signal: str) -> None:
    packages = tmp_path / "packages"
    (there := tmp_path / "there").mkdir()
    killed_while_it_generates(packages, signal)
    code, said = convert(there, *CONVERSION, packages=packages)
    assert code == 3, said
    assert f"was killed by {signal}" in said and "kept as x.gguf.unverified" in said
    identity = (there / "x.gguf.unverified").stat()
    before = (there / "x.gguf.unverified").read_bytes()
    completed(there, before, *CONVERSION)
    assert (there / "x.gguf").stat().st_mtime_ns == identity.st_mtime_ns
    assert convert(there, "list", ".")[1].count("x.gguf") == 1


def test_convert_verify_completes_it(tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    (there := tmp_path / "there").mkdir()
    killed_while_it_generates(packages, "SIGILL")
    assert convert(there, *CONVERSION, packages=packages)[0] == 3
    code, said = convert(there, "verify", "x.gguf.unverified", "--model", str(SAMPLE), packages=packages)
    assert code == 3 and "was killed by SIGILL" in said
    before = (there / "x.gguf.unverified").read_bytes()
    completed(there, before, "verify", "x.gguf.unverified", "--model", str(SAMPLE), "--level", "load")


def test_a_full_verification_without_torch(tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    (there := tmp_path / "there").mkdir()
    broken_packages.raising(packages, "torch", "ModuleNotFoundError('No module', name='torch')")
    code, said = convert(there, *CONVERSION, "--verify", "full", packages=packages)
    assert code == 3, said
    assert "torch is not installed; run pip install torch" in said and "kept as x.gguf.unverified" in said
    before = (there / "x.gguf.unverified").read_bytes()
    completed(there, before, *CONVERSION, "--verify", "full")


def test_too_little_memory_for_the_verification(tmp_path: Path) -> None:
    """``ulimit -v``: either it is refused in words before anything is written, or the finished output is kept."""
    for megabytes in (700, 1200):
        (there := tmp_path / str(megabytes)).mkdir()
        code, said = convert(there, *CONVERSION, "--verify", "full", shell=f"ulimit -v {megabytes * 1000};")
        assert code == 3, said
        assert "memory" in said
        left = sorted(path.name for path in there.iterdir() if path.name != "catalogue.sqlite")
        assert left in ([], ["x.gguf.unverified", "x.gguf.unverified.journal"])
        assert convert(there, *CONVERSION, "--verify", "full")[0] == 0


def test_a_vocabulary_that_cannot_be_proved_for_want_of_a_package(tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    (there := tmp_path / "there").mkdir()
    broken_packages.killed_on_import(packages, "llama_cpp", "SIGILL")
    code, said = convert(there, *CONVERSION, packages=packages)
    assert code == 3, said
    assert "was killed by SIGILL" in said
    assert not list(there.iterdir())
