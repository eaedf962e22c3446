"""A checkpoint directory, opened: its configuration, and all its tensors under one roof."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

from converter.checkpoints.consolidated import PARAMETERS, open_original
from converter.checkpoints.files import CONFIG, EXPECTED, PIPELINE, Files
from converter.checkpoints.foreign import refuse_foreign
from converter.checkpoints.mlx_experts import unstacked
from converter.checkpoints.names import belongs_to_no_model, recognized, without_wrappers
from converter.checkpoints.quantized import dequantized
from converter.checkpoints.shards import find_weights, read_all, union
from converter.checkpoints.tensor import SourceTensor
from converter.checkpoints.tied import may_be_tied, without_tied_head
from converter.errors import CheckpointError
from converter.sources.other_formats import explained_files
from converter.sources.source_file import FileIdentity, SourceFile, read_json_object

ADAPTER_CONFIG = "adapter_config.json"
"""What tells that a directory holds an adapter."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint ready to be read. Use as a context manager, or call :meth:`close` after the last read.

    Attributes:
        directory: where it lies, as given.
        config: ``config.json``, parsed, or made from ``params.json``.
        tensors: every tensor by name, shard after shard, in the order of the files. Weights that were quantized
            (``quantization_config``) appear under their plain names and are dequantized while they are read; those
            of Meta's and Mistral's own layouts under the names and in the order of rows that transformers uses.
        files: what the configuration's file and each shard were when they were opened.
        nbytes: bytes of all the files' tensors together.
        notices: what the user should know about how they were read, a sentence each.
    """

    directory: Path
    config: dict[str, Any]
    tensors: Mapping[str, SourceTensor]
    files: tuple[FileIdentity, ...]
    nbytes: int
    _shards: tuple[SourceFile, ...] = field(repr=False, compare=False)
    notices: tuple[str, ...] = ()

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


def open_checkpoint(
    directory: Path, elsewhere: Mapping[str, SourceFile] = MappingProxyType({}), *, leave_out: Sequence[str] = ()
) -> Checkpoint:
    """Open a checkpoint: ``config.json`` and safetensors or ``torch.save`` files, single, numbered or in an index.

    Only headers are read, and of quantized weights what tells their shape. Files stay closed until the first tensor
    is read. Of several sets of weights the one that transformers would load counts; Meta's ``consolidated.*.pth`` and
    Mistral's ``consolidated*.safetensors`` count where there is no other.

    Args:
        directory: a local directory; the files in it may be links.
        elsewhere: files that belong to the directory and lie somewhere else, by their names in it. They count before
            files of the same name that are there.
        leave_out: regular expressions of whole names of tensors that the user does without.

    Raises:
        CheckpointError: nothing there, or files that are missing, damaged or contradict each other.
        UsageError: ``leave_out`` names nothing that is there.
    """
    directory = Path(directory)
    files = Files.of(directory, elsewhere)
    if CONFIG not in files.names and PIPELINE in files.names:
        raise CheckpointError(
            f"{directory}: is a diffusion model of several parts ({PIPELINE}), which makes images; only language "
            "models and text encoders are converted, one of which may be its directory text_encoder"
        )
    weights = find_weights(files)
    described = [name for name in (CONFIG, *([PARAMETERS] if weights.original else [])) if name in files.names]
    if not described or (weights.original and PARAMETERS not in described):
        wanted = PARAMETERS if weights.original else CONFIG
        other = explained_files(files.names)
        raise CheckpointError(f"{directory}: has no {wanted}; {other or f'expected {EXPECTED}'}")
    opened = [files.open(name) for name in described]
    settings = {name: read_json_object(file) for name, file in zip(described, opened, strict=True)}
    for file in opened:
        file.close()
    shards, held = read_all(files, weights)
    described_by = settings.get(CONFIG, {})
    ranks = held if weights.ranks else [union(files, weights, shards, held, partial(_spared, described_by))]
    nbytes = sum(tensor.nbytes for rank in ranks for tensor in rank.values())
    config: dict[str, Any]
    tensors: Mapping[str, SourceTensor]
    notices: list[str] = []
    if weights.original:
        config, tensors = open_original(opened[-1].path, settings[PARAMETERS], list(map(without_wrappers, ranks)))
        config = settings.get(CONFIG, config)
    else:
        named, notices = recognized(settings[CONFIG], ranks[0], leave_out)
        config, stored = without_tied_head(settings[CONFIG], named)
        refuse_foreign(stored)
        tensors, found = dequantized(opened[0].path, config, stored, partial(_beside, files))
        tensors = unstacked(tensors)
        notices += found
    if ADAPTER_CONFIG in files.names:
        notices.append(adapter_beside(directory))
    identities = tuple(file.identity for file in (*opened, *shards))
    return Checkpoint(
        directory, config, MappingProxyType(dict(tensors)), identities, nbytes, tuple(shards), tuple(notices)
    )


def adapter_beside(directory: Path) -> str:
    """What is said of a model's directory that holds an adapter, too, which nobody asked to merge."""
    return (
        f"{directory}: {ADAPTER_CONFIG} is of an adapter beside the model, which transformers would load and "
        f"which is not merged; pass --adapter {directory} to merge it, or remove it"
    )


def _spared(config: Mapping[str, Any], name: str) -> bool:
    """Whether a tensor that the index lists may be in no shard, because a model does without it."""
    return may_be_tied(config, name) or belongs_to_no_model(name)


def _beside(files: Files, name: str) -> dict[str, Any] | None:
    """A JSON object in another file of the directory, where it is there."""
    if name not in files.names:
        return None
    file = files.open(name)
    found = read_json_object(file)
    file.close()
    return found
