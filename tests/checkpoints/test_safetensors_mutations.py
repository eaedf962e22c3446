"""Valid files changed at random: read as the safetensors library reads them, or refused; nothing else."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converter.checkpoints.safetensors import DTYPE_BITS, STORED_FLOATS, read_tensors
from converter.errors import CheckpointError
from converter.sources.source_file import SourceFile

HEADER = {
    "__metadata__": {"format": "pt"},
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "BF16", "shape": [5], "data_offsets": [24, 34]},
    "empty": {"dtype": "F16", "shape": [0, 7], "data_offsets": [34, 34]},
    "c": {"dtype": "U8", "shape": [], "data_offsets": [34, 35]},
}
DATA = bytes(range(35))
STRICTER = (
    "appears twice",
    "expected dtype, shape and data_offsets",
    "printable characters",
    "expected a list of sizes",
    "dtype is {",
)
"""What may be refused although the library takes it; test_safetensors_refusals.py has each."""

sizes = st.integers(-2, 40) | st.sampled_from([2**31, 2**32, 2**60, 2**63 - 1, 2**63, 2**64])
anything = st.recursive(
    st.none() | st.booleans() | sizes | st.floats() | st.text(max_size=5) | st.sampled_from([*DTYPE_BITS]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
settled = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def check(content: bytes) -> None:
    """Our reading of a file, against the library's."""
    try:
        reference = dict(safetensors.deserialize(content))
    except safetensors.SafetensorError:
        reference = None
    with tempfile.NamedTemporaryFile() as target:
        target.write(content)
        target.flush()
        try:
            file = SourceFile(Path(target.name))
            tensors = read_tensors(file)
        except CheckpointError as error:
            assert str(error).isprintable()
            assert reference is None or any(reason in str(error) for reason in STRICTER)
            return
        assert reference is not None, "the library refuses what was read"
        assert tensors.keys() == reference.keys()
        for name, tensor in tensors.items():
            assert (tensor.dtype, list(tensor.shape)) == (reference[name]["dtype"], reference[name]["shape"])
            assert file.read_bytes(tensor.offset, tensor.nbytes) == bytes(reference[name]["data"])
            if tensor.dtype in STORED_FLOATS and tensor.rows < 100:
                assert tensor.read_rows(0, tensor.rows).shape == (tensor.rows, tensor.row_length)


@settled
@given(st.data())
def test_bytes_changed(file_bytes: Callable[..., bytes], data: st.DataObject) -> None:
    content = bytearray(file_bytes(HEADER, DATA))
    for _ in range(data.draw(st.integers(1, 3), "changes")):
        place = data.draw(st.integers(0, len(content) - 1), "place")
        length = data.draw(st.integers(0, 3), "length")
        # A minus sign would make -0, which the library calls a float and Python's parser an integer.
        content[place : place + length] = data.draw(st.binary(max_size=3), "by").replace(b"-", b"")
    check(bytes(content))


@settled
@given(st.data())
def test_members_changed(file_bytes: Callable[..., bytes], data: st.DataObject) -> None:
    header: dict[str, Any] = json.loads(json.dumps(HEADER))
    for _ in range(data.draw(st.integers(1, 3), "changes")):
        name = data.draw(st.sampled_from([*HEADER]), "tensor")
        key = data.draw(st.sampled_from(["dtype", "shape", "data_offsets", None]), "key")
        if key is None or not isinstance(header.get(name), dict):
            header[name] = data.draw(anything, "by")
        elif key == "dtype":
            header[name][key] = data.draw(st.sampled_from([*DTYPE_BITS]) | anything, "by")
        else:
            header[name][key] = data.draw(st.lists(sizes, max_size=3) | anything, "by")
    check(file_bytes(header, DATA))


@settled
@given(st.integers(0, 40), st.binary(max_size=80))
def test_lengths_changed(file_bytes: Callable[..., bytes], cut: int, tail: bytes) -> None:
    content = file_bytes(HEADER, DATA)
    check(content[: len(content) - cut] + tail)
    check(tail)
