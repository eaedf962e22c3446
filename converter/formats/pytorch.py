"""Directories of PyTorch's files that transformers loads: the checkpoint's own tensors under their own names.

Plain methods write ordinary tensors. Quantized ones write tensors of torchao, int8 with a scale for each 32, which
``torch.load(weights_only=True)`` reads wherever torchao is imported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from converter.formats.layout import Layout
from converter.formats.model_directory import ModelDirectory
from converter.formats.pytorch_archive import reserve, seal, sealed
from converter.formats.safetensors import Safetensors
from converter.formats.torchao import SCHEMES, fitting

if TYPE_CHECKING:
    from converter.checkpoints.tensor import SourceTensor
    from converter.formats.safetensors_modules import LinearModules
    from converter.model import OpenModel
    from converter.plan import Plan, Positions

INDEX = "pytorch_model.bin.index.json"


@dataclass(frozen=True)
class PyTorchLayout(Layout):
    """A directory of one file, or of several and their index.

    Attributes:
        directory: everything else in it.
        dtype: torch's name of the model's type.
    """

    directory: ModelDirectory | None = None
    dtype: str = ""

    def write_headers(self, paths: Sequence[Path]) -> Positions:
        folder = paths[0].parent
        assert self.directory is not None
        self.directory.write(folder)
        if len(self.names) > 1:
            places = {one.target.name: self.names[one.file] for one in self.plan.tensors}
            index = {"metadata": {"total_size": self.plan.data_bytes}, "weight_map": places}
            (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        return reserve(paths, self.plan.tensors, self.dtype)

    def sealed(self, paths: Sequence[Path]) -> Sequence[Sequence[tuple[int, int]]]:
        return [sealed(path) for path in paths]

    def seal(self, paths: Sequence[Path]) -> None:
        for path in paths:
            seal(path)


class PyTorch(Safetensors):
    """What ``torch.save`` writes, otherwise as a directory of safetensors."""

    name = "pytorch"
    suffix = "-pytorch"
    schemes = SCHEMES

    def linear_modules(
        self, model: OpenModel, tensors: Mapping[str, SourceTensor], *, trust_remote_code: bool
    ) -> LinearModules:
        modules = super().linear_modules(model, tensors, trust_remote_code=trust_remote_code)
        return fitting(modules, model.checkpoint.config.get("model_type", ""))

    def lay_out(self, plan: Plan, names: Sequence[str], directory: ModelDirectory, dtype: str) -> Layout:
        files = tuple(f"pytorch_{Path(name).stem}.bin" for name in names)
        return PyTorchLayout(plan, files, gathered=True, directory=directory, dtype=dtype)
