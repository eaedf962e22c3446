"""A GGUF written in several files: the parts of llama.cpp's own splitter, loaded by llama.cpp, joined to the whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import llama_cpp_oracle
import numpy as np
import pytest
from command_line import convert as command
from gguf import GGUFReader
from gguf_splitter import rewrite

from converter import convert, pipeline
from converter.errors import OutputError, UsageError, VerificationError
from converter.formats import gguf_layout
from converter.gguf.parts import parts_of
from converter.verification import Verification

SAMPLE = Path(__file__).parent / "fixtures" / "sample"
TOKENS = [5, 100, 200, 300, 17, 42, 99, 250]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample in one file."""
    return convert(SAMPLE, "q8_0", tmp_path_factory.mktemp("whole") / "whole.gguf", verify="none").output


def fields(path: Path) -> list[tuple[str, object, object]]:
    """Key-values of a file, in order, with their types."""
    return [
        (name, field.types, field.contents())
        for name, field in GGUFReader(path).fields.items()
        if not name.startswith("GGUF.")
    ]


def test_llama_cpp_computes_the_same(whole: Path, tmp_path: Path) -> None:
    outcome = command(
        "--model", SAMPLE, "--method", "q8_0", "--output", tmp_path / "model.gguf", "--split-max-size", "1M",
        "--no-catalogue",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    first = tmp_path / "model-00001-of-00004.gguf"
    assert outcome.out.startswith(f"{first} is 3.1")
    assert "llama.cpp loads the file" in outcome.out
    names = [f"model-0000{number}-of-00004.gguf" for number in (1, 2, 3, 4)]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert np.array_equal(llama_cpp_oracle.logits(first, TOKENS), llama_cpp_oracle.logits(whole, TOKENS))


def test_joined_again(whole: Path, tmp_path: Path) -> None:
    for arguments in (
        ("--model", SAMPLE, "--method", "q8_0", "--output", tmp_path / "model.gguf", "--split-max-tensors", 10),
        ("merge", tmp_path / "model-00001-of-00004.gguf", "--output", tmp_path / "whole.gguf"),
    ):
        outcome = command(*arguments)
        assert outcome.code == 0, outcome.err
    assert (tmp_path / "whole.gguf").read_bytes() == whole.read_bytes()


def test_split_sources_split_again(whole: Path, tmp_path: Path) -> None:
    """Parts go in where the whole would."""
    parts = convert(SAMPLE, "q8_0", tmp_path / "model.gguf", split_max_tensors=10, verify="none").files
    outputs = [
        convert(source, "q4_0", tmp_path / name, allow_requantize=True, verify="none", split_max_tensors=13).files
        for source, name in ((whole, "a.gguf"), (parts[1], "b.gguf"))
    ]
    assert [len(files) for files in outputs] == [3, 3]
    for first, second in zip(*outputs, strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_parts_are_those_of_gguf(whole: Path, tmp_path: Path) -> None:
    """By number of tensors gguf's own writer cuts alike; its keys of the split come in another order."""
    ours = convert(SAMPLE, "q8_0", tmp_path / "model.gguf", split_max_tensors=13, verify="none").files
    theirs = rewrite(whole, tmp_path / "theirs.gguf", max_tensors=13)
    assert [path.name for path in ours] == [path.name.replace("theirs", "model") for path in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        assert llama_cpp_oracle.tensors(mine) == llama_cpp_oracle.tensors(other)
        assert sorted(map(repr, fields(mine))) == sorted(map(repr, fields(other)))
    assert [name for name, _, _ in fields(ours[0])][-3:] == ["split.no", "split.tensors.count", "split.count"]
    assert [name for name, _, _ in fields(ours[1])] == ["split.no", "split.tensors.count", "split.count"]


@pytest.mark.parametrize(
    ("method", "size", "tensors"),
    [
        ("q8_0", 1_000_000, [12, 14, 12, 1]),
        ("q8_0", 2_000_000, [26, 13]),
        ("f16", 1_000_000, [7, 6, 7, 7, 8, 3, 1]),
        ("f16", 2_000_000, [14, 13, 12]),
        ("q4_k_m", 1_000_000, [25, 14]),
    ],
)
def test_parts_are_those_of_llama_gguf_split(method: str, size: int, tensors: list[int], tmp_path: Path) -> None:
    """The numbers that ``llama-gguf-split --dry-run --split-max-size`` prints for the sample in one file."""
    result = convert(SAMPLE, method, tmp_path / "model.gguf", split_max_size=size, verify="none")
    assert [len(GGUFReader(path).tensors) for path in result.files] == tensors
    for path in result.files:
        assert sum(-(-tensor.n_bytes // 32) * 32 for tensor in GGUFReader(path).tensors) <= size


def test_names_are_those_that_llama_cpp_looks_for(tmp_path: Path) -> None:
    convert(SAMPLE, "q4_0", tmp_path / "a.b.gguf", split_max_tensors=13, verify="none")
    for number in range(3):
        assert Path(llama_cpp_oracle.name_of_part(tmp_path / "a.b", number, 3)).is_file()


def test_what_fits_stays_one_file(whole: Path, tmp_path: Path) -> None:
    for limit in ({"split_max_size": 10**9}, {"split_max_tensors": 39}):
        result = convert(SAMPLE, "q8_0", tmp_path / "model.gguf", verify="none", overwrite=True, **limit)
        assert result.files == (tmp_path / "model.gguf",)
        assert result.output.read_bytes() == whole.read_bytes()


def test_a_tensor_larger_than_a_part(tmp_path: Path) -> None:
    result = convert(SAMPLE, "q8_0", tmp_path / "model.gguf", split_max_size=200_000)
    (warning,) = result.warnings
    assert warning.startswith("2 of 39 tensors are larger than a part may be and have one of their own; token_embd")
    alone = [tensors for path in result.files if len(tensors := GGUFReader(path).tensors) == 1]
    assert {"token_embd.weight", "output.weight"} <= {tensors[0].name for tensors in alone}
    assert parts_of([5, 1, 9, 1, 1], 4, None) == [0, 1, 2, 3, 3]


def test_a_default_name(tmp_path: Path) -> None:
    result = convert(SAMPLE, "q4_0", tmp_path, split_max_tensors=20, verify="none")
    assert [path.name for path in result.files] == [
        "sample-q4_0-00001-of-00002.gguf",
        "sample-q4_0-00002-of-00002.gguf",
    ]


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "model.gguf"
    with pytest.raises(UsageError, match="exclude each other; choose one of them"):
        convert(SAMPLE, "q4_0", output, split_max_tensors=20, split_max_size=100)
    monkeypatch.setattr(gguf_layout, "MAX_PARTS", 2)
    with pytest.raises(UsageError, match="the limit of a part makes 3 parts of this model, at most 2 expected"):
        convert(SAMPLE, "q4_0", output, split_max_tensors=13)
    part = tmp_path / "model-00002-of-00002.gguf"
    part.write_text("mine")
    with pytest.raises(OutputError, match=r"model-00002-of-00002\.gguf: exists already; pass --overwrite"):
        convert(SAMPLE, "q4_0", output, split_max_tensors=20)
    assert [path.name for path in tmp_path.iterdir()] == [part.name]


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("converter.execution.executor.FLUSH_SECONDS", 0)
    monkeypatch.setattr("converter.plan.TILE_ELEMENTS", 1 << 15)

    def interrupt(at: pipeline.Progress) -> None:
        if at.stage == "write" and at.done > at.total // 2:
            raise KeyboardInterrupt

    output = tmp_path / "model.gguf"
    with pytest.raises(KeyboardInterrupt):
        convert(SAMPLE, "q8_0", output, split_max_tensors=13, catalogue="", progress=interrupt)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.gguf.part", "model.gguf.part.journal"]
    result = convert(SAMPLE, "q8_0", output, split_max_tensors=13, catalogue="")
    assert result.resumed
    fresh = convert(SAMPLE, "q8_0", tmp_path / "fresh.gguf", split_max_tensors=13, verify="none")
    for first, second in zip(result.files, fresh.files, strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_rejected_parts_never_get_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reject(path: Path, **choices: object) -> Verification:
        assert path.name == "model-00001-of-00002.gguf"
        assert path.with_name("model-00002-of-00002.gguf").is_file()
        return replace(Verification("load", passed=False, verdict=""), verdict="not faithful")

    monkeypatch.setattr("converter.verification.verify", reject)
    with pytest.raises(VerificationError, match=r"not faithful; the file is kept as .*model\.gguf\.rejected$"):
        convert(SAMPLE, "q4_0", tmp_path / "model.gguf", split_max_tensors=20)
    assert not list(tmp_path.glob("*.gguf"))
    assert len(list((tmp_path / "model.gguf.rejected").iterdir())) == 2
