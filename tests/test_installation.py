"""llama.cpp as it is installed here: compiled without AMX, whose use traps on processors that have it."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from converter.quants import ggml

ROOT = Path(__file__).parents[1]
FLAGS = ROOT / "tools" / "without_amx.sh"
COMPILERS = [name for name in ("cc", "c++", "gcc", "g++", "clang", "clang++") if shutil.which(name)]


def flags(compiler: str, *architecture: str) -> list[str]:
    """What ``tools/without_amx.sh`` prints."""
    run = subprocess.run([FLAGS, compiler, *architecture], check=True, text=True, capture_output=True)
    return run.stdout.split()


def macros(compiler: str, *options: str) -> set[str] | None:
    """Macros that a compiler defines; None where it knows an option not."""
    command = [compiler, *options, "-dM", "-E", "-x", "c", os.devnull]
    run = subprocess.run(command, check=False, text=True, capture_output=True)
    return None if run.returncode else {line.split()[1] for line in run.stdout.splitlines()}


def compiler_script(folder: Path, *defined: str) -> str:
    """A compiler that defines these macros, and refuses every option without any."""
    script = folder / "cc"
    script.write_text("#!/bin/sh\n" + ("".join(f"echo '#define {name} 1'\n" for name in defined) or "exit 1\n"))
    script.chmod(0o755)
    return str(script)


def test_the_library_has_no_amx() -> None:
    library = ggml.library_path().with_name(ggml.library_path().name.replace("base", "cpu"))
    assert ctypes.CDLL(str(library)).ggml_cpu_has_amx_int8() == 0, (
        "llama.cpp was compiled with AMX, with which it crashes; rm .venv/llama-cpp, then ./tools/test.sh"
    )
    assert b"ggml_backend_amx" not in library.read_bytes()


@pytest.mark.parametrize("compiler", COMPILERS)
def test_amx_of_a_processor_that_has_it_is_turned_off(compiler: str) -> None:
    found = macros(compiler, "-march=sapphirerapids")
    if found is None:
        pytest.skip(f"{compiler} cannot compile for a processor with AMX")
    off = flags(compiler, "sapphirerapids")
    assert "-mno-amx-int8" in off
    for options in ([*off, "-march=sapphirerapids"], ["-march=sapphirerapids", *off]):
        without = macros(compiler, *options)
        assert without is not None
        assert found - without == {name for name in found if name.startswith("__AMX")}


def test_later_kinds_of_amx(tmp_path: Path) -> None:
    compiler = compiler_script(tmp_path, "__AMX_FP16__", "__AMX_TF32__", "__AVX512F__", "__AMX_INT8__")
    assert flags(compiler) == ["-mno-amx-fp16", "-mno-amx-tf32", "-mno-amx-int8"]


def test_other_processors_get_no_flags(tmp_path: Path) -> None:
    """A compiler for another kind of processor would refuse them."""
    assert flags(compiler_script(tmp_path, "__ARM_NEON", "__aarch64__")) == []
    assert flags(compiler_script(tmp_path)) == []
    assert flags(str(tmp_path / "missing")) == []
