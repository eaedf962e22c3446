"""Adapters of MLX: what they store and what their configuration says, told as PEFT would.

    X.lora_a (in, r), X.lora_b (r, out)      W + scale * (lora_a lora_b)^T
    X.m (out,)                               DoRA: then each row is scaled to the length m

Of an embedding, ``lora_a`` is (rows, r) and ``lora_b`` (r, columns); of experts both have three dimensions.
``fine_tune_type: full`` saves whole tensors. https://github.com/ml-explore/mlx-lm, ``tuner/lora.py`` and ``dora.py``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converter.adapters.base_tensors import EMBEDDINGS
from converter.adapters.config import LoraConfig
from converter.checkpoints.safetensors import SafetensorsTensor
from converter.checkpoints.strided import StridedTensor
from converter.checkpoints.tensor import SourceTensor
from converter.errors import CheckpointError
from converter.sources.source_file import quoted

WEIGHTS = "adapters.safetensors"
KINDS = ("lora", "dora", "full")

_PART = re.compile(r"(.+)\.(lora_a|lora_b|m)")

Modules = dict[str, dict[str, SourceTensor]]


def is_mlx(fields: Mapping[str, Any]) -> bool:
    """Whether the fields of an ``adapter_config.json`` are those of MLX."""
    return "peft_type" not in fields and not fields.keys().isdisjoint(("fine_tune_type", "lora_parameters"))


def parse_mlx_config(path: Path, fields: Mapping[str, Any]) -> LoraConfig:
    """Check the fields of an ``adapter_config.json`` of MLX.

    Raises:
        CheckpointError: a malformed field; the message says which.
    """
    kind = fields.get("fine_tune_type", "lora")
    if kind not in KINDS:
        raise CheckpointError(f"{path}: 'fine_tune_type' is {quoted(kind)}, one of {', '.join(KINDS)} expected")
    parameters = fields.get("lora_parameters")
    if kind == "full":
        parameters = {"rank": 1, "scale": 1.0}  # of no product
    if not isinstance(parameters, dict):
        raise CheckpointError(
            f"{path}: 'lora_parameters' is {quoted(parameters)}, an object with rank and scale expected"
        )
    rank, scale = parameters.get("rank"), _number(path, parameters, "scale")
    if type(rank) is not int or not 0 < rank < 2**31:
        raise CheckpointError(f"{path}: 'rank' in lora_parameters is {quoted(rank)}, a positive number expected")
    if "lora_layers" in fields and "alpha" in parameters:  # as long as the field had that name, alpha counted too
        scale *= _number(path, parameters, "alpha") / rank
    model = fields.get("model")
    return LoraConfig(
        path=path,
        r=rank,
        alpha=scale * rank,
        rank_pattern={},
        alpha_pattern={},
        rslora=False,
        conv1d=False,
        tied=True,  # an embedding and the output that is tied to it are one module
        token_indices=None,
        base=model if isinstance(model, str) else "",
        invocation_tokens=(),
    )


def _number(path: Path, parameters: Mapping[str, Any], name: str) -> float:
    value = parameters.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 2**31:
        raise CheckpointError(f"{path}: {name!r} in lora_parameters is {quoted(value)}, a positive number expected")
    return float(value)


def mlx_parts(tensors: Mapping[str, SafetensorsTensor]) -> tuple[Modules, dict[str, SourceTensor]]:
    """An adapter's tensors as PEFT would have them: by module, and those that replace the base's.

    Raises:
        CheckpointError: experts' matrices, or an embedding's DoRA, which is another than PEFT's.
    """
    modules: Modules = {}
    replaced: dict[str, SourceTensor] = {}
    for name, tensor in tensors.items():
        match = _PART.fullmatch(name)
        if match is None:
            replaced[name] = tensor
            continue
        module, part = match.groups()
        embedding = module.rpartition(".")[2] in EMBEDDINGS
        if part == "m":
            if embedding:
                raise _fuse(tensor, "is of an embedding that was adapted by DoRA")
            modules.setdefault(module, {})["lora_magnitude_vector"] = tensor
            continue
        if len(tensor.shape) != 2:
            raise _fuse(tensor, f"is of shape {list(tensor.shape)}, of several experts,")
        side = part[-1].upper()
        modules.setdefault(module, {})[f"lora_embedding_{side}" if embedding else f"lora_{side}.weight"] = turned(
            tensor
        )
    return modules, replaced


def _fuse(tensor: SafetensorsTensor, what: str) -> CheckpointError:
    return CheckpointError(
        f"{tensor.file.path}: {tensor.name} {what} which is not merged; merge the adapter with MLX (mlx_lm.fuse)"
    )


def turned(tensor: SafetensorsTensor) -> StridedTensor:
    """A matrix seen with its columns as rows."""
    rows, columns = tensor.shape
    return StridedTensor(tensor.name, tensor.dtype, (columns, rows), tensor.file, tensor.offset, (1, columns))
