"""A GGUF file as the source: bytes equal to ``llama_model_quantize`` on the same file, and strangers' files refused."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import llama_cpp_oracle
import pytest
from command_line import refusal
from gguf import GGUFReader

from converter import convert
from converter.checkpoints.gguf import open_gguf_checkpoint
from converter.errors import CheckpointError
from converter.recipes import METHODS, Overrides

SAMPLE = Path(__file__).parent / "fixtures" / "sample"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The sample in several types."""
    folder = tmp_path_factory.mktemp("sources")
    return {
        method: convert(SAMPLE, method, folder / f"{method}.gguf", verify="none").output
        for method in ("f32", "f16", "bf16", "q8_0", "q4_k_m")
    }


@pytest.mark.parametrize("source", ["f32", "f16", "bf16", "q8_0", "q4_k_m"])
@pytest.mark.parametrize("method", ["f16", "q8_0", "q4_k_m", "q4_0", "q2_k"])
def test_bytes(sources: dict[str, Path], tmp_path: Path, source: str, method: str) -> None:
    ours = convert(sources[source], method, tmp_path / "ours.gguf", allow_requantize=True, verify="none").output
    theirs = tmp_path / "theirs.gguf"
    llama_cpp_oracle.quantize(sources[source], theirs, METHODS[method].file_type, allow_requantize=True)
    assert llama_cpp_oracle.tensors(ours) == llama_cpp_oracle.tensors(theirs)


def test_key_values_are_kept(sources: dict[str, Path], tmp_path: Path) -> None:
    result = convert(sources["bf16"], "q4_0", tmp_path / "ours.gguf")
    assert result.verification is not None
    assert result.verification.passed
    before, after = (
        {name: field.contents() for name, field in GGUFReader(path).fields.items() if not name.startswith("GGUF.")}
        for path in (sources["bf16"], result.output)
    )
    assert after == before | {"general.file_type": 2}


def test_quantized_sources_need_permission(sources: dict[str, Path], tmp_path: Path) -> None:
    run = ("--model", sources["q8_0"], "--method", "q4_0", "--output", tmp_path / "x.gguf")
    assert refusal(*run).startswith(
        f"{sources['q8_0']}: token_embd.weight is quantized already (q8_0); quantizing it again to q4_0 loses more"
    )
    assert not list(tmp_path.iterdir())


def test_a_full_verification_needs_the_checkpoint(sources: dict[str, Path], tmp_path: Path) -> None:
    run = ("--model", sources["f16"], "--method", "q4_0", "--output", tmp_path / "x.gguf", "--verify", "full")
    assert refusal(*run, code=2) == (
        f"{sources['f16']}: a GGUF source cannot be run by transformers, so --verify full has nothing to compare with; "
        "use --verify load"
    )
    assert not list(tmp_path.iterdir())


def test_pruned_blocks_and_types(sources: dict[str, Path], tmp_path: Path) -> None:
    overrides = Overrides(prune_layers=(3,), tensor_types=(("ffn_up", "q8_0"),))
    ours = convert(sources["f16"], "q4_k_s", tmp_path / "ours.gguf", overrides=overrides).output
    assert len(GGUFReader(ours).tensors) == 39 - 9


def test_damaged_files(sources: dict[str, Path], tmp_path: Path) -> None:
    content, path = bytearray(sources["q8_0"].read_bytes()), tmp_path / "damaged.gguf"
    cases = {
        b"": "not a GGUF file: it starts with b'', b'GGUF' expected",
        b"GGUF": "damaged or cut short: 4 bytes expected, 0 left at byte 4",
        bytes(content[:4]) + struct.pack("<I", 1) + bytes(content[8:]): "version 1, one of (2, 3) expected",
        bytes(content[:8]) + b"\xff" * 8 + bytes(content[16:]): "items announced, more than the file could hold,",
        bytes(content[:3000]): "damaged or cut short: ",
        bytes(content[:-1000]): "is truncated: tensor output.weight ends at byte ",
    }
    for damaged, expected in cases.items():
        path.write_bytes(damaged)
        message = refusal("--model", path, "--method", "q4_0", "--output", tmp_path / "x.gguf")
        assert expected in message, message
    assert "cannot be read: No such file" in refusal("inspect", tmp_path / "no.gguf")


def test_random_damage_is_refused_or_read(sources: dict[str, Path], tmp_path: Path) -> None:
    content, path, chance = sources["q8_0"].read_bytes()[:60_000], tmp_path / "damaged.gguf", random.Random(5)
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(400)] = chance.randrange(256)
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"^[^\n]+$"):
            open_gguf_checkpoint(path)
