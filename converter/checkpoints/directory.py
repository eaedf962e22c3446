"""A checkpoint directory: which of its files hold the weights, and all their tensors under one roof."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

from converter.checkpoints.quantized import dequantized
from converter.checkpoints.safetensors import SafetensorsTensor, read_tensors
from converter.checkpoints.source_file import FileIdentity, SourceFile, quoted, read_json_object, unreadable
from converter.checkpoints.tensor import SourceTensor
from converter.errors import CheckpointError

CONFIG = "config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

_NUMBERED = re.compile(r"model-(\d+)-of-(\d+)\.safetensors", re.ASCII)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_EXPECTED = f"a checkpoint directory, which holds {CONFIG}, *.safetensors and the tokenizer's files"
_PYTORCH = "is a PyTorch checkpoint, which is not read yet; save it as safetensors (save_pretrained does)"
_FOREIGN = (
    ("*.gguf", "is a GGUF file already; convert the safetensors checkpoint that it was made from"),
    ("pytorch_model*.bin", _PYTORCH),
    ("*.pt", _PYTORCH),
    ("*.pth", _PYTORCH),
)
"""Weights that are not safetensors: a pattern, and what to say of a file that matches."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint ready to be read. Use as a context manager, or call :meth:`close` after the last read.

    Attributes:
        directory: where it lies, as given.
        config: ``config.json``, parsed.
        tensors: every tensor by name, shard after shard, in the order of their bytes. Weights that were quantized
            (``quantization_config``) appear under their plain names and are dequantized while they are read.
        files: what ``config.json`` and each shard were when they were opened.
        nbytes: bytes of all the files' tensors together.
    """

    directory: Path
    config: dict[str, Any]
    tensors: Mapping[str, SourceTensor]
    files: tuple[FileIdentity, ...]
    nbytes: int
    _shards: tuple[SourceFile, ...] = field(repr=False, compare=False)

    def close(self) -> None:
        """Close the shards, once no read is under way."""
        for shard in self._shards:
            shard.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_checkpoint(directory: Path, elsewhere: Mapping[str, SourceFile] = MappingProxyType({})) -> Checkpoint:
    """Open a Hugging Face checkpoint: ``config.json`` and safetensors, single, numbered or listed in an index.

    Only headers are read, and of quantized weights what tells their shape. Files stay closed until the first tensor
    is read.

    Args:
        directory: a local directory; the files in it may be links.
        elsewhere: files that belong to the directory and lie somewhere else, by their names in it. They count before
            files of the same name that are there.

    Raises:
        CheckpointError: nothing there, or files that are missing, damaged or contradict each other.
    """
    directory = Path(directory)
    names = _list(directory) | elsewhere.keys()

    def opened(name: str) -> SourceFile:
        return elsewhere[name] if name in elsewhere else SourceFile(directory / name)

    placed = _read_index(opened(INDEX)) if INDEX in names else None
    weights = _shards_without_index(directory, names) if placed is None else _shards_of_index(directory, names, placed)
    if CONFIG not in names:
        raise CheckpointError(f"{directory}: has no {CONFIG}; expected {_EXPECTED}")
    config_file = opened(CONFIG)
    config = read_json_object(config_file)
    config_file.close()
    shards = {name: opened(name) for name in weights}
    tensors, held = _union(shards)
    if placed is not None:
        _compare_with_index(directory / INDEX, placed, held, shards)
    files = tuple(file.identity for file in (config_file, *shards.values()))
    nbytes = sum(tensor.nbytes for tensor in tensors.values())
    offered = dequantized(config_file.path, config, tensors)
    for shard in shards.values():
        shard.close()
    return Checkpoint(directory, config, MappingProxyType(dict(offered)), files, nbytes, tuple(shards.values()))


def _list(directory: Path) -> set[str]:
    """The names in the directory; one that would break a message's line cannot be meant."""
    try:
        return {path.name for path in directory.iterdir() if path.name.isprintable()}
    except FileNotFoundError:
        advice = f"expected {_EXPECTED}"
        if _HUB_ID.fullmatch(str(directory)):
            advice += f"; if it is a Hub model id, download it first: hf download {directory} --local-dir DIRECTORY"
        raise CheckpointError(f"{directory}: no such directory; {advice}") from None
    except NotADirectoryError:
        raise CheckpointError(f"{directory}: is a file; expected {_EXPECTED}") from None
    except OSError as error:
        raise unreadable(directory, error) from error


def _shards_of_index(directory: Path, names: set[str], placed: dict[str, str]) -> list[str]:
    """The names of the shards that the index speaks of, all of them there."""
    wanted = sorted(set(placed.values()))
    if SINGLE in names and SINGLE not in wanted:
        raise CheckpointError(
            f"{directory}: holds {SINGLE} and an index of other files ({_first(wanted)}); "
            "remove one of the two sets of weights"
        )
    if missing := [name for name in wanted if name not in names]:
        raise CheckpointError(
            f"{directory}: {INDEX} names {len(wanted)} shards, {len(missing)} of them missing: {_first(missing)}; "
            "download them"
        )
    return wanted


def _shards_without_index(directory: Path, names: set[str]) -> list[str]:
    """The name of the single file or those of a numbered set, else of the only safetensors file there is."""
    weights = sorted(name for name in names if name.endswith(".safetensors"))
    numbered = [match for name in weights if (match := _NUMBERED.fullmatch(name))]
    if SINGLE in names and numbered:
        raise CheckpointError(
            f"{directory}: holds both {SINGLE} and {numbered[0].string}; remove one of the two sets of weights"
        )
    if SINGLE in names:
        return [SINGLE]
    if numbered:
        return _complete(directory, numbered)
    if len(weights) == 1:
        return weights
    if weights:
        raise CheckpointError(
            f"{directory}: holds {len(weights)} safetensors files and no {INDEX}: {_first(weights)}; expected {SINGLE}"
        )
    for pattern, sentence in _FOREIGN:
        if found := sorted(path.name for path in directory.glob(pattern)):
            raise CheckpointError(f"{directory}: {found[0]} {sentence}")
    near = sorted(path.parent for path in (*directory.glob(f"*/{CONFIG}"), *directory.glob(f"snapshots/*/{CONFIG}")))
    advice = f"; did you mean {near[0]}?" if near else ""
    state = "holds no weights" if names else "is empty"
    raise CheckpointError(f"{directory}: {state}; expected {_EXPECTED}{advice}")


def _complete(directory: Path, numbered: list[re.Match[str]]) -> list[str]:
    """All the names of a numbered set of which some were found, e.g. ``model-00001-of-00002.safetensors``."""
    total, found = int(numbered[0][2]), {int(match[1]) for match in numbered}
    absent = next((number for number in range(1, total + 1) if number not in found), None)
    if absent is not None:
        name = f"model-{absent:0{len(numbered[0][1])}}-of-{numbered[0][2]}.safetensors"
        raise CheckpointError(f"{directory}: holds {len(found)} of {total} shards; download {name}")
    if len(numbered) != total or len({match[2] for match in numbered}) > 1:
        raise CheckpointError(
            f"{directory}: holds shards of several sets: {_first([match.string for match in numbered])}; keep one set"
        )
    return [match.string for match in numbered]


def _read_index(file: SourceFile) -> dict[str, str]:
    """The index's map from tensor to shard; every shard a plain name in the directory.

    Raises:
        CheckpointError: the index is malformed, or names a file elsewhere.
    """
    placed = read_json_object(file, strict=True).get("weight_map")
    file.close()
    if not isinstance(placed, dict) or not placed:
        raise CheckpointError(f"{file.path}: weight_map is {quoted(placed)}, expected an object of tensor: shard")
    for name, shard in placed.items():
        plain = isinstance(shard, str) and shard.isprintable() and not re.search(r"[/\\]", shard)
        if not plain or not shard.endswith(".safetensors"):
            raise CheckpointError(
                f"{file.path}: tensor {quoted(name)} is in {quoted(shard)}, expected the name of a .safetensors file "
                "in the same directory"
            )
    return placed


def _union(shards: Mapping[str, SourceFile]) -> tuple[dict[str, SafetensorsTensor], dict[str, str]]:
    """The tensors of all shards, and which shard holds each. Shards are closed again once their header is read."""
    tensors: dict[str, SafetensorsTensor] = {}
    held: dict[str, str] = {}
    for shard, file in shards.items():
        for name, tensor in read_tensors(file).items():
            if name in tensors:
                raise CheckpointError(
                    f"{file.path}: tensor {name} is also in {held[name]}; "
                    "expected each tensor once; remove the shard that does not belong to the checkpoint"
                )
            tensors[name], held[name] = tensor, shard
        file.close()
    return tensors, held


def _compare_with_index(
    index: Path, placed: Mapping[str, str], held: Mapping[str, str], shards: Mapping[str, SourceFile]
) -> None:
    for name, shard in placed.items():
        if held.get(name) != shard:
            where = f"which is in {held[name]}" if name in held else "which does not hold it"
            raise CheckpointError(
                f"{index}: tensor {quoted(name)} should be in {shard}, {where}; download the index and the shards again"
            )
    for name, shard in held.items():
        if name not in placed:
            raise CheckpointError(
                f"{shards[shard].path}: holds tensor {name}, which {index.name} does not list; "
                "download the index and the shards again"
            )


def _first(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
