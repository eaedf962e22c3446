"""PyTorch files that are not read: programs, damaged archives, things that are no weights. Nothing of them runs."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import random
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from converter.checkpoints import open_checkpoint
from converter.checkpoints.pickled import LEGACY_MAGIC
from converter.checkpoints.pytorch import read_tensors
from converter.errors import CheckpointError
from converter.sources.source_file import SourceFile

Refusal = Callable[..., str]
ONE, TWO = "pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"
INDEX = "pytorch_model.bin.index.json"
STATE = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(5).bfloat16()}
both = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])


class Attack:
    """Runs a shell command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


class Evaluation:
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("1 + 1",)


def refused(path: Path, refusal: Refusal) -> str:
    return refusal(lambda: read_tensors(SourceFile(path))).replace(str(path), "FILE")


@both
def test_a_pickle_that_runs_a_command(tmp_path: Path, refusal: Refusal, *, legacy: bool) -> None:
    path, trace = tmp_path / "x.bin", tmp_path / "trace"
    torch.save({**STATE, "c": Attack(f"touch {trace}")}, path, _use_new_zipfile_serialization=not legacy)
    message = refused(path, refusal)
    assert message.startswith("FILE: its pickle wants 'posix.system', which no weights need; nothing was run; ask its")
    assert not trace.exists()
    pickle.loads(pickle.dumps(Attack(f"touch {trace}")))
    assert trace.exists(), "the attack would have worked"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Evaluation(), "'__builtin__.eval'"),
        (argparse.Namespace(lr=1), "'argparse.Namespace'"),
        (np.float32(1), "'numpy._core.multiarray.scalar'"),
        (torch.nn.Linear(2, 2), "'torch.nn.modules.linear.Linear'"),
        (torch.ones(2, 2).to_sparse(), "'torch._utils._rebuild_sparse_tensor'"),
        (torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "'torch._utils._rebuild_qtensor'"),
        (Path("x"), "'pathlib"),
    ],
    ids=["eval", "arguments", "numpy", "module", "sparse", "quantized", "path"],
)
def test_what_is_no_weight_is_named(tmp_path: Path, refusal: Refusal, value: object, expected: str) -> None:
    torch.save({**STATE, "c": value}, tmp_path / "x.bin")
    assert refused(tmp_path / "x.bin", refusal).startswith(f"FILE: its pickle wants {expected}")


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_pickle_that_torch_did_not_write(tmp_path: Path, refusal: Refusal, protocol: int) -> None:
    path, trace = tmp_path / "x.bin", tmp_path / "trace"
    path.write_bytes(pickle.dumps(Attack(f"touch {trace}"), protocol=protocol))
    expected = "its pickle wants 'posix.system'" if protocol > 1 else "is not a file of torch.save; download it again"
    assert refused(path, refusal).startswith(f"FILE: {expected}")
    assert not trace.exists()


def test_things_that_are_no_state_dict(tmp_path: Path, refusal: Refusal) -> None:
    path = tmp_path / "x.bin"
    for content, kind in (({"epoch": 1}, "dict"), ([1, 2], "list"), (torch.ones(3), "tensor")):
        torch.save(content, path)
        assert refused(path, refusal).startswith(f"FILE: holds a {kind} where a dict of tensors by name is expected;")
    path.write_bytes(pickle.dumps({"a": 1}))
    assert refused(path, refusal).startswith("FILE: is a pickled dict, no file of torch.save; save its state_dict()")
    path.write_bytes(bytes(257) + b"ustar" + bytes(500))
    assert refused(path, refusal).startswith("FILE: is in PyTorch's tar format of 2016, which is not read")
    path.write_bytes(b"")
    assert refused(path, refusal) == "FILE: is empty; download it again"
    path.write_bytes(b"\x01\x02\x03\x04" * 4)
    assert refused(path, refusal) == "FILE: is not a file of torch.save; download it again"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<a/>")
    assert refused(path, refusal) == "FILE: is a zip archive without data.pkl, no file of torch.save"


def test_torchscript(tmp_path: Path, refusal: Refusal) -> None:
    torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(tmp_path / "x.pt")
    assert refused(tmp_path / "x.pt", refusal).startswith(
        "FILE: is a TorchScript archive, which is a program; save the"
    )


def rewritten(path: Path, change: Callable[[str, bytes], tuple[str, bytes] | None], **settings: Any) -> None:
    """Write an archive again with each entry changed, or left out."""
    with zipfile.ZipFile(path) as archive:
        entries = [(entry, archive.read(entry)) for entry in archive.namelist()]
    with zipfile.ZipFile(path, "w", **settings) as archive:
        for name, content in entries:
            if (changed := change(name, content)) is not None:
                archive.writestr(*changed)


@pytest.mark.parametrize(
    ("change", "settings", "expected"),
    [
        (lambda name, content: (name, content), {"compression": zipfile.ZIP_DEFLATED}, "is compressed or encrypted"),
        (lambda name, content: (name, b"big" if "byteorder" in name else content), {}, "its byte order is b'big', exp"),
        (lambda name, content: None if name.endswith("data/0") else (name, content), {}, "its archive has no entry 'x"),
        (lambda name, content: (name, content[: -1 if name.endswith("/0") else None]), {}, "tensor a has 23 bytes"),
    ],
    ids=["compressed", "big-endian", "missing", "short"],
)  # fmt: skip
def test_archives_changed(
    tmp_path: Path, refusal: Refusal, change: Callable[..., Any], settings: dict[str, Any], expected: str
) -> None:
    torch.save(STATE, tmp_path / "x.bin")
    rewritten(tmp_path / "x.bin", change, **settings)
    assert expected in refused(tmp_path / "x.bin", refusal)


def test_two_entries_of_one_name(tmp_path: Path, refusal: Refusal) -> None:
    torch.save(STATE, tmp_path / "x.bin")
    with zipfile.ZipFile(tmp_path / "x.bin", "a") as archive, pytest.warns(UserWarning):
        archive.writestr("x/data/0", bytes(24))
    assert "two entries of its zip archive have the same name" in refused(tmp_path / "x.bin", refusal)


def test_a_big_endian_machine(tmp_path: Path, refusal: Refusal) -> None:
    path = tmp_path / "x.bin"
    torch.save(STATE, path, _use_new_zipfile_serialization=False)
    before = b"little_endianq\x02\x88"
    content = path.read_bytes()
    assert before in content
    path.write_bytes(content.replace(before, before[:-1] + b"\x89"))
    assert refused(path, refusal).startswith("FILE: was saved by a big-endian machine; save its state_dict()")


@pytest.mark.parametrize("name", ["a\nb", "a" * 2000, 7], ids=["lines", "long", "number"])
def test_names_that_are_none(tmp_path: Path, refusal: Refusal, name: object) -> None:
    torch.save({name: torch.ones(2)}, tmp_path / "x.bin")
    assert ": expected a name of at most 1024 printable characters" in refused(tmp_path / "x.bin", refusal)


def test_a_pickle_too_long(tmp_path: Path, refusal: Refusal) -> None:
    torch.save({"a": torch.ones(2), "notes": "x" * 2**24}, tmp_path / "x.bin")
    assert refused(tmp_path / "x.bin", refusal).startswith("FILE: x/data.pkl is 16777")
    torch.save({"a": torch.ones(2), "notes": "x" * 2**24}, tmp_path / "x.bin", _use_new_zipfile_serialization=False)
    assert "its pickle is damaged" in refused(tmp_path / "x.bin", refusal)


def pickles(*parts: object) -> bytes:
    return b"".join(pickle.dumps(part, protocol=2) for part in parts)


FACTS = {"little_endian": True}


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((LEGACY_MAGIC, 1002, FACTS, {}, []), "its first pickles are not those of torch.save"),
        ((LEGACY_MAGIC, 1001, [], {}, []), "its first pickles are not those of torch.save"),
        ((LEGACY_MAGIC, 1001, FACTS, {}, {}), "its first pickles are not those of torch.save"),
        ((LEGACY_MAGIC, 1001, FACTS, {}, ["1"]), "its storages are not those that its tensors name"),
        ((LEGACY_MAGIC, 1001, FACTS, {}, [7]), "its storages are not those that its tensors name"),
        ((LEGACY_MAGIC, 1001, FACTS), "its pickle is damaged"),
        ((12345,), "is a pickled number, no file of torch.save"),
    ],
)
def test_legacy_pickles_that_are_not_those(
    tmp_path: Path, refusal: Refusal, parts: tuple[object, ...], expected: str
) -> None:
    (tmp_path / "x.bin").write_bytes(pickles(*parts))
    assert refused(tmp_path / "x.bin", refusal).startswith(f"FILE: {expected}")


def test_a_storage_that_is_not_there(tmp_path: Path, refusal: Refusal) -> None:
    path = tmp_path / "x.bin"
    torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    keys = content.rindex(b"\x80\x02]")
    path.write_bytes(content[:keys] + b"\x80\x02].")
    assert "FILE: it has no storage '" in refused(path, refusal)


def test_a_count_that_is_wrong(tmp_path: Path, refusal: Refusal) -> None:
    """Found when the storage is read."""
    path = tmp_path / "x.bin"
    torch.save({"a": torch.ones(1000)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    before = (1000).to_bytes(8, "little")
    assert content.count(before) == 1
    path.write_bytes(content.replace(before, (999).to_bytes(8, "little")))
    tensor = read_tensors(SourceFile(path))["a"]
    assert refusal(tensor.read_rows, 0, 1) == (
        f"{path}: the storage at byte {content.index(before)} has 999 elements, 1000 expected; download it again"
    )


def test_an_entry_without_its_header(tmp_path: Path, refusal: Refusal) -> None:
    path = tmp_path / "x.bin"
    torch.save({"a": torch.ones(1000)}, path)
    with zipfile.ZipFile(path) as archive:
        offset = archive.getinfo("x/data/0").header_offset
    content = bytearray(path.read_bytes())
    content[offset : offset + 4] = bytes(4)
    path.write_bytes(content)
    tensor = read_tensors(SourceFile(path))["a"]
    assert refusal(tensor.read_rows, 0, 1) == f"{path}: 'x/data/0' lies outside of it; download it again"


@both
@pytest.mark.parametrize("cut", [1, 30, 100, 1000, 2000])
def test_truncated(tmp_path: Path, refusal: Refusal, cut: int, *, legacy: bool) -> None:
    path = tmp_path / "x.bin"
    torch.save({"a": torch.ones(1000)}, path, _use_new_zipfile_serialization=not legacy)
    os.truncate(path, path.stat().st_size - cut)
    reason = (
        "is truncated or too long: its storages end at byte"
        if legacy
        else "its zip directory cannot be read: File is not a"
    )
    assert refused(path, refusal).startswith(f"FILE: {reason}")


def test_a_pointer(tmp_path: Path, refusal: Refusal) -> None:
    (tmp_path / "x.bin").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert "is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`" in refused(
        tmp_path / "x.bin", refusal
    )


@pytest.mark.parametrize(
    ("shape", "strides", "offset", "expected"),
    [
        ((2, 4), (4, 1), 0, "reaches beyond its storage of 24 bytes"),
        ((2, 3), (3, 1), 1, "reaches beyond its storage of 24 bytes"),
        ((2, 3), (-3, 1), 3, "a size is -3"),
        ((2, 3), (3,), 0, "2 sizes and 1 strides"),
        ((2**40, 2**40), (0, 0), 0, "has shape (1099511627776, 1099511627776)"),
        ((2**62,), (1,), 0, "a size is 4611686018427387904"),
        ((True, 6), (6, 1), 0, "a size is True"),
        ([2, 3], (3, 1), 0, "sizes are a list"),
        (((2, 3),), (3, 1), 0, "a size is tuple"),
    ],
)
def test_tensors_that_do_not_fit(
    tmp_path: Path, refusal: Refusal, shape: Any, strides: Any, offset: int, expected: str
) -> None:
    class Written:
        def __reduce__(self) -> tuple[Any, ...]:
            storage = torch.arange(6.0)._typed_storage()
            return torch._utils._rebuild_tensor_v2, (storage, offset, shape, strides, False, {})

    torch.save({"a": Written()}, tmp_path / "x.bin")
    assert expected in refused(tmp_path / "x.bin", refusal)


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02.",  # nothing
        b"\x80\x02}}.",  # two things
        b"\x80\x02}",  # no end
        b"\x80\x02t.",  # no mark
        b"\x80\x02\x85.",  # nothing to take
        b"\x80\x02h\x05.",  # never kept
        b"\x80\x02}R.",  # a call of nothing
        b"\x80\x02K\x01)R.",  # a call of a number
        b"\x80\x02ctorch\nfloat32\n)R.",  # a call of a type
        b"\x80\x02]K\x01b.",  # the state of a list
        b"\x80\x02}(K\x01u.",  # a key without its value
        b"\x80\x02}]K\x01s.",  # a list for a key
        b"\x80\x02K\x01Q.",  # a storage that is a number
        b"\x80\x02X\xff\xff\xff\x7fabc.",  # a text of two gigabytes
        b"\x80\x02\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
        b"\x80\x02r\xff\xff\xff\xff.",  # a note at place four billion
        b"\x80\x02((((.",
        b"\x80\x02\xff.",  # no such opcode
        b"\x80\x02P1\n.",
        b"\x80\x04)\x93.",
        b"\x80\x02cos\n",
    ],
)
def test_programs_that_make_no_sense(tmp_path: Path, refusal: Refusal, program: bytes) -> None:
    (tmp_path / "x.bin").write_bytes(program)
    assert "its pickle " in refused(tmp_path / "x.bin", refusal)


def test_a_tower_of_tuples_is_small(tmp_path: Path, refusal: Refusal) -> None:
    """Each level holds the one below twice: 2^200 elements to whoever looks at all of them."""
    tower = b"\x80\x02)" + b"q\x00h\x00\x86" * 200
    (tmp_path / "x.bin").write_bytes(tower + b".")
    assert refused(tmp_path / "x.bin", refusal).startswith("FILE: is a pickled tuple, no file of torch.save")
    (tmp_path / "x.bin").write_bytes(tower + b"}q\x01h\x00K\x01s.")
    assert "a key is a tuple" in refused(tmp_path / "x.bin", refusal)


PAIRS = b"".join(b"X\x04\x00\x00\x00%04dK\x01\x86" % number for number in range(2000))
LONG = b"\x10\x27\x00\x00" + b"a" * 10000


@pytest.mark.parametrize(
    "program",
    [
        b"(" + PAIRS + b"lq\x00" + b"ccollections\nOrderedDict\nh\x00\x85R" * 2000,
        b"X" + LONG + b"q\x00" + b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R" * 2000,
        b"B" + LONG + b"q\x00" + b"(U\x07storagectorch\nFloatStorage\nh\x00NK\x01tQ" * 2000,
        b"(" + b"N" * 10000 + b"tq\x00" + b"ctorch\ndevice\nh\x00R" * 2000,
    ],
    ids=["ordered", "encoded", "keys", "arguments"],
)
def test_a_call_repeated_is_small(tmp_path: Path, refusal: Refusal, program: bytes) -> None:
    """Two thousand times what was written once stays the size of the file."""
    (tmp_path / "x.bin").write_bytes(b"\x80\x02" + program + b".")
    tracemalloc.start()
    try:
        assert "its pickle is damaged" in refused(tmp_path / "x.bin", refusal)
        assert tracemalloc.get_traced_memory()[1] < 3 * 2**20
    finally:
        tracemalloc.stop()


@both
def test_bytes_changed_at_random(tmp_path: Path, *, legacy: bool) -> None:
    """Read as PyTorch reads it, or refused in a line; nothing else."""
    path = tmp_path / "x.bin"
    torch.save(STATE | {"t": STATE["a"].t()}, path, _use_new_zipfile_serialization=not legacy)
    content, chance = path.read_bytes(), random.Random(5)
    for _ in range(500):
        changed = bytearray(content)
        for _ in range(chance.randint(1, 3)):
            place = chance.randrange(min(len(content), 1200))
            changed[place : place + chance.randint(0, 2)] = chance.randbytes(chance.randint(0, 2))
        path.write_bytes(changed)
        try:
            found = read_tensors(SourceFile(path))
            read = {name: tensor.read_stored(0, tensor.rows) for name, tensor in found.items() if tensor.rows < 100}
        except CheckpointError as error:
            assert str(error).isprintable()
            continue
        try:
            expected = torch.load(path, weights_only=True)
        except Exception:  # a few facts that only PyTorch checks, such as sums of entries
            continue
        for name in read.keys() & expected.keys():
            assert read[name].tobytes() == expected[name].contiguous().view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize(
    ("placed", "shards", "expected"),
    [
        ({"a": ONE, "b": TWO}, {ONE: "a"}, f": {INDEX} names 2 shards, 1 of them missing: {TWO}; download them"),
        ({"a": ONE, "b": TWO}, {ONE: "ab", TWO: "b"}, f"/{TWO}: tensor b is also in {ONE}; expected each tensor once"),
        ({"a": ONE, "b": TWO}, {ONE: "a", TWO: "c"}, f"/{INDEX}: tensor 'b' should be in {TWO}, which does not hold"),
        ({"a": ONE}, {ONE: "ab"}, f"/{ONE}: holds tensor b, which {INDEX} does not list"),
        ({"a": "a.safetensors"}, {ONE: "a"}, f"/{INDEX}: tensor 'a' is in 'a.safetensors', expected the name of a .b"),
        (None, {ONE: "a"}, f": holds 1 of 2 shards; download {TWO}"),
        (None, {ONE: "a", TWO: "a"}, f"/{TWO}: tensor a is also in {ONE}; expected each tensor once"),
        (None, {ONE: "a", TWO: "b", "pytorch_model.bin": "c"}, f": holds both pytorch_model.bin and {ONE}; remove one"),
    ],
)  # fmt: skip
def test_sets_of_shards(
    checkpoint_directory: Path, refusal: Refusal, placed: dict[str, str], shards: dict[str, str], expected: str
) -> None:
    for shard, names in shards.items():
        torch.save({name: torch.ones(2) for name in names}, checkpoint_directory / shard)
    if placed is not None:
        (checkpoint_directory / INDEX).write_text(json.dumps({"weight_map": placed}))
    assert refusal(open_checkpoint, checkpoint_directory).startswith(f"{checkpoint_directory}{expected}")
