"""Collections that are interrupted, that start from a checkpoint, and that cannot be done."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from imatrix.conftest import CHUNK_SIZE, CHUNKS, SAMPLE, TEXT, Collected

from converter.errors import ConversionError
from converter.imatrix import Progress, read_imatrix
from converter.pipeline import collect


class Interruption(Exception):
    pass


def interrupted(file: Path, text: Path, output: Path) -> list[Progress]:
    """Collect, saving every chunk, and stop after the second."""
    seen: list[Progress] = []

    def stop(progress: Progress) -> None:
        seen.append(progress)
        if progress.done >= 2 * CHUNK_SIZE:
            raise Interruption

    with pytest.raises(Interruption):
        collect(
            file, [text], output, chunk_size=CHUNK_SIZE, chunks=CHUNKS, threads=1, process_output=True, save_every=1,
            progress=stop,
        )  # fmt: skip
    return seen


def test_an_interrupted_run_goes_on_and_ends_with_the_same_bytes(sample: Collected, tmp_path: Path) -> None:
    output = tmp_path / "imatrix.gguf"
    assert interrupted(sample.file, TEXT, output)[0] == Progress(0, CHUNKS * CHUNK_SIZE)
    assert not output.exists()
    seen: list[Progress] = []
    collect(
        sample.file, [TEXT], output, chunk_size=CHUNK_SIZE, chunks=CHUNKS, threads=1, process_output=True,
        progress=seen.append,
    )  # fmt: skip
    assert seen[0].done >= 2 * CHUNK_SIZE
    assert seen[-1] == Progress(CHUNKS * CHUNK_SIZE, CHUNKS * CHUNK_SIZE)
    assert output.read_bytes() == sample.path.read_bytes()
    assert list(tmp_path.iterdir()) == [output]


def test_another_text_starts_anew(sample: Collected, tmp_path: Path) -> None:
    text, output = tmp_path / "text.txt", tmp_path / "imatrix.gguf"
    text.write_text(TEXT.read_text()[1000:5000])
    interrupted(sample.file, text, output)
    assert (tmp_path / "imatrix.gguf.part").exists()
    seen: list[Progress] = []
    collect(
        sample.file, [TEXT], output, chunk_size=CHUNK_SIZE, chunks=CHUNKS, threads=1, process_output=True,
        progress=seen.append,
    )  # fmt: skip
    assert seen[0].done == 0
    assert output.read_bytes() == sample.path.read_bytes()


def test_a_checkpoint_is_converted_beside_the_output_for_as_long_as_it_runs(sample: Collected, tmp_path: Path) -> None:
    """In its own bfloat16, whose rounding of the activations stays within a percent."""
    output, seen = tmp_path / "imatrix.dat", set()
    found = collect(
        SAMPLE, [TEXT], output, chunk_size=CHUNK_SIZE, chunks=CHUNKS, threads=1,
        progress=lambda _: seen.update(path.name for path in tmp_path.iterdir()),
    )  # fmt: skip
    assert "imatrix.dat.model.gguf" in seen
    assert list(tmp_path.iterdir()) == [output]
    assert "output.weight" not in found
    written = read_imatrix(output, CHUNK_SIZE)
    assert sorted(written.entries) == sorted(set(sample.matrix.entries) - {"output.weight"})
    for name in written.entries:
        np.testing.assert_allclose(written.importance_of(name), sample.matrix.importance_of(name), rtol=0.01)


def test_texts_follow_each_other_and_the_context_bounds_a_chunk(sample: Collected, tmp_path: Path) -> None:
    words = TEXT.read_text().split(" ")
    texts = [tmp_path / "one.txt", tmp_path / "two.txt"]
    for text, part in zip(texts, (words[:300], words[300:600]), strict=True):
        text.write_text(" ".join(part))
    found = collect(sample.file, texts, tmp_path / "both.gguf", threads=1)
    assert found.chunk_size == 256, "max_position_embeddings of the sample"
    assert found.datasets == tuple(map(str, texts))
    one = collect(sample.file, texts[:1], tmp_path / "one.gguf", threads=1)
    assert found.chunk_count > one.chunk_count >= 1
    assert found.entries["blk.0.attn_q.weight"].counts.tolist() == [256 * found.chunk_count]


@pytest.fixture(scope="module")
def materials(sample: Collected, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with texts and damaged models."""
    folder = tmp_path_factory.mktemp("materials")
    (folder / "there.gguf").touch()
    (folder / "text.txt").write_text(TEXT.read_text()[:3000])
    (folder / "short.txt").write_text("one")
    (folder / "latin.txt").write_bytes("caf\xe9 noir".encode("latin-1"))
    (folder / "cut.gguf").write_bytes(sample.file.read_bytes()[:-4096])
    file = Path(shutil.copy(sample.file, folder / "broken.gguf"))
    norm = next(tensor.data for tensor in GGUFReader(file, "r+").tensors if tensor.name == "blk.1.attn_norm.weight")
    norm[3] = np.nan
    norm.flush()
    return folder


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"model": "nowhere.gguf"}, "nowhere.gguf: cannot be read: No such file or directory"),
        ({"model": "text.txt"}, "text.txt: llama.cpp cannot run it: gguf_init_from_reader: invalid magic"),
        ({"model": "cut.gguf"}, "cut.gguf: llama.cpp cannot run it: "),
        ({"model": "broken.gguf"}, "broken.gguf: the model: 1 of 256 values of blk.1.attn_q.weight are not finite"),
        ({"texts": []}, "no text is given, at least one file expected"),
        ({"texts": ["nowhere.txt"]}, "nowhere.txt: cannot be read: No such file or directory"),
        ({"texts": ["latin.txt"]}, "latin.txt: is not UTF-8 at byte 3; convert the text first"),
        ({"texts": ["short.txt"]}, "the text has 2 tokens, expected at least 64, one chunk; give more text"),
        ({"chunk_size": 15}, "the chunk size is 15, expected 16 to 256, the model's context"),
        ({"chunk_size": 257}, "the chunk size is 257, expected 16 to 256, the model's context"),
        ({"chunks": 0}, "chunks is 0, at least 1 expected"),
        ({"save_every": 0}, "save_every is 0, at least 1 expected"),
        ({"threads": 0}, "threads is 0, at least 1 expected"),
        ({"output": "imatrix.bin"}, "imatrix.bin: ends in '.bin', expected a name in .gguf or .dat"),
        ({"output": "there.gguf"}, "there.gguf: exists already; pass --overwrite"),
        ({"output": "text.txt/folder.gguf"}, "text.txt is not a directory; choose another --output"),
    ],
)  # fmt: skip
def test_what_cannot_be_done(changed: dict[str, Any], expected: str, sample: Collected, materials: Path) -> None:
    wanted = {"model": sample.file, "texts": ["text.txt"], "output": "x.gguf", "chunk_size": 64, "threads": 1} | changed
    for name in ("model", "output"):
        wanted[name] = materials / wanted[name]
    wanted["texts"] = [materials / text for text in wanted["texts"]]
    with pytest.raises(ConversionError) as refusal:
        collect(**wanted)
    assert expected in str(refusal.value)
    assert str(refusal.value).count(".gguf: ") + str(refusal.value).count(".txt: ") <= 1, "one subject"
    assert "\n" not in str(refusal.value)
    assert not {"x.gguf", "x.gguf.part"} & {path.name for path in materials.iterdir()}
