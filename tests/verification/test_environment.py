"""What says nothing about a file: killed processes, missing packages, too little memory; and a runtime that crashes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import broken_packages
import pytest

from converter.errors import EnvironmentFailure
from converter.verification import Verification, verify, verify_directory

SAMPLE = Path(__file__).parents[1] / "fixtures" / "sample"

#: Decodes several tokens at once, by default, and is killed; ``{}`` is the signal.
KILLED_BY_DEFAULT = """
def llama_decode(context, batch):
    if default and batch.n_tokens > 1:
        os.kill(os.getpid(), signal.{})
    return _real.llama_decode(context, batch)
"""

#: Writes numbers of its own over logits that were computed by default; ``{}`` is what each becomes.
WRONG_BY_DEFAULT = """
import ctypes
def llama_get_logits(context):
    pointer = _real.llama_get_logits(context)
    if default:
        for place in range(512):
            pointer[place] = {}
    return pointer
"""


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory whose packages child processes meet first."""
    directory = tmp_path / "packages"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(directory), os.environ.get("PYTHONPATH", "")]))
    return directory


@pytest.fixture
def check(files: Callable[[str], Path], checkpoint: Path) -> Callable[..., Verification]:
    def run(level: str = "load", method: str = "q8_0") -> Verification:
        return verify(files(method), level=level, source=checkpoint, tokenizer=checkpoint, method=method, threads=1)

    return run


@pytest.mark.parametrize(
    ("signal", "cause"),
    [
        ("SIGILL", "a package that was compiled for another processor"),
        ("SIGKILL", "usually the system's answer to too little memory"),
        ("SIGSEGV", "a defect of a package, or a damaged installation"),
        ("SIGBUS", "a file that was cut short while it was read"),
        ("SIGTERM", "somebody ended it"),
    ],
)
def test_a_killed_llama_cpp_says_nothing_about_the_file(
    packages: Path, check: Callable[..., Verification], signal: str, cause: str
) -> None:
    broken_packages.killed_on_import(packages, "llama_cpp", signal)
    with pytest.raises(EnvironmentFailure) as failure:
        check()
    assert f"was killed by {signal} ({cause}" in str(failure.value)
    assert len(str(failure.value).splitlines()) == 1


def test_an_assertion_of_llama_cpp_is_about_the_file(packages: Path, check: Callable[..., Verification]) -> None:
    broken_packages.llama_cpp_with(
        packages,
        "import sys\n"
        "def llama_init_from_model(model, params):\n"
        "    print('ggml.c:1: GGML_ASSERT(n > 0) failed', file=sys.stderr, flush=True)\n"
        "    os.abort()\n",
    )
    result = check()
    assert not result.passed
    assert "the file is not usable: the process was killed by SIGABRT: ggml.c:1: GGML_ASSERT(n > 0)" in result.verdict


@pytest.mark.parametrize(
    ("exception", "said"),
    [
        ("ModuleNotFoundError('No module', name='llama_cpp')", "run pip install llama-cpp-python"),
        ("RuntimeError('Failed to load shared library libllama.so')", "cannot be imported (Failed to load shared"),
    ],
)
def test_llama_cpp_that_is_missing_or_broken(
    packages: Path, check: Callable[..., Verification], exception: str, said: str
) -> None:
    broken_packages.raising(packages, "llama_cpp", exception)
    with pytest.raises(EnvironmentFailure) as failure:
        check()
    assert said in str(failure.value)


MISSING = "ModuleNotFoundError('No module', name={!r})"


@pytest.mark.parametrize(
    ("package", "exception", "said"),
    [
        ("torch", MISSING.format("torch"), "torch is not installed; run pip install torch"),
        (
            "torch",
            "OSError('libtorch.so: cannot open shared object file')",
            "torch cannot be imported (libtorch.so: cannot open shared object file); reinstall it: pip install "
            "--force-reinstall torch",
        ),
        ("transformers", MISSING.format("transformers"), "transformers is not installed; run pip install transformers"),
    ],
)
def test_a_source_that_cannot_be_run_for_want_of_a_package(
    packages: Path, check: Callable[..., Verification], package: str, exception: str, said: str
) -> None:
    broken_packages.raising(packages, package, exception)
    with pytest.raises(EnvironmentFailure) as failure:
        check("full")
    assert said in str(failure.value)
    with pytest.raises(EnvironmentFailure, match=package):
        verify_directory(SAMPLE, level="load", source=SAMPLE, tokenizer=SAMPLE, copied={}, method="f16", threads=1)


def test_a_killed_run_of_the_source(packages: Path, check: Callable[..., Verification]) -> None:
    broken_packages.killed_on_import(packages, "torch", "SIGKILL")
    with pytest.raises(EnvironmentFailure, match=r"cannot be compared: the process was killed by SIGKILL \(usually"):
        check("full")


@pytest.mark.parametrize("signal", ["SIGILL", "SIGSEGV"])
def test_only_the_runtime_that_users_have_crashes(
    packages: Path, check: Callable[..., Verification], signal: str
) -> None:
    broken_packages.llama_cpp_with(packages, KILLED_BY_DEFAULT.format(signal))
    result = check()
    assert result.passed
    (warning,) = result.warnings
    assert warning.startswith(
        "the file is right, but this build of llama.cpp crashes with it on this processor: with its own settings the "
        f"process was killed by {signal} ("
    )


@pytest.mark.parametrize(
    ("number", "said"),
    [
        ("float('nan')", "does not run it with its own settings on this processor: 512 of 512 logits are not finite"),
        ("1e3 * (place % 7)", "computes something else with its own settings on this processor (mean KL divergence "),
    ],
)
def test_only_the_runtime_that_users_have_computes_nonsense(
    packages: Path, check: Callable[..., Verification], number: str, said: str
) -> None:
    broken_packages.llama_cpp_with(packages, WRONG_BY_DEFAULT.format(number))
    result = check()
    assert result.passed
    (warning,) = result.warnings
    assert said in warning


def test_the_runtime_that_users_have_is_no_worse_on_sound_files(check: Callable[..., Verification]) -> None:
    for method in ("f16", "q4_0", "q4_k_m", "iq4_nl"):
        assert check(method=method).warnings == ()


#: Verifies or asks under a limit of addresses, in MB; prints the outcome's type.
LIMITED = """
import resource, sys
from pathlib import Path
from converter.errors import EnvironmentFailure, VerificationError
from converter.verification.isolation import ask
limit, task, request = int(sys.argv[1]) << 20, sys.argv[2], eval(sys.argv[3])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    ask(task, **request)
    print("done")
except (EnvironmentFailure, VerificationError) as error:
    print(type(error).__name__, error)
"""


def limited(megabytes: int, task: str, **request: Any) -> str:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(megabytes), task, repr(request)],
        capture_output=True, text=True, check=False, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    return done.stdout.strip() or f"nothing: {done.stderr}"


def test_llama_cpp_with_too_little_memory(files: Callable[[str], Path]) -> None:
    """Wherever memory runs out, while libraries or the file are loaded, nobody blames the file."""
    found = [
        limited(megabytes, "run_output_llama_cpp:try_out", path=str(files("f32")), threads=1)
        for megabytes in (60, 100, 120, 140, 160, 180, 200, 2000)
    ]
    assert found[-1] == "done"
    failures = [said for said in found if said != "done" and not said.startswith("nothing: ")]
    assert len(failures) > 1
    assert all(said.startswith("EnvironmentFailure ") for said in failures), failures
    assert any("there is too little memory (0.1 GB allowed by ulimit -v)" in said for said in failures)


def test_a_source_with_too_little_memory(checkpoint: Path, tmp_path: Path) -> None:
    request = {
        "kind": "causal", "source": str(checkpoint), "tokenizer": str(checkpoint), "folder": str(tmp_path),
        "context_length": 256, "row_length": 512, "batch_size": 1, "threads": 1, "trust_remote_code": False,
        "load_dtype": None,
    }  # fmt: skip
    for megabytes in (200, 400, 600):
        said = limited(megabytes, "run_source:write_results", **request)
        assert said.startswith("EnvironmentFailure "), said
