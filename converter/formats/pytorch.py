"""Directories of PyTorch's files that transformers loads: the checkpoint's own tensors under their own names.

Plain methods write ordinary tensors. Quantized ones write tensors of torchao, int8 with a scale for each 32, which
``torch.load(weights_only=True)`` reads wherever torchao is imported.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter.errors import CheckpointError, RecipeError, UsageError
from converter.formats.layout import Format, Layout, Prepared
from converter.formats.model_directory import ModelDirectory, new_config
from converter.formats.pytorch_archive import reserve, seal
from converter.formats.safetensors import (
    LOAD_DTYPES,
    check_choices,
    check_package,
    chosen,
    left_plain,
    planned,
    taken,
    verify_with_transformers,
)
from converter.formats.safetensors_layout import MAX_SHARD, sharded
from converter.formats.safetensors_modules import linear_modules
from converter.formats.safetensors_scheme import PLAIN, TORCH_DTYPES, Scheme
from converter.formats.torchao import SCHEMES, fitting
from converter.plan import Plan

if TYPE_CHECKING:
    from converter.execution.journal import Positions
    from converter.opening import OpenModel
    from converter.request import Request
    from converter.verification import Verification

METHODS = (*PLAIN, *SCHEMES)
INDEX = "pytorch_model.bin.index.json"

#: The nearest method of this format by the bits that one of GGUF's has in its name.
_NEAREST = {"8": "q8_0", "6": "q8_0", "5": "q5_0"}


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

    def seal(self, paths: Sequence[Path]) -> None:
        for path in paths:
            seal(path)


class PyTorch(Format):
    """What ``torch.save`` writes."""

    name = "pytorch"
    suffix = "-pytorch"
    directory = True

    def find_method(self, name: str) -> str:
        lower = name.lower()
        if lower in METHODS:
            return lower
        bits = re.match(r"\D*(\d)", lower)
        nearest = _NEAREST.get(bits[1] if bits else "", "q4_0")
        raise UsageError(
            f"--format pytorch has no method {name!r}; it has {', '.join(METHODS)}, of which {nearest} is nearest"
        )

    def prepare(self, model: OpenModel, request: Request) -> Prepared:
        """Lay the checkpoint's tensors out as they are named there.

        Raises:
            UsageError: a choice that only a GGUF has.
            RecipeError: no weight can be quantized, or torchao is not installed.
            CheckpointError: the source is a GGUF.
        """
        check_choices(request)
        if model.header is not None:
            raise CheckpointError(
                f"{model.path}: a GGUF lacks the configuration and the names that transformers needs; give the "
                "checkpoint that it was made from"
            )
        method = self.find_method(request.method)
        scheme = SCHEMES.get(method)
        tensors, warnings = taken(model.checkpoint.tensors)
        source, plain = model.checkpoint.config, method
        quantization: dict[str, Any] = {}
        quantized: dict[str, Scheme] = {}
        if scheme is not None:
            check_package(scheme, method, request.verify)
            modules = linear_modules(model.path, source, tensors, trust_remote_code=request.trust_remote_code)
            modules = fitting(modules, source.get("model_type", ""))
            quantized, unquantized = chosen(scheme, modules, tensors)
            if not quantized:
                raise RecipeError(
                    f"{model.path}: {modules.model} has no linear module that {method} fits; use --method bf16, or "
                    "--format gguf"
                )
            quantization["quantization_config"] = scheme.configuration(unquantized)
            plain = scheme.plain_of(source, experts=False)
            warnings += left_plain(tensors, quantized, plain)
        dtype = TORCH_DTYPES[plain]
        config = new_config(source, dtype) | quantization
        groups = [planned(tensor, plain, quantized.get(name)) for name, tensor in tensors.items()]
        every, names = sharded(groups, request.split_max_size or MAX_SHARD)
        directory = ModelDirectory.of(model.path, model.tokenizer, config, code=request.trust_remote_code)
        plan = Plan(directory.identity, every, tuple(model.identity), LOAD_DTYPES[request.torch_dtype])
        files = tuple(f"pytorch_{Path(name).stem}.bin" for name in names)
        layout = PyTorchLayout(plan, files, gathered=True, directory=directory, dtype=dtype)
        return Prepared(layout, warnings=tuple(warnings))

    def verify(
        self, path: Path, model: OpenModel, request: Request, prepared: Prepared, tell: Callable[[str], None]
    ) -> Verification:
        return verify_with_transformers(path, model, request, prepared, tell)
