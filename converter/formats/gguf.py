"""GGUF: the family's tensors in llama.cpp's types."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from gguf import GGML_QUANT_VERSION
from numpy.typing import NDArray

from converter.errors import RecipeError
from converter.formats.gguf_layout import lay_out_files
from converter.formats.layout import Format, Prepared
from converter.gguf.general import general_key_values
from converter.gguf.key_values import KeyValue, string, uint32
from converter.imatrix import ImportanceMatrix, combine, read_imatrix
from converter.plan import Plan, lay_out
from converter.quants import QUANT_TYPES
from converter.recipes import METHODS, ColumnWeights, Method, ModelFacts, choose_types, column_weights, find_method
from converter.recipes import prune as prune_blocks
from converter.recipes.choose import fallbacks
from converter.recipes.fallbacks import fallback_warnings
from converter.request import LOAD_DTYPES
from converter.vocabs.model_names import name_that_loads

if TYPE_CHECKING:
    from converter.architectures import TargetTensor
    from converter.model import OpenModel
    from converter.request import Request


class Gguf(Format):
    """llama.cpp's container."""

    name = "gguf"
    suffix = ".gguf"
    directory = False

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(METHODS)

    def find_method(self, name: str) -> str:
        return find_method(name).name

    def prepare(self, model: OpenModel, request: Request) -> Prepared:
        planned = (prepare_checkpoint if model.header is None else prepare_gguf)(model, request)
        assert request.output is not None
        stem = Path(request.output).name.removesuffix(self.suffix)
        limits = request.split_max_size, request.split_max_tensors
        layout = lay_out_files(planned.plan, planned.arch, stem, *limits)
        return Prepared(layout, planned.importance, (*planned.warnings, *oversized(layout.plan, limits[0])))


@dataclass(frozen=True)
class Planned:
    """A plan of one file.

    Attributes:
        plan: its key-values and tensors.
        arch: ``general.architecture``.
        importance: weights of columns by target tensor.
        warnings: what the user should know, one sentence each.
    """

    plan: Plan
    arch: str
    importance: Mapping[str, NDArray[np.float32]]
    warnings: tuple[str, ...] = ()


def oversized(plan: Plan, max_size: int | None) -> list[str]:
    """A sentence where tensors exceed the size of a part on their own."""
    larger = [planned for planned in plan.tensors if max_size and planned.nbytes > max_size]
    if not larger:
        return []
    largest = max(larger, key=lambda planned: planned.nbytes)
    return [
        f"{len(larger)} of {len(plan.tensors)} tensors are larger than a part may be and have one of their own; "
        f"{largest.target.name} has {largest.nbytes / 1e6:,.1f} MB"
    ]


def prepare_checkpoint(model: OpenModel, request: Request) -> Planned:
    """Lay a checkpoint out: its family's tensors and key-values, its vocabulary, proved.

    Raises:
        ConversionError: one line that says what is wrong.
    """
    family, overrides, method = model.family, request.overrides, find_method(request.method)
    own = family.key_values()
    targets = model.targets
    facts = ModelFacts.of(family.arch, overrides.apply_to(own))
    chosen = choose(method, targets, own, facts, request)
    shapes = {target.name: target.shape for target in chosen.targets}
    general = general_key_values(model.path, model.name, family.arch, shapes, method.file_type)
    name = next((pair.value for pair in general if pair.key == "general.name"), "")
    name, renamed = name_that_loads(name, lambda: model.vocabulary(request.pre, name, prove=False)[0].tokens)
    general = [string(pair.key, name) if pair.key == "general.name" else pair for pair in general]
    vocabulary, warnings = model.vocabulary(request.pre, name, prove=request.verify != "none")
    metadata = overrides.apply_to([*general, *chosen.own, *vocabulary.key_values()])
    plan = chosen.plan(metadata, model, LOAD_DTYPES[request.torch_dtype])
    notices = (
        *model.checkpoint.notices,
        *family.warnings(),
        *warnings,
        *filter(None, [renamed]),
        *chosen.weights.warnings,
        *fallback_warnings(method, chosen.targets, chosen.types, chosen.fallen),
    )
    return Planned(plan, family.arch, chosen.weights.by_tensor, notices)


def prepare_gguf(model: OpenModel, request: Request) -> Planned:
    """The same for a GGUF source, whose names, key-values and vocabulary stay as they are.

    Raises:
        RecipeError: a tensor is quantized already and requantizing was not allowed; it is named.
    """
    from converter.architectures import Piece, TargetTensor

    assert model.header is not None
    header, tensors = model.header, model.checkpoint.tensors
    method, overrides = find_method(request.method), request.overrides
    arch = header.value("general.architecture")
    own = [pair for pair in header.metadata if pair.key != "general.architecture"]
    targets = [TargetTensor(name, tensor.shape, (Piece(name),)) for name, tensor in tensors.items()]
    facts = ModelFacts.of(arch, overrides.apply_to(own))
    stored = {name: tensor.dtype for name, tensor in tensors.items()}
    chosen = choose(method, targets, own, facts, request, stored)
    for target, kind in zip(chosen.targets, chosen.types, strict=True):
        was = tensors[target.pieces[0].source].dtype
        if kind != was and QUANT_TYPES[was].block_size > 1 and not request.allow_requantize:
            raise RecipeError(
                f"{model.path}: {target.name} is quantized already ({was}); quantizing it again to {kind} loses more "
                "than starting from the original weights; pass --allow-requantize to do it anyway"
            )
    general = [
        uint32("general.file_type", method.file_type),
        uint32("general.quantization_version", GGML_QUANT_VERSION),
    ]
    renewed = {pair.key for pair in general}
    metadata = overrides.apply_to([*(pair for pair in chosen.own if pair.key not in renewed), *general])
    plan = chosen.plan(metadata, model)
    notices = (*chosen.weights.warnings, *fallback_warnings(method, chosen.targets, chosen.types, chosen.fallen))
    return Planned(plan, arch, chosen.weights.by_tensor, notices)


@dataclass(frozen=True)
class Choice:
    """Tensors with their types and weights, blocks pruned.

    Attributes:
        targets: the tensors that stay.
        own: the family's key-values.
        types: type of each tensor.
        fallen: by tensor, the type that it would have if that type's blocks divided its rows.
        weights: importance of columns.
    """

    targets: list[TargetTensor]
    own: list[KeyValue]
    types: list[str]
    fallen: Mapping[str, str]
    weights: ColumnWeights

    def plan(self, metadata: Sequence[KeyValue], model: OpenModel, load_dtype: str | None = None) -> Plan:
        return lay_out(
            metadata, self.targets, self.types, model.identity, load_dtype, digest_of(self.weights.by_tensor)
        )


def choose(
    method: Method,
    targets: list[TargetTensor],
    own: list[KeyValue],
    facts: ModelFacts,
    request: Request,
    stored: Mapping[str, str] = MappingProxyType({}),
) -> Choice:
    """Leave out pruned blocks, then choose each tensor's type and importance weights."""
    originals: dict[str, str] = {}
    overrides = request.overrides
    if overrides.prune_layers:
        targets, own, originals = prune_blocks(targets, own, facts.arch, overrides.prune_layers)
    matrix = read_importance([Path(path) for path in request.imatrix])
    kept = {target.name: stored[target.pieces[0].source] for target in targets if stored}
    weighed = matrix is not None
    types = choose_types(method, targets, facts, overrides, importance=weighed, stored=kept)
    fallen = fallbacks(method, targets, facts, overrides, importance=weighed, stored=kept)
    return Choice(targets, own, types, fallen, column_weights(method, targets, types, matrix, overrides, originals))


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
