"""The child's side of :mod:`converter.formats.pytorch_archive`: torch writes files without the tensors' bytes.

The steps are those of https://docs.pytorch.org/tutorials/unstable/gpu_direct_storage.html, for torch 2.7 and later.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any


def save_without_data(archives: list[dict[str, Any]]) -> list[list[list[int]]]:
    """Write files of ``torch.save`` with a hole for each storage.

    Args:
        archives: for each file its ``path`` and its ``tensors``: of each its ``name``, its ``parts`` as pairs of dtype
            and shape, and ``intx``, the further arguments of an ``IntxUnpackedToInt8Tensor`` of those parts, or None
            for a plain tensor of one part.

    Returns:
        For each file and tensor the position of each part in the file.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    answer = []
    for archive in archives:
        with FakeTensorMode():
            state = {one["name"]: _tensor(one["parts"], one["intx"]) for one in archive["tensors"]}
            # An open file, because torch would make a path's name part of the contents.
            with Path(archive["path"]).open("wb") as file, torch.serialization.skip_data(materialize_fake_tensors=True):
                torch.save(state, file)
            read = torch.load(archive["path"], weights_only=True)
        answer.append([_positions(read[one["name"]]) for one in archive["tensors"]])
    return answer


def _tensor(parts: list[tuple[str, list[int]]], intx: dict[str, Any] | None) -> Any:
    import torch

    tensors = [torch.empty(shape, dtype=getattr(torch, dtype)) for dtype, shape in parts]
    if intx is None:
        return tensors[0]
    return import_module("torchao.quantization").IntxUnpackedToInt8Tensor(
        *tensors,
        target_dtype=getattr(torch, intx["target_dtype"]),
        block_size=tuple(intx["block_size"]),
        dtype=getattr(torch, intx["dtype"]),
        activation_quantization=None,
    )


def _positions(tensor: Any) -> list[int]:
    """Where a tensor's storages lie, which torch notes down when it loads them as fake tensors."""
    parts = [getattr(tensor, name) for name in getattr(tensor, "tensor_data_names", ())] or [tensor]
    return [part.untyped_storage()._checkpoint_offset for part in parts]
