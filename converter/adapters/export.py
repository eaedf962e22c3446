"""An adapter as a GGUF of its own, which llama.cpp adds to its base while it runs.

Layout, as ``llama-adapter.cpp`` of llama.cpp reads it: ``general.type`` is ``adapter``, ``adapter.type`` is ``lora``,
``general.architecture`` the base's. For a tensor X of the base there are ``X.lora_a`` (r, in) and ``X.lora_b``
(out, r); of experts (experts, r, in) and (experts, out, r); of the token embedding the other way round, (tokens, r)
and (columns, r). The product counts ``adapter.lora.alpha`` / r, so any other scale goes into B.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import gguf
import numpy as np

from converter.adapters.files import Adapter, open_adapter
from converter.adapters.lora_matrices import products
from converter.adapters.merge import OUTPUT, Merging, check_base, same_values
from converter.adapters.steps import LowRank, Matrix
from converter.architectures import TargetTensor, find_family
from converter.checkpoints import Checkpoint
from converter.errors import ArchitectureError, CheckpointError, OutputError, UsageError
from converter.outputs import check_output, make_parents
from converter.quants import QUANT_TYPES
from converter.sources.source_file import SourceFile

#: Types of an adapter's tensors, and llama.cpp's numbers of files of them.
TYPES: Mapping[str, gguf.LlamaFileType] = {
    "f32": gguf.LlamaFileType.ALL_F32,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "bf16": gguf.LlamaFileType.MOSTLY_BF16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
}
#: Type of a matrix whose rows do not fill whole blocks.
UNBLOCKED = "f16"
EMBEDDING = "token_embd.weight"


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        output: the file.
        nbytes: its size.
        adapted: how many of the base's tensors it changes.
        arch: architecture of the base.
    """

    output: Path
    nbytes: int
    adapted: int
    arch: str


def export_adapter(
    directory: Path,
    base: Checkpoint,
    output: Path,
    kind: str = "f32",
    *,
    name: str | None = None,
    overwrite: bool = False,
    elsewhere: Mapping[str, SourceFile] = MappingProxyType({}),
    progress: Callable[[str], None] | None = None,
) -> Exported:
    """Write a PEFT adapter as a GGUF that llama.cpp loads with the GGUF of its base. Its matrices are held in memory.

    Args:
        directory: the adapter's directory.
        base: the checkpoint that it was trained on; only headers are read.
        output: the file to write; it gets this name when it is complete.
        kind: type of the tensors, one of ``TYPES``. Rows that do not fill blocks are float16 in a ``q8_0`` file.
        name: what the adapter is called; by default as its directory.
        overwrite: replace an existing output.
        elsewhere: files of the adapter that do not lie in its directory, by name.
        progress: told of each tensor.

    Raises:
        CheckpointError: the adapter is damaged or does not fit the base.
        ArchitectureError: it holds what such a file cannot say.
        OutputError: the file cannot be written.
        UsageError: there is no such type.
    """
    if kind not in TYPES:
        raise UsageError(f"type {kind!r} does not exist; choose {', '.join(TYPES)}")
    check_output(output, overwrite=overwrite)
    adapter = open_adapter(directory, elsewhere)
    check_base(adapter, base)
    family = find_family(base.config, base.tensors)(base.config, base.tensors)
    steps = low_rank_steps(adapter, base)
    targets = [target for target in family.tensors() if any(piece.source in steps for piece in target.pieces)]
    for tensor in sorted(steps.keys() - {piece.source for target in targets for piece in target.pieces}):
        if not family.leaves_out(tensor):
            raise ArchitectureError(f"{directory}: adapts {tensor}, which is in no GGUF of its base")
        logging.getLogger(__name__).warning("%s: %s is in no GGUF of its base and left out", directory, tensor)
    writer = described(adapter, name or directory.resolve().name, base, family.arch, kind)
    for target in targets:
        if progress is not None:
            progress(target.name)
        for title, matrix in pair_of(target, base, steps, adapter.config.alpha):
            add(writer, title, matrix, kind, adapter)
    make_parents(output)
    unfinished = output.with_name(f"{output.name}.part")
    try:
        writer.write_header_to_file(unfinished)
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(output)
    except OSError as error:
        raise OutputError(f"{output}: cannot be written: {error.strerror}; choose another --output") from error
    finally:
        unfinished.unlink(missing_ok=True)
        for source in adapter.opened:
            source.close()
    return Exported(output, output.stat().st_size, len(targets), family.arch)


def low_rank_steps(adapter: Adapter, base: Checkpoint) -> dict[str, list[LowRank]]:
    """The products of an adapter by tensor of the base.

    Raises:
        ArchitectureError: it holds anything else.
    """

    def refused(name: str, what: str) -> ArchitectureError:
        return ArchitectureError(
            f"{adapter.directory}: {what} {name}, which an adapter of llama.cpp cannot say; merge it instead: convert "
            f"--adapter {adapter.directory}"
        )

    merging = Merging(base)
    merging.add(adapter)
    steps: dict[str, list[LowRank]] = {}
    tied = () if merging.embedding is None else (merging.embedding, OUTPUT)
    for name, change in merging.changes.items():
        found = [step for step in change.steps if isinstance(step, LowRank)]
        if found and name in tied:
            raise refused(name, "changes only one of the embedding and the output matrix that the base ties:")
        if change.by is not None and not (name in base.tensors and same_values(change.original, base.tensors[name])):
            raise refused(name, "replaces")
        if len(found) < len(change.steps):
            raise refused(name, "does more than adding a product of two matrices (DoRA, biases, tokens) to")
        if found:
            steps[name] = found
    if not steps:
        raise CheckpointError(f"{adapter.directory}: holds no product of two matrices; nothing to write")
    return steps


def described(adapter: Adapter, name: str, base: Checkpoint, arch: str, kind: str) -> gguf.GGUFWriter:
    """A file with the adapter's key-values."""
    writer = gguf.GGUFWriter(path=None, arch=arch)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_name(name)
    writer.add_base_model_count(1)
    writer.add_base_model_name(0, adapter.config.base.rpartition("/")[2] or base.directory.resolve().name)
    writer.add_file_type(TYPES[kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, adapter.config.alpha)
    if adapter.config.invocation_tokens:
        tokens = list(adapter.config.invocation_tokens)
        writer.add_key_value(
            gguf.Keys.Adapter.ALORA_INVOCATION_TOKENS, tokens, gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.UINT32
        )
    return writer


def add(writer: gguf.GGUFWriter, name: str, matrix: Matrix, kind: str, adapter: Adapter) -> None:
    """Add a matrix, or one for each expert, in a type."""
    if not np.isfinite(matrix).all():
        raise CheckpointError(f"{adapter.directory}: {name} holds NaN or infinity; the adapter is damaged")
    chosen = QUANT_TYPES[kind if matrix.shape[-1] % QUANT_TYPES[kind].block_size == 0 else UNBLOCKED]
    encoded = chosen.quantize(np.ascontiguousarray(matrix.reshape(-1, matrix.shape[-1])))
    if chosen.overflowed(encoded):
        raise CheckpointError(f"{adapter.directory}: {name} exceeds the range of {chosen.name}; use --type f32")
    raw = gguf.GGMLQuantizationType(chosen.ggml_type)
    writer.add_tensor(name, encoded.reshape(*matrix.shape[:-1], -1), raw_dtype=raw)


def pair_of(
    target: TargetTensor, base: Checkpoint, steps: Mapping[str, Sequence[LowRank]], alpha: float
) -> list[tuple[str, Matrix]]:
    """Both matrices of a target by their names in the file."""
    a, b = products(target, base.tensors, steps, alpha)
    if target.name == EMBEDDING:
        a, b = b, np.ascontiguousarray(a.T)
    return [(f"{target.name}.lora_a", a), (f"{target.name}.lora_b", b)]
