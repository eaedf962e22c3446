"""The demo's last step: a file continues a text in llama.cpp with the runtime's own settings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from converter import convert

ROOT = Path(__file__).parents[1]


def generate(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "tools" / "generate.py", *map(str, arguments)]
    return subprocess.run(command, text=True, capture_output=True, check=False, cwd=ROOT)


def test_a_text_goes_on(tmp_path: Path) -> None:
    file = convert(ROOT / "tests" / "fixtures" / "sample", "q4_0", tmp_path / "q4_0.gguf", verify="none").output
    run = generate(file, "The function returns", "--tokens", 8)
    assert run.returncode == 0, run.stderr
    before, _, text = run.stdout.partition("The function returns")
    assert before == "The file in llama.cpp: "
    assert text.strip()


def test_a_failure_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "broken.gguf"
    file.write_bytes(b"GGUF")
    run = generate(file, "The")
    assert run.returncode == 1
    assert run.stderr == f"Error: {file}: llama.cpp failed: ValueError: Failed to load model from file: {file}\n"
