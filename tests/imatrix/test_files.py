"""Both formats against other readers and writers: the gguf package, and the layouts written out by hand."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from imatrix.conftest import CHUNK_SIZE, CHUNKS, TEXT, Collected
from numpy.typing import NDArray

from converter.imatrix import Entry, ImportanceMatrix, combine, read_imatrix, write_imatrix

RANDOM = np.random.default_rng(11)


def dat(entries: dict[str, tuple[int, NDArray[np.float32]]], chunks: int | None = None, dataset: bytes = b"") -> bytes:
    """The older format as llama.cpp's tool lays it out: name → (chunks, mean square × chunks)."""
    data = struct.pack("<i", len(entries))
    for name, (calls, values) in entries.items():
        data += struct.pack(f"<i{len(name)}sii", len(name), name.encode(), calls, len(values))
        data += values.astype("<f4").tobytes()
    if chunks is not None:
        data += struct.pack(f"<ii{len(dataset)}s", chunks, len(dataset), dataset)
    return data


def random_sums(*shape: int) -> NDArray[np.float32]:
    return RANDOM.gamma(0.5, 20, shape).astype(np.float32)


def test_the_gguf_package_reads_what_llama_quantize_looks_for(collected: Callable[[str], Collected]) -> None:
    made = collected("mixtral")
    reader = GGUFReader(made.path)
    assert {key: field.contents() for key, field in reader.fields.items() if "." in key and "GGUF" not in key} == {
        "general.type": "imatrix",
        "imatrix.datasets": [str(TEXT)],
        "imatrix.chunk_count": CHUNKS,
        "imatrix.chunk_size": CHUNK_SIZE,
    }
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert list(tensors) == [f"{name}.{part}" for name in sorted(made.matrix.entries) for part in ("in_sum2", "counts")]
    for name, entry in made.matrix.entries.items():
        sums, counts = tensors[f"{name}.in_sum2"], tensors[f"{name}.counts"]
        assert sums.data.dtype == counts.data.dtype == np.float32
        assert np.array_equal(sums.data.reshape(entry.sums.shape), entry.sums)
        assert np.array_equal(counts.data.reshape(-1), entry.counts)
    # Dimensions as ggml writes them, innermost first, those of one left out at the end.
    assert tensors["blk.0.ffn_gate_exps.weight.in_sum2"].shape.tolist() == [256, 4]
    assert tensors["blk.0.ffn_gate_exps.weight.counts"].shape.tolist() == [1, 4]
    assert tensors["blk.0.attn_q.weight.in_sum2"].shape.tolist() == [256]
    assert tensors["blk.0.attn_q.weight.counts"].shape.tolist() == [1]


def test_a_dat_file_by_hand(tmp_path: Path) -> None:
    """llama-quantize divides each value by the chunks, in float32."""
    plain, experts = random_sums(96), random_sums(4 * 64)
    path = tmp_path / "any.name"
    path.write_bytes(dat({"blk.0.a.weight": (7, plain), "blk.0.b_exps.weight": (3, experts)}, 9, b"wiki.txt"))
    matrix = read_imatrix(path)
    assert (matrix.chunk_count, matrix.datasets) == (9, ("wiki.txt",))
    assert np.array_equal(matrix.importance_of("blk.0.a.weight"), [plain / np.float32(7)])
    stacked = matrix.importance_of("blk.0.b_exps.weight", (4, 10, 64))
    assert np.array_equal(stacked, experts.reshape(4, 64) / np.float32(3))
    assert np.array_equal(matrix.importance_of("blk.0.a.weight", (10, 96)), [plain / np.float32(7)])


def test_a_dat_file_of_an_old_release_ends_with_its_entries(tmp_path: Path) -> None:
    values = random_sums(32)
    path = tmp_path / "old.dat"
    path.write_bytes(dat({"blk.0.a.weight": (5, values)}))
    matrix = read_imatrix(path)
    assert (matrix.chunk_count, matrix.datasets) == (5, ())
    assert np.array_equal(matrix.importance_of("blk.0.a.weight"), [values / np.float32(5)])


def test_what_is_written_as_dat(tmp_path: Path) -> None:
    """Bytes: means times chunks, ones for an expert never chosen, an entry without data left out."""
    sums, experts = random_sums(32), random_sums(2, 32)
    matrix = ImportanceMatrix(
        {
            "blk.0.b.weight": Entry(sums[None], np.array([130])),
            "blk.0.a_exps.weight": Entry(experts, np.array([0, 64])),
            "blk.0.c.weight": Entry(np.zeros((1, 32), np.float32), np.array([0])),
        },
        chunk_size=64,
        chunk_count=2,
        datasets=("first.txt", "second.txt"),
    )
    write_imatrix(tmp_path / "x.dat", matrix)
    means = np.concatenate([np.ones(32, np.float32), experts[1] / np.float32(64)])
    expected = {
        "blk.0.a_exps.weight": (1, means),
        "blk.0.b.weight": (3, sums / np.float32(130) * np.float32(3)),
    }
    assert (tmp_path / "x.dat").read_bytes() == dat(expected, 2, b"second.txt")


def test_an_expert_without_data_weighs_all_columns_alike(tmp_path: Path) -> None:
    sums = random_sums(2, 32)
    write_imatrix(tmp_path / "x.gguf", ImportanceMatrix({"x": Entry(sums, np.array([0, 3]))}, 64, 1))
    importance = read_imatrix(tmp_path / "x.gguf").importance_of("x", (2, 5, 32))
    assert np.array_equal(importance, [np.ones(32), sums[1] / np.float32(3)])


def test_combined_as_if_run_at_once(tmp_path: Path) -> None:
    one, two = random_sums(1, 32), random_sums(1, 32)
    experts, more = random_sums(2, 32), random_sums(2, 32)
    first = ImportanceMatrix(
        {"a": Entry(one, np.array([640])), "e": Entry(experts, np.array([600, 40]))}, 64, 10, ("x",)
    )
    second = ImportanceMatrix(
        {"a": Entry(two, np.array([128])), "e": Entry(more, np.array([0, 128])), "b": Entry(one, np.array([64]))},
        64, 2, ("y",),
    )  # fmt: skip
    both = combine([first, second])
    assert (both.chunk_size, both.chunk_count, both.datasets) == (64, 12, ("x", "y"))
    assert np.array_equal(both.importance_of("a"), (one + two) / np.float32(768))
    assert np.array_equal(both.importance_of("e"), (experts + more) / np.array([[600], [168]], np.float32))
    assert np.array_equal(both.importance_of("b"), one / np.float32(64))


def test_combined_with_a_dat_file_whose_chunks_count_as_tokens(tmp_path: Path) -> None:
    means, sums = random_sums(2, 32), random_sums(2, 32)
    (tmp_path / "x.dat").write_bytes(dat({"e": (3, means.reshape(-1) * np.float32(3))}, 3))
    both = combine(
        [ImportanceMatrix({"e": Entry(sums, np.array([64, 100]))}, 64, 1), read_imatrix(tmp_path / "x.dat", 64)]
    )
    assert both.entries["e"].counts.tolist() == [64 + 192, 100 + 192]
    np.testing.assert_allclose(both.entries["e"].sums, sums + means * 192, rtol=1e-6)
