"""Functions that fail in a child process in all the ways there are."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from converter.runtime.child import report


def kill(number: int, says: str = "") -> None:
    """End this process by a signal."""
    os.write(2, says.encode())
    os.kill(os.getpid(), number)


def wrong_file() -> None:
    raise ValueError("model.bin: 3 bytes found,\n  8 expected")


def wrong_words() -> None:
    """A message of a file's own that happens to hold the words of the system's."""
    raise ValueError("tensor 'out of memory' is missing, cannot open shared object file")


def missing_package() -> None:
    import no_such_package_at_all  # noqa: F401


def missing_package_behind() -> None:
    """As transformers tells of it."""
    try:
        import no_such_package_at_all  # noqa: F401
    except ImportError as error:
        raise RuntimeError("Failed to import a model's module") from error


def wrong_file_after_a_fallback() -> None:
    """A package that is optional is no cause of what is wrong with a file."""
    try:
        import no_such_package_at_all  # noqa: F401
    except ImportError:
        raise ValueError("model.bin: 3 bytes found") from None


def broken_library(path: str) -> None:
    Path(path).write_bytes(b"\x7fELF" + bytes(10))
    ctypes.CDLL(path)


def missing_library() -> None:
    ctypes.CDLL("libnosuchlibrary.so")


def bound(room: int) -> None:
    """Leave this process so many bytes of address space."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + room
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def python_memory() -> None:
    bound(64 << 20)
    bytearray(1 << 30)


def numpy_memory() -> None:
    import numpy as np

    bound(64 << 20)
    np.ones(1 << 30)


def torch_memory() -> None:
    import torch

    bound(64 << 20)
    torch.ones(1 << 30)


def thread_memory() -> None:
    threading.stack_size(512 << 20)
    bound(64 << 20)
    threading.Thread(target=time.sleep, args=(1,)).start()


def system_memory() -> None:
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


def library_memory() -> None:
    """``std::bad_alloc`` that nothing catches, from the C++ runtime itself."""
    runtime = ctypes.CDLL("libstdc++.so.6")
    runtime._ZSt17__throw_bad_allocv()


def load(path: str, room: int) -> bool:
    """Load a GGUF into llama.cpp with so many bytes to spare."""
    from converter.runtime.bindings import llama_cpp_bindings

    llama_cpp = llama_cpp_bindings()
    llama_cpp.llama_backend_init()
    parameters = llama_cpp.llama_model_default_params()
    parameters.load_mode = llama_cpp.LLAMA_LOAD_MODE_NONE
    bound(room)
    model = llama_cpp.llama_model_load_from_file(path.encode(), parameters)
    assert model
    return True


def sleep(seconds: float) -> Iterator[str]:
    yield "asleep"
    time.sleep(seconds)


def number_of_process() -> int:
    return os.getpid()


def not_picklable() -> Any:
    return lambda: None


def reports_of_a_callback(count: int) -> int:
    """Report from another thread."""
    thread = threading.Thread(target=lambda: [report(number) for number in range(count)])
    thread.start()
    thread.join()
    return count


def paths() -> list[str]:
    return sys.path


def touch_when_interrupted(path: str, started: str) -> None:
    """Leave a file behind in the grace that an interrupted call gets."""
    try:
        Path(started).touch()
        time.sleep(60)
    except KeyboardInterrupt:
        Path(path).touch()
        raise
