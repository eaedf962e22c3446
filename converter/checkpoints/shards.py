"""Which files of a directory hold the weights, and all their tensors under one roof."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from converter.checkpoints.files import CONFIG, EXPECTED, Files
from converter.checkpoints.pytorch import read_tensors as read_pytorch
from converter.checkpoints.safetensors import SafetensorsTensor
from converter.checkpoints.safetensors import read_tensors as read_safetensors
from converter.errors import CheckpointError
from converter.sources.other_formats import below, explained_files
from converter.sources.source_file import SourceFile, quoted, read_json_object

Reader = Callable[[SourceFile], dict[str, SafetensorsTensor]]


@dataclass(frozen=True)
class Layout:
    """How a set of weights is named: one file, numbered ones, or ones listed in an index.

    Attributes:
        stem, suffix: what the names begin and end with.
        read: gives a file's tensors.
        original: the tensors have their authors' names, not transformers'.
    """

    stem: str
    suffix: str
    read: Reader
    original: bool = False

    @property
    def single(self) -> str:
        return f"{self.stem}.{self.suffix}"

    @property
    def index(self) -> str:
        return f"{self.single}.index.json"

    def number(self, name: str) -> re.Match[str] | None:
        """Number and total of a file of a numbered set."""
        return re.fullmatch(rf"{self.stem}-(\d+)-of-(\d+)\.{self.suffix}", name, re.ASCII)


LAYOUTS = (
    Layout("model", "safetensors", read_safetensors),
    Layout("pytorch_model", "bin", read_pytorch),
    Layout("consolidated", "safetensors", read_safetensors, original=True),
)
"""Sets of weights, the preferred first: where a directory holds several, the others are left alone."""

_RANK = re.compile(r"consolidated\.(\d+)\.pth", re.ASCII)
_LONE = {"safetensors": read_safetensors, "bin": read_pytorch, "pt": read_pytorch, "pth": read_pytorch}
_NOT_WEIGHTS = re.compile(
    r"(adapter_model|adapters\.|consolidated|optimizer|scheduler|scaler|training_args|rng_state|openvino_|params_shard_|"
    r"zero_pp_rank_|mp_rank_|pytorch_model_fsdp).*|.*rank_?\d+\.pt"
)
"""What lies beside weights after training or belongs to something else, and ends like them."""


@dataclass(frozen=True)
class Weights:
    """The files that hold the weights.

    Attributes:
        names: of the files, in order.
        read: gives a file's tensors.
        index: name of the index that lists them, "" without one.
        placed: the index's map from tensor to file.
        original: as in :class:`Layout`.
        ranks: each file holds a slice of every tensor.
    """

    names: list[str]
    read: Reader
    index: str = ""
    placed: Mapping[str, str] | None = None
    original: bool = False
    ranks: bool = False


def find_weights(files: Files) -> Weights:
    """The set of weights that is converted: safetensors before PyTorch, transformers' names before others.

    Raises:
        CheckpointError: there is none, a file of it is missing, or it is not clear which files belong together.
    """
    for layout in LAYOUTS:
        if found := _of_layout(files, layout):
            return found
    if found := _of_ranks(files):
        return found
    for suffix, read in _LONE.items():
        lone = sorted(name for name in files.names if name.endswith(f".{suffix}") and not _NOT_WEIGHTS.match(name))
        if len(lone) == 1:
            return Weights(lone, read)
        if lone:
            best = LAYOUTS[0] if suffix == "safetensors" else LAYOUTS[1]
            raise CheckpointError(
                f"{files.directory}: holds {len(lone)} {suffix} files and no {best.index}: {first(lone)}; "
                f"expected {best.single}"
            )
    raise _nothing(files)


def _of_layout(files: Files, layout: Layout) -> Weights | None:
    numbered = [match for name in sorted(files.names) if (match := layout.number(name))]
    if layout.index in files.names:
        placed = _read_index(files.open(layout.index), layout.suffix)
        return Weights(_of_index(files, layout, placed), layout.read, layout.index, placed, layout.original)
    if layout.single in files.names and numbered:
        raise CheckpointError(
            f"{files.directory}: holds both {layout.single} and {numbered[0].string}; remove one of the two sets of "
            "weights"
        )
    if layout.single in files.names:
        return Weights([layout.single], layout.read, original=layout.original)
    if numbered:
        return Weights(_complete(files, layout, numbered), layout.read, original=layout.original)
    return None


def _of_index(files: Files, layout: Layout, placed: Mapping[str, str]) -> list[str]:
    """The names of the shards that the index speaks of, all of them there."""
    wanted = sorted(set(placed.values()))
    if layout.single in files.names and layout.single not in wanted:
        raise CheckpointError(
            f"{files.directory}: holds {layout.single} and an index of other files ({first(wanted)}); "
            "remove one of the two sets of weights"
        )
    if missing := [name for name in wanted if name not in files.names]:
        raise CheckpointError(
            f"{files.directory}: {layout.index} names {len(wanted)} shards, {len(missing)} of them missing: "
            f"{first(missing)}; download them"
        )
    return wanted


def _complete(files: Files, layout: Layout, numbered: list[re.Match[str]]) -> list[str]:
    """All the names of a numbered set of which some were found, e.g. ``model-00001-of-00002.safetensors``."""
    total, found = int(numbered[0][2]), {int(match[1]) for match in numbered}
    absent = next((number for number in range(1, total + 1) if number not in found), None)
    if absent is not None:
        name = f"{layout.stem}-{absent:0{len(numbered[0][1])}}-of-{numbered[0][2]}.{layout.suffix}"
        raise CheckpointError(f"{files.directory}: holds {len(found)} of {total} shards; download {name}")
    if len(numbered) != total or len({match[2] for match in numbered}) > 1:
        raise CheckpointError(
            f"{files.directory}: holds shards of several sets: {first([match.string for match in numbered])}; "
            "keep one set"
        )
    return [match.string for match in numbered]


def _of_ranks(files: Files) -> Weights | None:
    """Meta's files, one for each rank of its model parallelism, numbered from 0."""
    found = {int(match[1]): match.string for name in sorted(files.names) if (match := _RANK.fullmatch(name))}
    names = list(found.values())
    for number in range(len(found)):
        if number not in found:
            raise CheckpointError(
                f"{files.directory}: holds {first(names)} and no consolidated.{number:02}.pth; download it"
            )
    return Weights(names, read_pytorch, original=True, ranks=True) if names else None


def _nothing(files: Files) -> CheckpointError:
    """What is said of a directory without weights."""
    directory, names = files.directory, files.names
    if foreign := explained_files(names | below(directory, names)):
        return CheckpointError(f"{directory}: holds no weights that are read: {foreign}")
    near = sorted(path.parent for path in (*directory.glob(f"*/{CONFIG}"), *directory.glob(f"snapshots/*/{CONFIG}")))
    advice = f"; did you mean {near[0]}?" if near else ""
    state = "holds no weights" if names else "is empty"
    return CheckpointError(f"{directory}: {state}; expected {EXPECTED}{advice}")


def _read_index(file: SourceFile, suffix: str) -> dict[str, str]:
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
        if not plain or not shard.endswith(f".{suffix}"):
            raise CheckpointError(
                f"{file.path}: tensor {quoted(name)} is in {quoted(shard)}, expected the name of a .{suffix} file "
                "in the same directory"
            )
    return placed


def read_all(files: Files, weights: Weights) -> tuple[list[SourceFile], list[dict[str, SafetensorsTensor]]]:
    """The shards, each closed again once its header is read, and the tensors of each."""
    shards, held = [], []
    for name in weights.names:
        shard = files.open(name)
        shards.append(shard)
        held.append(weights.read(shard))
        shard.close()
    return shards, held


def union(
    files: Files,
    weights: Weights,
    shards: list[SourceFile],
    held: list[dict[str, SafetensorsTensor]],
    spared: Callable[[str], bool] = lambda _: False,
) -> dict[str, SafetensorsTensor]:
    """The tensors of all shards, each of them in the shard where the index, if there is one, puts it.

    Args:
        files, weights: the checkpoint's.
        shards, held: files with the weights, and the tensors of each.
        spared: whether a tensor of that name may be in the index and in no shard.

    Raises:
        CheckpointError: a tensor is in two shards, or the index and the shards disagree.
    """
    tensors: dict[str, SafetensorsTensor] = {}
    where: dict[str, str] = {}
    for shard, file, own in zip(weights.names, shards, held, strict=True):
        for name, tensor in own.items():
            if name in tensors:
                raise CheckpointError(
                    f"{file.path}: tensor {name} is also in {where[name]}; "
                    "expected each tensor once; remove the shard that does not belong to the checkpoint"
                )
            tensors[name], where[name] = tensor, shard
    if weights.placed is not None:
        placed = {name: shard for name, shard in weights.placed.items() if name in where or not spared(name)}
        _compare(files.directory / weights.index, placed, where)
    return tensors


def _compare(index: Path, placed: Mapping[str, str], where: Mapping[str, str]) -> None:
    for name, shard in placed.items():
        if where.get(name) != shard:
            found = f"which is in {where[name]}" if name in where else "which does not hold it"
            raise CheckpointError(
                f"{index}: tensor {quoted(name)} should be in {shard}, {found}; download the index and the shards again"
            )
    for name, shard in where.items():
        if name not in placed:
            raise CheckpointError(
                f"{index.with_name(shard)}: holds tensor {name}, which {index.name} does not list; "
                "download the index and the shards again"
            )


def first(names: list[str]) -> str:
    """The first names of a list that may be long."""
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
