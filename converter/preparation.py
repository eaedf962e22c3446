"""Everything decided before the first weight is read: family, vocabulary, types, weights of columns, the plan."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from converter.architectures import check_all_used, find_family
from converter.checkpoints import Checkpoint, open_checkpoint
from converter.imatrix import ImportanceMatrix, combine, read_imatrix
from converter.model_card import general_key_values
from converter.plan import Plan, lay_out
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
) -> Prepared:
    """Open the checkpoint, find its family, read and prove the vocabulary, choose types, lay the file out.

    Args:
        source: the checkpoint's directory.
        tokenizer: directory of the tokenizer's files.
        method: what the user asked for.
        overrides: what the user decides instead.
        imatrix: files of importance matrices, added up.
        pre: the pre-tokenizer that the user insists on.
        prove: prove the vocabulary.
        torch_dtype: a key of ``LOAD_DTYPES``.

    Raises:
        ConversionError: one line that says what is wrong.
    """
    checkpoint = open_checkpoint(source)
    family = find_family(checkpoint.config)(checkpoint.config, checkpoint.tensors)
    own = family.key_values()
    targets = list(family.tensors())
    check_all_used(family, targets)
    warnings = family.warnings()
    vocabulary = vocabulary_of(tokenizer, family.vocab_size, pre, prove=prove, warnings=warnings)
    facts = ModelFacts.of(family.arch, overrides.apply_to(own))
    originals: dict[str, str] = {}
    if overrides.prune_layers:
        targets, own, originals = prune_blocks(targets, own, family.arch, overrides.prune_layers)
    matrix = read_importance(imatrix)
    types = choose_types(method, targets, facts, overrides, importance=matrix is not None)
    weights = column_weights(method, targets, types, matrix, overrides, originals)
    metadata = [
        *general_key_values(source, family.arch, targets, method.file_type),
        *own,
        *vocabulary.key_values(),
    ]
    plan = lay_out(
        overrides.apply_to(metadata),
        targets,
        types,
        [(str(identity.path), identity.size, identity.mtime_ns) for identity in checkpoint.files],
        LOAD_DTYPES[torch_dtype],
        digest_of(weights),
    )
    return Prepared(checkpoint, family.arch, plan, weights, warnings)


def vocabulary_of(tokenizer: Path, vocab_size: int, pre: str | None, *, prove: bool, warnings: list[str]) -> Vocabulary:
    """The vocabulary, proved if asked for; adds to the warnings what the user should know."""
    vocabulary = read_vocabulary(tokenizer, vocab_size, pre=pre)
    if vocabulary.dropped:
        warnings.append(f"added tokens without a row in the embedding are left out: {', '.join(vocabulary.dropped)}")
    if not prove:
        return vocabulary
    proof = prove_vocabulary(vocabulary, tokenizer)
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
