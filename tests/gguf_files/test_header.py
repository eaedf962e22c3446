"""Headers of GGUF files: the bytes of gguf's own writer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter

from converter.architectures import Piece, TargetTensor
from converter.formats.gguf_layout import tensor_infos
from converter.gguf.key_values import KeyValue
from converter.gguf.reader import read_gguf_header
from converter.gguf.writer import write_header
from converter.plan import lay_out
from converter.quants import QUANT_TYPES

EXTREMES = {
    GGUFValueType.UINT8: (0, 255),
    GGUFValueType.INT8: (-128, 127),
    GGUFValueType.UINT16: (0, 65535),
    GGUFValueType.INT16: (-32768, 32767),
    GGUFValueType.UINT32: (0, 2**32 - 1),
    GGUFValueType.INT32: (-(2**31), 2**31 - 1),
    GGUFValueType.UINT64: (0, 2**64 - 1),
    GGUFValueType.INT64: (-(2**63), 2**63 - 1),
    GGUFValueType.FLOAT32: (-1e-6, 3.4e38),
    GGUFValueType.FLOAT64: (0.1, 1e308),
    GGUFValueType.BOOL: (True, False),
    GGUFValueType.STRING: ("", "Ġé\n漢🙂", b"\xff\xfe"),
}

PAIRS = [
    *(
        KeyValue(f"one.{kind.name}.{number}", value, kind)
        for kind, values in EXTREMES.items()
        for number, value in enumerate(values)
    ),
    *(KeyValue(f"all.{kind.name}", list(values), GGUFValueType.ARRAY, kind) for kind, values in EXTREMES.items()),
    KeyValue("tags", ["a", "b"], GGUFValueType.ARRAY),
    KeyValue("map", bytes(range(256)), GGUFValueType.ARRAY, GGUFValueType.UINT8),
]


@pytest.mark.parametrize("arch", ["llama", None])
def test_bytes(tmp_path: Path, arch: str | None) -> None:
    shapes = {"a": (5,), "b.weight": (3, 64), "c.weight": (2, 3, 256), "d": (2, 1, 4, 32)}
    types = ["f32", "q4_0", "q6_k", "bf16"]
    plan = lay_out(PAIRS, [TargetTensor(name, shape, (Piece(name),)) for name, shape in shapes.items()], types)
    start = write_header(tmp_path / "ours", arch, plan.metadata, tensor_infos(plan.tensors))
    writer = GGUFWriter(tmp_path / "theirs", arch or "")
    if arch is None:
        writer.kv_data[0].clear()
    for pair in PAIRS:
        writer.add_key_value(pair.key, pair.value, pair.type, pair.element)
    for planned in plan.tensors:
        kind = GGMLQuantizationType(QUANT_TYPES[planned.type].ggml_type)
        writer.add_tensor_info(
            planned.target.name, planned.target.shape, np.dtype(np.float32), planned.nbytes, raw_dtype=kind
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    theirs = (tmp_path / "theirs").read_bytes()
    assert (tmp_path / "ours").read_bytes() == theirs.ljust(start, b"\0")
    assert 0 <= start - len(theirs) < 32
    assert start % 32 == 0


def test_an_empty_list_and_a_key_given_twice(tmp_path: Path) -> None:
    """What gguf's writer does not write, or only with a warning, its reader reads."""
    empty = KeyValue("empty", [], GGUFValueType.ARRAY, GGUFValueType.INT32)
    twice = [KeyValue("twice", number, GGUFValueType.UINT32) for number in (1, 2)]
    plan = lay_out([twice[0], empty, twice[1]], [TargetTensor("a", (4,), (Piece("a"),))], ["f32"])
    start = write_header(tmp_path / "file", "llama", plan.metadata, tensor_infos(plan.tensors))
    with (tmp_path / "file").open("ab") as file:
        file.write(bytes(16))
    assert [(pair.key, pair.value) for pair in read_gguf_header(tmp_path / "file").metadata] == [
        ("general.architecture", "llama"), ("twice", 2), ("empty", []),
    ]  # fmt: skip
    reader = GGUFReader(tmp_path / "file")
    assert reader.get_field("twice").contents() == 2
    assert reader.tensors[0].data_offset == start
