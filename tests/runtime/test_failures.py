"""How a child process failed is told apart: by the exception it raised, or by how it ended."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from converter.errors import ConversionError
from converter.runtime import IsolatedFailure, Worker, lacks_memory, run_isolated


def failure_of(task: str, **request: Any) -> IsolatedFailure:
    with pytest.raises(IsolatedFailure) as raised:
        run_isolated(task, **request)
    assert "\n" not in str(raised.value)
    assert isinstance(raised.value, ConversionError)
    return raised.value


@pytest.mark.parametrize("number", [signal.SIGILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGTERM])
def test_signals(number: signal.Signals) -> None:
    failure = failure_of("runtime.failing:kill", number=int(number), says="first\nlast words\n")
    assert (failure.cause, failure.signal, failure.exception) == ("signal", number, "")
    assert failure.environmental
    assert str(failure) == f"runtime.failing:kill was killed by {number.name}: last words"
    assert failure.how == f"was killed by {number.name}: last words"
    assert (failure.reason, failure.log) == ("last words", "first\nlast words\n")


def test_a_signal_without_a_name() -> None:
    failure = failure_of("runtime.failing:kill", number=signal.SIGRTMIN + 3)
    assert (failure.cause, failure.signal) == ("signal", None)
    assert failure.how == f"was killed by signal {signal.SIGRTMIN + 3}: no output"


def test_sigkill_is_what_the_kernel_sends_when_memory_runs_out() -> None:
    failure = failure_of("runtime.failing:kill", number=signal.SIGKILL)
    assert (failure.cause, failure.signal) == ("memory", signal.SIGKILL)


@pytest.mark.parametrize(
    ("says", "cause"),
    [
        ("terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n", "memory"),
        ("ggml_aligned_malloc: insufficient memory (attempted to allocate  64.00 MB)\n", "memory"),
        ("alloc_tensor_range: failed to allocate CPU buffer of size 4294967296\n", "memory"),
        ("ggml.c:1700: GGML_ASSERT(ctx->mem_buffer != NULL) failed\n", "signal"),
    ],
)
def test_abortions_for_lack_of_memory(says: str, cause: str) -> None:
    failure = failure_of("runtime.failing:kill", number=signal.SIGABRT, says=says)
    assert (failure.cause, failure.signal) == (cause, signal.SIGABRT)


@pytest.mark.parametrize(
    ("task", "exception"),
    [
        ("python_memory", "MemoryError"),
        ("numpy_memory", "numpy._core._exceptions._ArrayMemoryError"),
        ("torch_memory", "RuntimeError"),
        ("thread_memory", "RuntimeError"),
        ("system_memory", "OSError"),
    ],
)
def test_exceptions_for_lack_of_memory(task: str, exception: str) -> None:
    failure = failure_of(f"runtime.failing:{task}")
    assert (failure.cause, failure.exception, failure.signal) == ("memory", exception, None)
    assert failure.environmental


@pytest.mark.skipif(sys.platform != "linux", reason="the name of the C++ runtime is Linux's")
def test_an_exception_of_cpp_for_lack_of_memory() -> None:
    failure = failure_of("runtime.failing:library_memory")
    assert (failure.cause, failure.signal) == ("memory", signal.SIGABRT)


@pytest.mark.parametrize(
    ("task", "exception"),
    [
        ("missing_package", "ModuleNotFoundError"),
        ("missing_package_behind", "RuntimeError"),
        ("missing_library", "OSError"),
    ],
)
def test_missing_packages(task: str, exception: str) -> None:
    failure = failure_of(f"runtime.failing:{task}")
    assert (failure.cause, failure.exception) == ("package", exception)
    assert failure.environmental


def test_a_broken_library(tmp_path: Path) -> None:
    failure = failure_of("runtime.failing:broken_library", path=str(tmp_path / "libbroken.so"))
    assert (failure.cause, failure.exception) == ("package", "OSError")


def test_a_missing_module_is_a_missing_package() -> None:
    assert failure_of("no_such_package_at_all:run").cause == "package"


@pytest.mark.parametrize("task", ["wrong_file", "wrong_words", "wrong_file_after_a_fallback"])
def test_what_is_wrong_with_the_input_is_not_the_environments(task: str) -> None:
    failure = failure_of(f"runtime.failing:{task}")
    assert (failure.cause, failure.exception, failure.environmental) == ("raised", "ValueError", False)


def test_an_exceptions_message_is_one_line() -> None:
    failure = failure_of("runtime.failing:wrong_file")
    assert failure.reason == "model.bin: 3 bytes found, 8 expected"
    assert failure.how == f"failed: ValueError: {failure.reason}"
    assert "Traceback" in failure.log


def test_an_answer_that_cannot_be_sent() -> None:
    failure = failure_of("runtime.failing:not_picklable")
    assert (failure.cause, failure.exception) == ("raised", "AttributeError")


def test_time_is_over() -> None:
    seen: list[str] = []
    with Worker() as worker:
        worker.call("runtime.failing:number_of_process")  # it has started
        with pytest.raises(IsolatedFailure) as raised:
            worker.call("runtime.failing:sleep", progress=seen.append, timeout=1, seconds=600)
        assert not worker.alive
    assert seen == ["asleep"]
    assert raised.value.cause == "timeout"
    assert raised.value.how == "took longer than 1 seconds: no output"


def test_the_time_to_start_counts() -> None:
    with pytest.raises(IsolatedFailure) as raised:
        run_isolated("runtime.failing:sleep", timeout=0, seconds=600)
    assert raised.value.cause == "timeout"


def test_a_process_that_exits() -> None:
    failure = failure_of("os:_exit", status=0)
    assert (failure.cause, failure.how) == ("exited", "ended with 0: no output")
    assert failure.environmental


def test_an_interpreter_that_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    failure = failure_of("os:getpid")
    assert (failure.cause, failure.how) == ("package", "cannot be started: No such file or directory")


def test_llama_cpp_without_memory(tmp_path: Path) -> None:
    from converter import convert

    sample = Path(__file__).parents[1] / "fixtures" / "sample"
    file = convert(sample, "f32", tmp_path / "sample.gguf", verify="none").output
    assert run_isolated("runtime.failing:load", path=str(file), room=1 << 30)
    failure = failure_of("runtime.failing:load", path=str(file), room=1 << 20)
    assert lacks_memory(failure.log), failure.log  # llama.cpp returns no model and says why


def test_a_process_is_called_again_after_an_exception() -> None:
    with Worker() as worker:
        first = worker.call("runtime.failing:number_of_process")
        with pytest.raises(IsolatedFailure) as raised:
            worker.call("runtime.failing:wrong_file")
        assert "Traceback" in raised.value.log
        assert worker.call("runtime.failing:number_of_process") == first
        with pytest.raises(IsolatedFailure) as raised:
            worker.call("runtime.failing:kill", number=signal.SIGILL)
        assert (raised.value.signal, raised.value.log) == (signal.SIGILL, "")
        with pytest.raises(IsolatedFailure, match="was killed by SIGILL"):
            worker.call("runtime.failing:number_of_process")


def test_an_interrupted_call_ends_in_order(tmp_path: Path) -> None:
    done, started = tmp_path / "done", tmp_path / "started"
    with Worker() as worker:
        worker.begin("runtime.failing:touch_when_interrupted", grace=30, path=str(done), started=str(started))
        deadline = time.monotonic() + 60
        while not started.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert done.exists()
