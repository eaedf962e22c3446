"""Which files of a directory make the checkpoint, and what is said of a directory that is none."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from converter.checkpoints import open_checkpoint
from converter.sources.source_file import SourceFile

Refusal = Callable[..., str]
WriteShard = Callable[..., Path]
ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"


def write_index(directory: Path, **placed: object) -> None:
    (directory / INDEX).write_text(json.dumps({"metadata": {"total_size": 0}, "weight_map": placed}))


def open_descriptors() -> set[str]:
    return {str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.exists()}


@pytest.mark.parametrize("shard_size", ["10GB", "20kB"])
def test_what_transformers_saves(tmp_path: Path, shard_size: str) -> None:
    config = LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, vocab_size=100
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(tmp_path, max_shard_size=shard_size)
    assert (tmp_path / INDEX).exists() == (shard_size == "20kB")
    state = model.state_dict()
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.directory == tmp_path
        assert checkpoint.config == json.loads((tmp_path / "config.json").read_text())
        assert checkpoint.tensors.keys() == state.keys()
        assert checkpoint.nbytes == sum(value.nbytes for value in state.values())
        for name, value in state.items():
            tensor = checkpoint.tensors[name]
            read = tensor.read_rows(0, tensor.rows).reshape(tensor.shape)
            np.testing.assert_array_equal(read, value.float().numpy())


def test_files_say_what_was_opened(checkpoint_directory: Path, write_shard: WriteShard) -> None:
    write_shard(checkpoint_directory / ONE, a=1)
    write_shard(checkpoint_directory / TWO, b=2)
    files = open_checkpoint(checkpoint_directory).files
    assert [file.path.name for file in files] == ["config.json", ONE, TWO]
    for file in files:
        status = file.path.stat()
        assert file.path.is_absolute()
        assert (file.size, file.mtime_ns) == (status.st_size, status.st_mtime_ns)


def test_descriptors_are_given_back(checkpoint_directory: Path, write_shard: WriteShard) -> None:
    path = str(write_shard(checkpoint_directory / "model.safetensors", a=4))
    checkpoint = open_checkpoint(checkpoint_directory)
    assert path not in open_descriptors()
    with checkpoint:
        checkpoint.tensors["a"].read_rows(0, 1)
        assert path in open_descriptors()
    assert path not in open_descriptors()
    checkpoint.tensors["a"].read_rows(0, 1)
    assert path in open_descriptors()
    del checkpoint
    gc.collect()
    assert path not in open_descriptors()


@pytest.mark.parametrize(
    ("shards", "beside", "expected"),
    [
        ({"model.safetensors": "ab"}, (), "ab"),
        ({"weights.safetensors": "ab"}, (), "ab"),
        ({ONE: "a", TWO: "b"}, (), "ab"),
        ({"model.safetensors": "ab"}, ("consolidated.safetensors",), "ab"),
        ({ONE: "a", TWO: "b"}, ("consolidated.safetensors", "consolidated-00001-of-00002.safetensors"), "ab"),
        ({"model-1-of-1.safetensors": "a"}, ("adapter_model.safetensors", "pytorch_model.bin", "a.gguf"), "a"),
    ],
)
@pytest.mark.parametrize("indexed", [False, True])
def test_layouts(
    *,
    checkpoint_directory: Path,
    write_shard: WriteShard,
    shards: dict[str, str],
    beside: tuple[str, ...],
    expected: str,
    indexed: bool,
) -> None:
    for shard, names in shards.items():
        write_shard(checkpoint_directory / shard, **dict.fromkeys(names, 3))
    for name in beside:
        write_shard(checkpoint_directory / name, a=5, b=5)
    if indexed:
        write_index(checkpoint_directory, **{name: shard for shard, names in shards.items() for name in names})
    tensors = open_checkpoint(checkpoint_directory).tensors
    assert list(tensors) == list(expected)
    assert all(tensor.shape == (3,) for tensor in tensors.values())


def test_links_are_followed(tmp_path: Path, write_shard: WriteShard) -> None:
    """The layout of the Hub's cache: a snapshot of links into a store of blobs."""
    snapshot, blobs = tmp_path / "snapshots" / "1", tmp_path / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "c0ffee").write_text("{}")
    write_shard(blobs / "f00d", a=3)
    (snapshot / "config.json").symlink_to("../../blobs/c0ffee")
    (snapshot / "model.safetensors").symlink_to("../../blobs/f00d")
    (tmp_path / "latest").symlink_to(snapshot)
    assert open_checkpoint(tmp_path / "latest").tensors["a"].read_rows(0, 1).shape == (1, 3)
    (blobs / "f00d").unlink()
    with pytest.raises(Exception, match=r"model\.safetensors: cannot be read: No such file or directory"):
        open_checkpoint(snapshot)


def test_files_that_lie_elsewhere(checkpoint_directory: Path, write_shard: WriteShard, tmp_path_factory: Any) -> None:
    """Weights, and even the index, that are not in the directory; a file of the same name there does not count."""
    far = tmp_path_factory.mktemp("far")
    write_shard(checkpoint_directory / ONE, x=9)
    write_index(far, a=ONE, b=TWO)
    (far / "index").write_bytes((far / INDEX).read_bytes())
    files = {
        INDEX: SourceFile(far / "index"),
        ONE: SourceFile(write_shard(far / "first", a=2)),
        TWO: SourceFile(write_shard(far / "second", b=3)),
    }
    with open_checkpoint(checkpoint_directory, files) as checkpoint:
        assert {name: tensor.shape for name, tensor in checkpoint.tensors.items()} == {"a": (2,), "b": (3,)}
        assert checkpoint.tensors["b"].read_rows(0, 1).shape == (1, 3)
    assert [file.path.name for file in checkpoint.files] == ["config.json", "first", "second"]


def test_no_such_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Refusal) -> None:
    expected = (
        "expected a checkpoint directory, which holds config.json, weights (*.safetensors or *.bin) and the "
        "tokenizer's files"
    )
    assert refusal(open_checkpoint, tmp_path / "x") == f"{tmp_path / 'x'}: no such directory; {expected}"
    monkeypatch.chdir(tmp_path)
    assert refusal(open_checkpoint, Path("org/some-model-1.5B")) == (
        f"org/some-model-1.5B: no such directory; {expected}; if it is a Hub model id, download it first: "
        "hf download org/some-model-1.5B --local-dir DIRECTORY"
    )
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert refusal(open_checkpoint, Path("model.safetensors")) == f"model.safetensors: is a file; {expected}"
    (tmp_path / "loop").symlink_to("loop")
    assert refusal(open_checkpoint, Path("loop")) == "loop: cannot be read: Too many levels of symbolic links"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], ": is empty; expected a checkpoint directory, which holds config.json, weights (*.safetensors or"),
        (["config.json", "tokenizer.json"], ": holds no weights; expected a checkpoint directory"),
        (["model.safetensors"], ": has no config.json; expected a checkpoint directory"),
        (["config.json", "model-Q8_0.gguf"], ": model-Q8_0.gguf is a GGUF file; pass its path as the model to"),
        (["config.json", "adapter_model.safetensors"], ": adapter_model.safetensors is an adapter without its model;"),
        (["config.json", "optimizer.pt", "training_args.bin"], ": holds no weights; expected a checkpoint directory"),
        (["config.json", "consolidated.safetensors"], ": has no params.json; expected a checkpoint directory"),
        (["config.json", "consolidated.01.pth"], ": holds consolidated.01.pth and no consolidated.00.pth; download it"),
        (["x.bin", "y.bin"], ": holds 2 bin files and no pytorch_model.bin.index.json: x.bin, y.bin; expected pyt"),
        (["pytorch_model-00002-of-00002.bin"], ": holds 1 of 2 shards; download pytorch_model-00001-of-00002.bin"),
        (
            ["config.json", "x.safetensors", "y.safetensors"],
            ": holds 2 safetensors files and no model.safetensors.index.json: x.safetensors, y.safetensors; expected",
        ),
        (["model.safetensors", ONE, TWO], f": holds both model.safetensors and {ONE}; remove one of the two sets"),
        ([TWO], f": holds 1 of 2 shards; download {ONE}"),
        ([ONE], f": holds 1 of 2 shards; download {TWO}"),
        (["model-2-of-99999999999999.safetensors"], ": holds 1 of 99999999999999 shards; download model-1-of-9999"),
        (["model-1-of-2.safetensors", "model-2-of-3.safetensors"], ": holds shards of several sets: model-1-of-2"),
        ([ONE, TWO, "model-00003-of-00002.safetensors"], ": holds shards of several sets: model-00001-of-00002"),
        ([ONE, "model-1-of-00002.safetensors", TWO], ": holds shards of several sets: model-00001-of-00002"),
        (["sub/config.json"], "/sub?"),
        (["snapshots/0123/config.json", "refs/main"], "/snapshots/0123?"),
    ],
)  # fmt: skip
def test_not_a_checkpoint(
    tmp_path: Path, write_shard: WriteShard, refusal: Refusal, names: list[str], expected: str
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_shard(tmp_path / name, w=1) if name.endswith(".safetensors") else (tmp_path / name).write_text("{}")
    message = refusal(open_checkpoint, tmp_path)
    assert message.startswith(f"{tmp_path}: ")
    assert expected in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty; download it again"),
        (b"{", "is not valid JSON: Expecting property name"),
        (b'{"a": "\xe9"}', "is not valid JSON: 'utf-8' codec can't decode byte 0xe9"),
        (b"[1]", "holds [1], expected a JSON object"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer, not the file itself"),
    ],
)
@pytest.mark.parametrize("name", ["config.json", INDEX])
def test_malformed_json(
    *, checkpoint_directory: Path, write_shard: WriteShard, refusal: Refusal, name: str, content: bytes, expected: str
) -> None:
    write_shard(checkpoint_directory / "model.safetensors", w=1)
    (checkpoint_directory / name).write_bytes(content)
    assert refusal(open_checkpoint, checkpoint_directory).startswith(f"{checkpoint_directory / name}: {expected}")


def test_a_config_of_a_gigabyte(checkpoint_directory: Path, write_shard: WriteShard, refusal: Refusal) -> None:
    write_shard(checkpoint_directory / "model.safetensors", w=1)
    os.truncate(checkpoint_directory / "config.json", 10**9)
    assert "is 1000000000 bytes long, expected at most 100000000" in refusal(open_checkpoint, checkpoint_directory)


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        ({}, "weight_map is None, expected an object of tensor: shard"),
        ({"weight_map": []}, "weight_map is [], expected an object"),
        ({"weight_map": {}}, "weight_map is {}, expected an object"),
        *(
            ({"weight_map": {"a": shard}}, f"tensor 'a' is in {shard!r}, expected the name of a .safetensors file")
            for shard in (
                "../model.safetensors", "/etc/model.safetensors", "sub/model.safetensors", "..\\model.safetensors",
                "..", "", "model.bin", "a\0.safetensors", "a\n.safetensors", "\ud800.safetensors", None, 1, ["a"],
            )
        ),
    ],
)  # fmt: skip
def test_malformed_index(
    checkpoint_directory: Path, write_shard: WriteShard, refusal: Refusal, index: object, expected: str
) -> None:
    write_shard(checkpoint_directory / "model.safetensors", a=1)
    write_shard(checkpoint_directory.parent / "model.safetensors", a=1)
    (checkpoint_directory / INDEX).write_text(json.dumps(index))
    assert refusal(open_checkpoint, checkpoint_directory).startswith(f"{checkpoint_directory / INDEX}: {expected}")


def test_a_tensor_twice_in_the_index(checkpoint_directory: Path, write_shard: WriteShard, refusal: Refusal) -> None:
    write_shard(checkpoint_directory / ONE, a=1)
    (checkpoint_directory / INDEX).write_text(f'{{"weight_map": {{"a": "{ONE}", "a": "{TWO}"}}}}')
    assert "'a' appears twice" in refusal(open_checkpoint, checkpoint_directory)


@pytest.mark.parametrize(
    ("placed", "shards", "expected"),
    [
        ({"a": ONE, "b": TWO}, {ONE: "a"}, f": {INDEX} names 2 shards, 1 of them missing: {TWO}; download them"),
        (
            {name: f"{name}.safetensors" for name in "abcde"},
            {"b.safetensors": "b"},
            f": {INDEX} names 5 shards, 4 of them missing: a.safetensors, c.safetensors, d.safetensors, …; download",
        ),
        ({"a": ONE, "b": TWO}, {ONE: "a", TWO: "c"}, f"/{INDEX}: tensor 'b' should be in {TWO}, which does not hold"),
        ({"a": ONE, "b": ONE}, {ONE: "a"}, f"/{INDEX}: tensor 'b' should be in {ONE}, which does not hold it"),
        ({"a": TWO, "b": ONE}, {ONE: "a", TWO: "b"}, f"/{INDEX}: tensor 'a' should be in {TWO}, which is in {ONE}"),
        ({"a": ONE, "b": TWO}, {ONE: "ab", TWO: "b"}, f"/{TWO}: tensor b is also in {ONE}; expected each tensor once"),
        ({"a": ONE}, {ONE: "ab"}, f"/{ONE}: holds tensor b, which {INDEX} does not list"),
        (
            {"a": ONE},
            {ONE: "a", "model.safetensors": "b"},
            f": holds model.safetensors and an index of other files ({ONE}); remove one of the two sets of weights",
        ),
    ],
)  # fmt: skip
def test_index_and_shards_that_disagree(
    *,
    checkpoint_directory: Path,
    write_shard: WriteShard,
    refusal: Refusal,
    placed: dict[str, str],
    shards: dict[str, str],
    expected: str,
) -> None:
    for shard, names in shards.items():
        write_shard(checkpoint_directory / shard, **dict.fromkeys(names, 2))
    write_index(checkpoint_directory, **placed)
    assert refusal(open_checkpoint, checkpoint_directory).startswith(f"{checkpoint_directory}{expected}")


def test_the_same_tensor_in_two_shards_without_an_index(
    checkpoint_directory: Path, write_shard: WriteShard, refusal: Refusal
) -> None:
    write_shard(checkpoint_directory / ONE, a=1)
    write_shard(checkpoint_directory / TWO, a=1)
    assert refusal(open_checkpoint, checkpoint_directory).startswith(
        f"{checkpoint_directory / TWO}: tensor a is also in {ONE}; expected each tensor once"
    )


def test_a_truncated_shard(checkpoint_directory: Path, refusal: Refusal) -> None:
    path = checkpoint_directory / "model.safetensors"
    save_file({"w": np.ones((10, 10), np.float32)}, path)
    os.truncate(path, path.stat().st_size - 1)
    assert refusal(open_checkpoint, checkpoint_directory) == (
        f"{path}: is truncated: tensor w ends at byte 400 of the data, of which there are 399; download the file again"
    )


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", INDEX])
def test_a_directory_in_place_of_a_file(
    checkpoint_directory: Path, write_shard: WriteShard, refusal: Refusal, name: str
) -> None:
    write_shard(checkpoint_directory / "model.safetensors", w=1)
    (checkpoint_directory / name).unlink(missing_ok=True)
    (checkpoint_directory / name).mkdir()
    assert refusal(open_checkpoint, checkpoint_directory) == f"{checkpoint_directory / name}: is not a regular file"
