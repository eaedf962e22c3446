"""``convert imatrix`` as a user meets it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import convert, refusal
from imatrix.conftest import TEXT, Collected

from converter.imatrix import read_imatrix, write_imatrix


def test_collect(sample: Collected, tmp_path: Path) -> None:
    output = tmp_path / "imatrix.gguf"
    command = (
        "imatrix", "--model", sample.file, "--text", TEXT, "--output", output, "--context", 64, "--chunks", 4,
        "--threads", 1, "--process-output",
    )  # fmt: skip
    outcome = convert(*command)
    assert outcome.code == 0, outcome.err
    size = f"{output.stat().st_size / 1e6:.2f} MB"
    assert outcome.out == f"{output} is {size}: 29 tensors, measured on 4 chunks of 64 tokens\n"
    assert re.search(r"256/256 .*token/s", outcome.err)
    assert output.read_bytes() == sample.path.read_bytes()
    assert refusal(*command) == f"{output}: exists already; pass --overwrite to replace it or choose another --output"
    quiet = convert("--quiet", *command, "--overwrite")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")


def test_combine(sample: Collected, tmp_path: Path) -> None:
    write_imatrix(tmp_path / "same.dat", sample.matrix)
    output = tmp_path / "both.gguf"
    outcome = convert(
        "imatrix", "--combine", sample.path, "--combine", tmp_path / "same.dat", "--chunk-size", 64, "--output", output
    )
    assert outcome.code == 0, outcome.err
    assert "29 tensors, measured on 8 chunks of 64 tokens" in outcome.out
    for name, entry in read_imatrix(output).entries.items():
        once = sample.matrix.entries[name]
        assert np.array_equal(entry.counts, 2 * once.counts)
        np.testing.assert_allclose(entry.sums, 2 * once.sums, rtol=1e-6)


def test_show(collected: Callable[[str], Collected]) -> None:
    made = collected("mixtral")
    outcome = convert("imatrix", "--show", made.path)
    assert outcome.code == 0, outcome.err
    head, titles, *rows = outcome.out.splitlines()
    assert head == f"{made.path}: 4 chunks of 64 tokens from {TEXT}"
    assert titles.split() == ["tensor", "columns", "rows", "mean", "square", "zero", "columns"]
    assert [row.split()[0] for row in rows] == sorted(made.matrix.entries)  # of two layers
    row = next(row for row in rows if row.startswith("blk.1.ffn_up_exps.weight "))
    mean = made.matrix.entries["blk.1.ffn_up_exps.weight"].importance.mean()
    assert row.split()[1:] == ["4", "×", "256", "512", f"{mean:.4g}", "0.00%"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "one of --model, --combine and --show is expected, none of them is given"),
        (
            ["--model", "x", "--show", "y"],
            "one of --model, --combine and --show is expected, --model and --show is given",
        ),
        (["--model", "x", "--text", "y"], "--output is missing; convert imatrix --help shows an example"),
        (["--model", "x", "--output", "y.gguf"], "--text is missing; convert imatrix --help shows an example"),
    ],
)
def test_usage(arguments: list[str], expected: str) -> None:
    assert refusal("imatrix", *arguments, code=2) == expected


def test_a_text_too_short_for_one_chunk(sample: Collected, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("one")
    message = refusal(
        "imatrix", "--model", sample.file, "--text", tmp_path / "short.txt", "--output", tmp_path / "x.gguf"
    )
    assert message == (
        f"{sample.file}: the text has 2 tokens, expected at least 256, one chunk; "
        "give more text or a smaller --chunk-size"
    )
