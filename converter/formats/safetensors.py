"""Directories of safetensors that transformers loads: the checkpoint's own tensors under their own names.

No family is needed: whatever transformers knows, or brings its own code, can be written plain. Quantized methods ask
transformers which weights belong to linear modules (:mod:`converter.formats.safetensors_modules`).
"""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from converter.architectures.target import Piece, TargetTensor
from converter.checkpoints.floats import STORED_FLOATS
from converter.checkpoints.safetensors import SafetensorsTensor
from converter.checkpoints.tensor import SourceTensor
from converter.errors import CheckpointError, RecipeError, UsageError
from converter.formats import bitsandbytes, compressed_tensors
from converter.formats.layout import Format, Layout, Prepared
from converter.formats.model_directory import ModelDirectory, new_config
from converter.formats.safetensors_layout import MAX_SHARD, SafetensorsLayout, sharded
from converter.formats.safetensors_modules import LinearModules, linear_modules
from converter.formats.safetensors_scheme import PLAIN, TORCH_DTYPES, Scheme
from converter.plan import Plan, PlannedTensor
from converter.recipes.method_names import meant, spelled
from converter.request import LOAD_DTYPES

if TYPE_CHECKING:
    from converter.model import OpenModel
    from converter.request import Request

SCHEMES: Mapping[str, Scheme] = {**compressed_tensors.SCHEMES, **bitsandbytes.SCHEMES}
#: The nearest method of this format by the bits that one of GGUF's has in its name.
_NEAREST = {"8": "q8_0", "6": "q8_0", "5": "q5_0"}

#: A pattern of the modules that hold single experts, for readers that do not merge them.
_EXPERTS = r"re:.*\.experts\."

_GPT_OSS_EXPERTS = re.compile(r"\.experts\.(gate_up|down)_proj\.weight$")

#: A share of the weights from which on it is told that they stay plain.
_WORTH_TELLING = 0.01


class Safetensors(Format):
    """transformers' own container.

    Attributes:
        schemes: the quantized methods.
    """

    name = "safetensors"
    suffix = "-safetensors"
    directory = True
    schemes: ClassVar[Mapping[str, Scheme]] = SCHEMES

    @property
    def methods(self) -> tuple[str, ...]:
        return (*PLAIN, *self.schemes)

    def find_method(self, name: str) -> str:
        lower = spelled(name)
        if lower in self.methods:
            return lower
        if hint := meant(name, self.name, self.methods):
            raise UsageError(f"--format {self.name} has no method {name!r}; {hint}")
        bits = re.match(r"\D*(\d)", lower)
        nearest = _NEAREST.get(bits[1] if bits else "", "q4_0")
        raise UsageError(
            f"--format {self.name} has no method {name!r}; it has {', '.join(self.methods)}, of which {nearest} is "
            "nearest"
        )

    def prepare(self, model: OpenModel, request: Request) -> Prepared:
        """Lay the checkpoint's tensors out as they are named there.

        Raises:
            UsageError: a choice that only a GGUF has.
            RecipeError: no weight can be quantized, or what would verify the output is not installed.
            CheckpointError: the source is a GGUF.
        """
        check_choices(request)
        if model.header is not None:
            raise CheckpointError(
                f"{model.path}: a GGUF lacks the configuration and the names that transformers needs; give the "
                "checkpoint that it was made from"
            )
        method = self.find_method(request.method)
        scheme = self.schemes.get(method)
        tensors, warnings = taken(model.checkpoint.tensors)
        source, plain = model.checkpoint.config, method
        quantized: dict[str, Scheme] = {}
        quantization: dict[str, Any] = {}
        if scheme is not None:
            check_package(scheme, method, request.verify)
            modules = self.linear_modules(model, tensors, trust_remote_code=request.trust_remote_code)
            quantized, ignore = chosen(scheme, modules, tensors)
            if not quantized:
                raise RecipeError(
                    f"{model.path}: {modules.model} has no linear module that {method} fits; use --method bf16, or "
                    "--format gguf"
                )
            single = not quantized.keys().isdisjoint(modules.experts)
            if modules.experts and not single and not scheme.plain_experts:
                fitting = " or ".join(name for name, other in self.schemes.items() if other.experts)
                raise RecipeError(
                    f"{model.path}: {modules.model} has experts, which transformers cannot load as {method}; use "
                    f"--method {fitting} where their rows are multiples of 32, or bf16"
                )
            dense = scheme.dense if modules.dense else {}
            quantization["quantization_config"] = {**scheme.configuration(ignore), **dense}
            plain = scheme.plain_of(source, experts=single)
            warnings += left_plain(tensors, quantized, plain)
        dtype = TORCH_DTYPES[plain]
        config = new_config(source, dtype) | quantization
        groups = [planned(tensor, plain, quantized.get(name)) for name, tensor in tensors.items()]
        every, names = sharded(groups, request.split_max_size or MAX_SHARD)
        directory = ModelDirectory.of(model.path, model.tokenizer, config, code=request.trust_remote_code)
        plan = Plan(directory.identity, every, tuple(model.identity), LOAD_DTYPES[request.torch_dtype])
        return Prepared(self.lay_out(plan, names, directory, dtype), warnings=(*model.checkpoint.notices, *warnings))

    def linear_modules(
        self, model: OpenModel, tensors: Mapping[str, SourceTensor], *, trust_remote_code: bool
    ) -> LinearModules:
        """The linear modules of a model; ArchitectureError where transformers does not know it."""
        return linear_modules(model.path, model.checkpoint.config, tensors, trust_remote_code=trust_remote_code)

    def lay_out(self, plan: Plan, names: Sequence[str], directory: ModelDirectory, dtype: str) -> Layout:
        """The files of a plan.

        Args:
            plan: the tensors.
            names: of the files, as transformers names those of safetensors.
            directory: everything else.
            dtype: torch's name of the type of plain weights.
        """
        return SafetensorsLayout(plan, tuple(names), gathered=True, directory=directory)


def check_choices(request: Request) -> None:
    """Refuse what has a meaning for GGUF only."""
    for named in request.without_meaning():
        raise UsageError(f"{named} has no meaning for --format {request.output_format}; leave it out")


def check_package(scheme: Scheme, method: str, verify: str) -> None:
    """Refuse a verification that would fail for want of a package."""
    module, package = scheme.package
    if verify != "none" and importlib.util.find_spec(module) is None:
        raise RecipeError(
            f"{method}: loading it to verify it needs {module}; run pip install {package}, or pass --verify none"
        )


def taken(tensors: Mapping[str, SourceTensor]) -> tuple[dict[str, SourceTensor], list[str]]:
    """The tensors that hold weights, and a warning about others."""
    left = [
        name
        for name, tensor in tensors.items()
        if (isinstance(tensor, SafetensorsTensor) and tensor.dtype not in STORED_FLOATS) or not math.prod(tensor.shape)
    ]
    warning = f"{len(left)} tensors of whole numbers or of nothing, such as {left[0]}, are left out" if left else ""
    return {name: tensor for name, tensor in tensors.items() if name not in left}, [warning] if left else []


def chosen(
    scheme: Scheme, modules: LinearModules, tensors: Mapping[str, SourceTensor]
) -> tuple[dict[str, Scheme], list[str]]:
    """The weights that are quantized, and the linear modules that are not."""

    def fits(name: str) -> bool:
        try:
            scheme.encoding.stored(name, tensors[name].shape)
        except RecipeError:
            return False
        return True

    usable = {name for name, module in modules.blocks.items() if scheme.derived or module not in modules.derived}
    fitting = {name: module for name, module in modules.blocks.items() if name in usable and fits(name)}
    experts = modules.experts if scheme.experts and all(map(fits, modules.experts)) else {}
    unfit = {module for name, module in modules.blocks.items() if name not in fitting}
    unfit |= {name.removesuffix(".weight") for name in modules.blocks if name not in fitting}
    ignore = sorted({*modules.others, *unfit})
    if not experts and any(".experts." in name for name in tensors):
        ignore.append(_EXPERTS)
    return dict.fromkeys([*fitting, *experts], scheme), ignore


def left_plain(tensors: Mapping[str, SourceTensor], quantized: Mapping[str, Scheme], plain: str) -> list[str]:
    """A warning about matrices of the blocks that are not quantized, if they are many."""
    total = sum(math.prod(tensor.shape) for tensor in tensors.values())
    left = {
        name: math.prod(tensor.shape)
        for name, tensor in tensors.items()
        if len(tensor.shape) > 1 and name not in quantized and re.search(r"\.\d+\.", name)
    }
    share = sum(left.values()) / total
    if share < _WORTH_TELLING:
        return []
    largest = max(left, key=left.__getitem__)
    return [
        f"{share:.0%} of the weights stay {TORCH_DTYPES[plain]}, such as {largest}: they belong to no linear module "
        "that is loaded quantized"
    ]


def planned(tensor: SourceTensor, plain: str, scheme: Scheme | None) -> tuple[PlannedTensor, ...]:
    """A tensor as it will be, with the constants that go with it."""
    target = target_of(tensor)
    if scheme is None:
        return (PlannedTensor(target, PLAIN[plain]),)
    return (PlannedTensor(target, scheme.encoding), *scheme.constants(target.name, target.shape))


def target_of(tensor: SourceTensor) -> TargetTensor:
    """A tensor as transformers knows it: GPT-OSS's experts are (inputs, outputs), but not in its quantized files."""
    if len(tensor.shape) != 3 or not _GPT_OSS_EXPERTS.search(tensor.name):
        return TargetTensor(tensor.name, tensor.shape, (Piece(tensor.name),))
    experts, outputs, inputs = tensor.shape
    pieces = (Piece(tensor.name, transposed=True, within=(n * outputs, outputs)) for n in range(experts))
    return TargetTensor(tensor.name.removesuffix(".weight"), (experts, inputs, outputs), tuple(pieces))
