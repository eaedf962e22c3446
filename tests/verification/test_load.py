"""Level ``load``: whatever is wrong with a file is a verdict of one line, never an exception, never a dead parent."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converter import convert
from converter.errors import UsageError, VocabularyError
from converter.verification import Verification, verify
from converter.vocabs import prove, read_vocabulary


@pytest.fixture
def check(checkpoint: Path) -> Callable[..., Verification]:
    def run(path: Path, **changes: Any) -> Verification:
        return verify(
            path,
            **{
                "level": "load",
                "source": checkpoint,
                "tokenizer": checkpoint,
                "method": "f32",
                "threads": 1,
                **changes,
            },
        )

    return run


def assert_failed(result: Verification, *reasons: str) -> None:
    assert not result.passed
    assert len(result.verdict.splitlines()) == 1
    for reason in reasons:
        assert reason in result.verdict
    assert "Traceback" not in result.verdict
    assert result.mean_kl is None


@pytest.mark.parametrize("method", ["f32", "q8_0", "q4_0"])
def test_good_file_passes(files: Callable[[str], Path], check: Callable[..., Verification], method: str) -> None:
    told: list[str] = []
    result = check(files(method), method=method, progress=told.append)
    assert result.passed
    assert result.generated
    assert result.probes > 300
    assert f"tokenizes {result.probes} difficult strings as the source does" in result.verdict
    assert told == [
        "loading the file with llama.cpp",
        "tokenizing difficult strings with both tokenizers",
        "running the file with llama.cpp's own settings",
    ]
    assert result.warnings == ()


@pytest.mark.parametrize("kept", [0.0, 1e-4, 0.02, 0.5, 0.999])
def test_truncated_file_fails(
    files: Callable[[str], Path], check: Callable[..., Verification], tmp_path: Path, kept: float
) -> None:
    data = files("q8_0").read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(data[: int(len(data) * kept)])
    assert_failed(check(path), "the file is not usable: ")


def test_truncated_data_is_called_that(
    files: Callable[[str], Path], check: Callable[..., Verification], tmp_path: Path
) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(files("q8_0").read_bytes()[:-5000])
    assert_failed(check(path), "is not within the file bounds, model is corrupted or incomplete")


def test_other_things_than_files_fail(check: Callable[..., Verification], tmp_path: Path) -> None:
    noise = tmp_path / "noise.gguf"
    noise.write_bytes(np.random.default_rng(1).bytes(100_000))
    for path in (noise, tmp_path, tmp_path / "missing.gguf"):
        assert_failed(check(path), "the file is not usable: ")


@pytest.mark.parametrize("seed", range(8))
def test_mutated_header_is_a_verdict(
    files: Callable[[str], Path], check: Callable[..., Verification], tmp_path: Path, seed: int
) -> None:
    random = np.random.default_rng(seed)
    data = bytearray(files("q4_0").read_bytes())
    for place in random.integers(4, 4000 if seed % 2 else 400, 4):
        data[place] = random.integers(256)
    path = tmp_path / "mutated.gguf"
    path.write_bytes(data)
    result = check(path, method="q4_0")
    if not result.passed:  # a letter changed in a name nobody reads harms nothing
        assert_failed(result, "the file is not usable: ")


def test_key_of_another_type_fails(
    files: Callable[[str], Path], check: Callable[..., Verification], tmp_path: Path
) -> None:
    data = files("f32").read_bytes()
    path = tmp_path / "f.gguf"
    path.write_bytes(data.replace(b"llama.block_count", b"llama.block_c0unt"))
    assert_failed(check(path), "key not found in model: llama.block_count")


def test_not_a_number_fails_and_names_the_tensor(
    damaged: Callable[..., Path], check: Callable[..., Verification]
) -> None:
    def spoil(data: np.ndarray) -> None:
        data[3, 5] = np.nan

    path = damaged("f32", "blk.1.ffn_up.weight", spoil)
    assert_failed(check(path), "tensor 'blk.1.ffn_up.weight' has invalid data")


def test_infinite_scale_fails_and_names_the_tensor(
    damaged: Callable[..., Path], check: Callable[..., Verification]
) -> None:
    def spoil(data: np.ndarray) -> None:
        data[0, 0:2] = 0x00, 0x7C  # q8_0: a block's first two bytes are its float16 scale; infinity

    path = damaged("q8_0", "blk.0.attn_q.weight", spoil)
    assert_failed(check(path, method="q8_0"), "tensor 'blk.0.attn_q.weight' has invalid data")


def test_logits_that_overflow_fail(damaged: Callable[..., Path], check: Callable[..., Verification]) -> None:
    def spoil(data: np.ndarray) -> None:
        data[...] = np.copysign(np.float32(3e38), data)

    path = damaged("f32", "output.weight", spoil)
    assert_failed(check(path), "of 512 logits are not finite at position 0")


def test_logits_that_are_all_the_same_fail(damaged: Callable[..., Path], check: Callable[..., Verification]) -> None:
    path = damaged("f32", "output.weight", lambda data: data.fill(0))
    assert_failed(check(path), "all 512 logits are the same (0)")


@pytest.fixture
def other_tokenizer(checkpoint: Path, tmp_path: Path) -> Path:
    """The source's tokenizer with the ids of two of its tokens swapped."""
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    shutil.copy(checkpoint / "tokenizer_config.json", folder)
    content = json.loads((checkpoint / "tokenizer.json").read_text())
    vocab = content["model"]["vocab"]
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return folder


def test_another_tokenizer_fails(
    files: Callable[[str], Path], check: Callable[..., Verification], other_tokenizer: Path
) -> None:
    result = check(files("f32"), tokenizer=other_tokenizer)
    assert_failed(result, "it does not tokenize as the source does: ")
    assert result.probes == 0


def test_another_tokenizer_is_told_where_the_user_insists(
    files: Callable[[str], Path], check: Callable[..., Verification], other_tokenizer: Path
) -> None:
    result = check(files("f32"), tokenizer=other_tokenizer, pre="llama-bpe")
    assert result.passed
    assert result.probes == 0
    assert "does not tokenize as the source does with --pre llama-bpe" in result.verdict


def test_unreadable_tokenizer_is_not_the_files_fault(
    files: Callable[[str], Path], check: Callable[..., Verification], tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.json").write_text('{"model": {')
    with pytest.raises(VocabularyError, match=r"tokenizer\.json"):
        check(files("f32"), tokenizer=tmp_path)


def test_unknown_level_and_method_are_refused(files: Callable[[str], Path], check: Callable[..., Verification]) -> None:
    with pytest.raises(UsageError, match="verification level 'lode' does not exist; choose load or full"):
        check(files("f32"), level="lode")
    with pytest.raises(UsageError, match="q4_9"):
        check(files("f32"), method="q4_9")


def test_the_callers_process_stays_clean(files: Callable[[str], Path], checkpoint: Path) -> None:
    """Neither llama.cpp nor torch enters the process that asks, and nothing is printed."""
    program = (
        "import sys; from pathlib import Path; from converter.verification import verify\n"
        "path, source = map(Path, sys.argv[1:])\n"
        "assert verify(path, level='load', source=source, tokenizer=source, method='f32').passed\n"
        "heavy = {'torch', 'transformers', 'llama_cpp', 'tokenizers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, files("f32"), checkpoint], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_another_chat_template_fails(tmp_path: Path, checkpoint: Path) -> None:
    """Whether or not the vocabulary was proved before; where the user decided it, it is as it shall be."""
    source = Path(shutil.copytree(checkpoint, tmp_path / "source"))
    (source / "chat_template.jinja").write_text("{{ messages[0].content }}")
    path = convert(source, "q8_0", tmp_path / "file.gguf", verify="none").output
    asked = {"level": "load", "source": source, "tokenizer": source, "method": "q8_0", "threads": 1}
    proof = prove(read_vocabulary(source, 512), source)
    for how in ({}, {"proof": proof}):
        assert verify(path, **asked, **how).passed
    path.write_bytes(path.read_bytes().replace(b"{{ messages[0].content }}", b"{{ messages[1].content }}"))
    for how in ({}, {"proof": proof}):
        assert_failed(verify(path, **asked, **how), "the file is not usable: tokenizer.chat_template is ")
        assert verify(path, **asked, **how, changed=["tokenizer.chat_template"]).passed


def test_the_proof_before_writing_counts(
    files: Callable[[str], Path], checkpoint: Path, check: Callable[..., Verification], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source is asked once; what the file makes of the same texts is held against its answers."""
    proof = prove(read_vocabulary(checkpoint, 512), checkpoint)
    asked = check(files("q8_0"))
    monkeypatch.setattr("converter.verification.gguf.check_tokens", None)
    held = check(files("q8_0"), proof=proof)
    assert (held.passed, held.probes, held.verdict) == (True, asked.probes, asked.verdict)
    assert proof.answers is not None
    levels = proof.answers._source.result()["levels"]
    levels[0][0][7] = [1, 2, 3]
    assert_failed(check(files("q8_0"), proof=proof), "it does not tokenize as the source does: ")
