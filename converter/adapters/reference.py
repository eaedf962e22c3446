"""The base with its adapters as PEFT runs it, for comparing what was merged with what was trained.

PEFT doesn't know MLX's adapters: what those do is computed here with PyTorch, as ``fuse`` of mlx-lm does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from converter.adapters.files import open_adapter
from converter.adapters.merge import is_embedding
from converter.adapters.mlx import WEIGHTS, is_mlx
from converter.checkpoints.directory import ADAPTER_CONFIG
from converter.sources.source_file import SourceFile, read_json_object


def with_adapters(model: Any, directories: Sequence[str], *, merged: bool = False) -> Any:
    """A model of transformers with PEFT's adapters in its modules, all of them active.

    Args:
        model: the base, in float32.
        directories: the adapters' directories, in the order of merging.
        merged: let PEFT merge them; by default they stay beside the base's weights.

    Raises:
        ImportError: PEFT is not installed.
        ValueError: adapters of MLX before or after those of PEFT.
        Exception: whatever PEFT raises of adapters that do not fit.
    """
    of_mlx = [is_mlx(read_json_object(SourceFile(Path(directory) / ADAPTER_CONFIG))) for directory in directories]
    if all(of_mlx):
        for directory in directories:
            _fuse(model, Path(directory))
        return model.eval()
    if any(of_mlx):
        raise ValueError("adapters of MLX and of PEFT are not run together")

    from peft import PeftModel

    rows = max(map(vocabulary_rows, directories), default=0)
    if rows > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(rows)
    names = [f"adapter{number}" for number in range(len(directories))]
    adapted: Any = PeftModel.from_pretrained(model, directories[0], adapter_name=names[0])
    for name, directory in list(zip(names, directories, strict=True))[1:]:
        adapted.load_adapter(directory, name)
    adapted.base_model.set_adapter(names)
    return adapted.merge_and_unload() if merged else adapted.get_base_model().eval()


def vocabulary_rows(directory: str) -> int:
    """Rows of the embedding that an adapter brings along; 0 where it brings none."""
    adapter = open_adapter(Path(directory))
    for file in adapter.opened:
        file.close()
    embeddings = {**adapter.replaced, **adapter.bases}
    return max((tensor.rows for name, tensor in embeddings.items() if is_embedding(name)), default=0)


def _fuse(model: Any, directory: Path) -> None:
    """Change a model's weights as an adapter of MLX does."""
    import torch
    from safetensors.torch import load_file

    scale = open_adapter(directory).config.scale("")
    tensors = {name: tensor.float() for name, tensor in load_file(directory / WEIGHTS).items()}
    with torch.no_grad():
        for name, tensor in tensors.items():
            module, _, part = name.rpartition(".")
            if part == "lora_a":
                weight = model.get_parameter(f"{module}.weight")
                product = scale * (tensor @ tensors[f"{module}.lora_b"])
                weight += product if product.shape == weight.shape and is_embedding(module) else product.T
                if f"{module}.m" in tensors:
                    weight *= (tensors[f"{module}.m"] / torch.linalg.norm(weight, dim=1))[:, None]
            elif part not in ("lora_b", "m"):
                model.get_parameter(name).copy_(tensor)
