"""The command line as a new user meets it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import convert, refusal
from gguf import GGUFReader

import converter
from converter.quants import QUANT_TYPES
from converter.recipes import METHODS

SAMPLE = Path(__file__).parent / "fixtures" / "sample"


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from converter.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    heavy = {'numpy', 'torch', 'transformers', 'gguf', 'llama_cpp', 'pydantic', 'yaml', 'tqdm'}\n"
        "    print(*sorted(set(sys.modules) & heavy))"
    )
    run = subprocess.run([sys.executable, "-c", program, "--help"], capture_output=True, text=True, check=True)
    assert "convert --method q4_0 --model ./my-model --output my-model-q4_0.gguf" in run.stdout
    assert run.stdout.splitlines()[-1] == ""


def test_a_conversion_never_imports_torch(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from converter import convert\n"
        f"convert({str(SAMPLE)!r}, 'q4_0', {str(tmp_path / 'x.gguf')!r})\n"
        "print(*sorted(set(sys.modules) & {'torch', 'transformers', 'llama_cpp'}))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "\n"


def test_without_arguments_it_helps() -> None:
    outcome = convert()
    assert outcome.code == 0
    assert "Usage: convert" in outcome.out


def test_python_m_converter() -> None:
    run = subprocess.run([sys.executable, "-m", "converter", "--version"], capture_output=True, text=True, check=True)
    assert run.stdout == f"convert, version {converter.__version__}\n"


def test_methods_are_listed_with_their_bits() -> None:
    outcome = convert("methods")
    assert outcome.code == 0
    for method in METHODS.values():
        line = next(line for line in outcome.out.splitlines() if line.startswith(f"{method.name} "))
        assert f"{QUANT_TYPES[method.type].bits_per_weight:.2f}" in line
        assert line.endswith(method.use)


def test_the_summary_says_what_was_made_and_whether_it_is_faithful(tmp_path: Path) -> None:
    output = tmp_path / "sample.gguf"
    outcome = convert("--model", SAMPLE, "--method", "Q8_0", "--output", output)
    assert outcome.code == 0, outcome.err
    made, written, verified = outcome.out.splitlines()
    file = GGUFReader(output)
    bits = (
        8 * sum(int(tensor.n_bytes) for tensor in file.tensors) / sum(int(tensor.n_elements) for tensor in file.tensors)
    )
    assert made.startswith(f"{output} is {output.stat().st_size / 1e6:.2f} MB in q8_0: {bits:.2f} bits per weight")
    assert re.fullmatch(r"written in (0\.0\d s|\d+\.\d\d s \(\d+\.\d\d [kMG]B/s of source weights\))", written)
    assert verified.startswith("verified in ")


def test_a_dry_run_writes_nothing_and_prints_the_plan(tmp_path: Path) -> None:
    output = tmp_path / "sample.gguf"
    outcome = convert("--model", SAMPLE, "--method", "q4_0", "--output", output, "--dry-run")
    assert outcome.code == 0, outcome.err
    assert not list(tmp_path.iterdir())
    assert [line.split()[:2] for line in outcome.out.splitlines() if "output.weight" in line] == [
        *([f"blk.{index}.attn_output.weight", "q4_0"] for index in range(4)),
        ["output.weight", "q6_k"],
    ]
    assert f"{output} would be " in outcome.out


def test_quiet_and_default_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = convert("--quiet", "--model", SAMPLE, "--method", "q4_0", "--output", tmp_path, "--verify", "none")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    assert (tmp_path / "sample-q4_0.gguf").exists()
    monkeypatch.chdir(tmp_path)
    assert convert("--quiet", "--model", SAMPLE, "--method", "q8_0", "--verify", "none").code == 0
    assert (tmp_path / "sample-q8_0.gguf").exists()


def test_inspect_prints_keys_and_tensors(tmp_path: Path) -> None:
    output = tmp_path / "sample.gguf"
    assert convert("--model", SAMPLE, "--method", "q5_1", "--output", output, "--verify", "none").code == 0
    outcome = convert("inspect", output)
    assert outcome.code == 0
    assert "  general.architecture " in outcome.out
    assert "(1024)" in outcome.out
    row = next(line for line in outcome.out.splitlines() if line.startswith("  blk.0.ffn_down.weight "))
    assert row.split() == ["blk.0.ffn_down.weight", "q5_1", "256", "×", "512", "98,304", "bytes"]
    assert "…" not in convert("inspect", "--all", output).out


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "not a GGUF file: it starts with b'', b'GGUF' expected"),
        (b"PK\x03\x04rest", "not a GGUF file: it starts with b'PK\\x03\\x04', b'GGUF' expected"),
        (b"GGUF\x03\0\0\0", "damaged or cut short: "),
        (b"GGUF\x03\0\0\0" + b"\xff" * 64, "damaged or cut short: "),
    ],
)
def test_inspect_refuses_what_is_no_gguf(tmp_path: Path, content: bytes | None, expected: str) -> None:
    file = tmp_path / "file.gguf"
    if content is not None:
        file.write_bytes(content)
    outcome = convert("inspect", file)
    assert outcome.code == 1
    assert outcome.err.startswith(f"convert: error: {file}: {expected}")
    assert len(outcome.err.splitlines()) == 1


def test_another_tokenizer_and_a_forced_pre_tokenizer(tmp_path: Path) -> None:
    run = ("--model", SAMPLE, "--method", "q8_0", "--output", tmp_path / "x.gguf")
    assert refusal(*run, "--tokenizer", tmp_path).startswith(str(tmp_path))
    outcome = convert(*run, "--pre", "gpt-2", "--verify", "none")
    assert outcome.code == 0
    assert GGUFReader(tmp_path / "x.gguf").fields["tokenizer.ggml.pre"].contents() == "gpt-2"
    outcome = convert(*run, "--pre", "gpt-2", "--overwrite")
    assert "convert: warning: --pre gpt-2 overrides the tokenizer's proof: " in outcome.err
