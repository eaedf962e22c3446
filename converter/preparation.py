"""Everything decided before the first weight is read: family, vocabulary, types, weights of columns, the plan."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from gguf import GGML_QUANT_VERSION
from numpy.typing import NDArray

from converter.architectures import Piece, TargetTensor, check_all_used, find_family
from converter.checkpoints import Checkpoint, open_checkpoint
from converter.checkpoints.gguf import open_gguf
from converter.checkpoints.gguf_header import is_gguf
from converter.errors import RecipeError
from converter.imatrix import ImportanceMatrix, combine, read_imatrix
from converter.metadata import KeyValue, uint32
from converter.model_card import general_key_values
from converter.plan import Plan, lay_out
from converter.quants import QUANT_TYPES
from converter.recipes import Method, ModelFacts, Overrides, choose_types, column_weights
from converter.recipes import prune as prune_blocks
from converter.vocabs import Vocabulary, read_vocabulary
from converter.vocabs import prove as prove_vocabulary

#: What ``torch_dtype`` may say, and the type that the source's weights are rounded to first.
LOAD_DTYPES: Mapping[str, str | None] = {"auto": None, "float32": None, "float16": "f16", "bfloat16": "bf16"}


@dataclass(frozen=True)
class Prepared:
    """A conversion that only has to be run.

    Attributes:
        checkpoint: the open source.
        arch: ``general.architecture``.
        plan: what the file will hold.
        importance: weights of columns by target tensor.
        warnings: what the user should know, one sentence each.
    """

    checkpoint: Checkpoint
    arch: str
    plan: Plan
    importance: Mapping[str, NDArray[np.float32]]
    warnings: list[str]


def prepare(
    source: Path,
    tokenizer: Path,
    method: Method,
    overrides: Overrides,
    imatrix: Sequence[Path],
    *,
    pre: str | None,
    prove: bool,
    torch_dtype: str,
    allow_requantize: bool = False,
) -> Prepared:
    """Open the checkpoint, find its family, read and prove the vocabulary, choose types, lay the file out.

    Args:
        source: the checkpoint's directory, or a GGUF file.
        tokenizer: directory of the tokenizer's files.
        method: what the user asked for.
        overrides: what the user decides instead.
        imatrix: files of importance matrices, added up.
        pre: the pre-tokenizer that the user insists on.
        prove: prove the vocabulary.
        torch_dtype: a key of ``LOAD_DTYPES``.
        allow_requantize: quantize what a GGUF source holds quantized already.

    Raises:
        ConversionError: one line that says what is wrong.
    """
    if source.is_file() and is_gguf(source):
        return prepare_gguf(source, method, overrides, imatrix, allow_requantize=allow_requantize)
    checkpoint = open_checkpoint(source)
    family = find_family(checkpoint.config)(checkpoint.config, checkpoint.tensors)
    own = family.key_values()
    targets = list(family.tensors())
    check_all_used(family, targets)
    warnings = family.warnings()
    facts = ModelFacts.of(family.arch, overrides.apply_to(own))
    chosen = choose(method, targets, own, facts, overrides, imatrix)
    general = general_key_values(source, family.arch, chosen.targets, method.file_type)
    # llama.cpp tokenizes a few models differently by their name alone.
    name = next((pair.value for pair in general if pair.key == "general.name"), "")
    vocabulary = vocabulary_of(tokenizer, family.vocab_size, pre, name, prove=prove, warnings=warnings)
    metadata = [*general, *chosen.own, *vocabulary.key_values()]
    plan = chosen.plan(overrides.apply_to(metadata), checkpoint, LOAD_DTYPES[torch_dtype])
    return Prepared(checkpoint, family.arch, plan, chosen.weights, warnings)


def prepare_gguf(
    source: Path, method: Method, overrides: Overrides, imatrix: Sequence[Path], *, allow_requantize: bool
) -> Prepared:
    """The same for a GGUF file, whose names, key-values and vocabulary stay as they are.

    Raises:
        RecipeError: a tensor is quantized already and requantizing was not allowed; it is named.
    """
    header, tensors, file = open_gguf(source)
    nbytes = sum(tensor.nbytes for tensor in tensors.values())
    checkpoint = Checkpoint(source, {}, tensors, (file.identity,), nbytes, (file,))
    arch = header.value("general.architecture")
    own = [pair for pair in header.metadata if pair.key != "general.architecture"]
    targets = [TargetTensor(name, tensor.shape, (Piece(name),)) for name, tensor in tensors.items()]
    facts = ModelFacts.of(arch, overrides.apply_to(own))
    stored = {name: tensor.dtype for name, tensor in tensors.items()}
    chosen = choose(method, targets, own, facts, overrides, imatrix, stored)
    for target, kind in zip(chosen.targets, chosen.types, strict=True):
        was = tensors[target.pieces[0].source].dtype
        if kind != was and QUANT_TYPES[was].block_size > 1 and not allow_requantize:
            raise RecipeError(
                f"{source}: {target.name} is quantized already ({was}); quantizing it again to {kind} loses more than "
                "starting from the original weights; pass --allow-requantize to do it all the same"
            )
    general = [
        uint32("general.file_type", method.file_type),
        uint32("general.quantization_version", GGML_QUANT_VERSION),
    ]
    renewed = {pair.key for pair in general}
    metadata = [*(pair for pair in chosen.own if pair.key not in renewed), *general]
    return Prepared(checkpoint, arch, chosen.plan(overrides.apply_to(metadata), checkpoint), chosen.weights, [])


@dataclass(frozen=True)
class Choice:
    """Tensors with their types and weights, blocks pruned.

    Attributes:
        targets: the tensors that stay.
        own: the family's key-values.
        types: type of each tensor.
        weights: importance of columns by tensor name.
    """

    targets: list[TargetTensor]
    own: list[KeyValue]
    types: list[str]
    weights: dict[str, NDArray[np.float32]]

    def plan(self, metadata: Sequence[KeyValue], checkpoint: Checkpoint, load_dtype: str | None = None) -> Plan:
        files = [(str(identity.path), identity.size, identity.mtime_ns) for identity in checkpoint.files]
        return lay_out(metadata, self.targets, self.types, files, load_dtype, digest_of(self.weights))


def choose(
    method: Method,
    targets: list[TargetTensor],
    own: list[KeyValue],
    facts: ModelFacts,
    overrides: Overrides,
    imatrix: Sequence[Path],
    stored: Mapping[str, str] = MappingProxyType({}),
) -> Choice:
    """Leave out pruned blocks, then choose each tensor's type and importance weights."""
    originals: dict[str, str] = {}
    if overrides.prune_layers:
        targets, own, originals = prune_blocks(targets, own, facts.arch, overrides.prune_layers)
    matrix = read_importance(imatrix)
    kept = {target.name: stored[target.pieces[0].source] for target in targets if stored}
    types = choose_types(method, targets, facts, overrides, importance=matrix is not None, stored=kept)
    return Choice(targets, own, types, column_weights(method, targets, types, matrix, overrides, originals))


def vocabulary_of(
    tokenizer: Path, vocab_size: int, pre: str | None, name: str, *, prove: bool, warnings: list[str]
) -> Vocabulary:
    """The vocabulary, proved if asked for; adds to the warnings what the user should know."""
    vocabulary = read_vocabulary(tokenizer, vocab_size, pre=pre)
    if vocabulary.dropped:
        warnings.append(f"added tokens without a row in the embedding are left out: {', '.join(vocabulary.dropped)}")
    if not prove:
        return vocabulary
    proof = prove_vocabulary(vocabulary, tokenizer, name=name)
    warnings.extend(proof.limits)
    if not proof.agreeing:
        warnings.append(f"--pre {pre} overrides the tokenizer's proof: {proof.difference}")
    return proof.vocabulary


def read_importance(paths: Sequence[Path]) -> ImportanceMatrix | None:
    """The importance matrices of these files, added up; None without files."""
    matrices = [read_imatrix(path) for path in paths]
    return combine(matrices) if len(matrices) > 1 else matrices[0] if matrices else None


def digest_of(weights: Mapping[str, NDArray[np.float32]]) -> str | None:
    """SHA-256 of importance weights; None without any."""
    if not weights:
        return None
    digest = hashlib.sha256()
    for name, values in sorted(weights.items()):
        digest.update(name.encode() + b"\0" + values.tobytes())
    return digest.hexdigest()
