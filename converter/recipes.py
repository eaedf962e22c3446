"""Which type each tensor gets: a method's name read as llama.cpp's quantizer reads it.

The rules are those of ``llama_model_quantize`` (llama.cpp, ``src/llama-quant.cpp``), so that a file made here has
the same tensor types, and with the same kernels the same bytes, as one made by the two-step route.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gguf import LlamaFileType

from converter.architectures.target import TargetTensor
from converter.errors import UsageError
from converter.quants import QUANT_TYPES


@dataclass(frozen=True)
class Method:
    """A method that users ask for by name.

    Attributes:
        name: lower case, e.g. ``q4_0``.
        type: the type of most tensors.
        file_type: ``general.file_type`` of the result.
        use: when to choose it, one sentence.
    """

    name: str
    type: str
    file_type: LlamaFileType
    use: str


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method("f32", "f32", LlamaFileType.ALL_F32, "Exact for any source; a reference, or a source for other tools."),
        Method(
            "f16", "f16", LlamaFileType.MOSTLY_F16, "Near exact, fast on GPUs; refused where a weight exceeds 65504."
        ),
        Method("bf16", "bf16", LlamaFileType.MOSTLY_BF16, "Exact for bfloat16 sources at half of f32's size."),
        Method("q8_0", "q8_0", LlamaFileType.MOSTLY_Q8_0, "Indistinguishable from the source in use; half of f16."),
        Method("q5_1", "q5_1", LlamaFileType.MOSTLY_Q5_1, "More faithful than q5_0 where weights are lopsided."),
        Method("q5_0", "q5_0", LlamaFileType.MOSTLY_Q5_0, "Small loss at a third of f16."),
        Method("q4_1", "q4_1", LlamaFileType.MOSTLY_Q4_1, "More faithful than q4_0 where weights are lopsided."),
        Method("q4_0", "q4_0", LlamaFileType.MOSTLY_Q4_0, "The smallest of these and the fastest to run on CPUs."),
    )
}

#: Names, or parts of names, of matrices that stay as they are: norms, routers, small or precise tables.
NEVER_QUANTIZED = ("_norm.weight", "ffn_gate_inp.weight", "position_embd.weight", "token_types.weight", "ssm_conv1d")

#: The type that takes over where a row is not a multiple of the chosen type's block.
NARROWER = {"q6_k": "q8_0"}


def find_method(name: str) -> Method:
    """The method of that name, in any case.

    Raises:
        UsageError: with the nearest name.
    """
    method = METHODS.get(name.lower())
    if method is None:
        near = difflib.get_close_matches(name.lower(), METHODS, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]}?" if near else f"methods are {', '.join(METHODS)}"
        raise UsageError(f"method {name!r} does not exist; {hint}")
    return method


def choose_types(method: Method, tensors: Sequence[TargetTensor], *, pure: bool = False) -> list[str]:
    """The type of each tensor, in order.

    Args:
        method: what the user asked for.
        tensors: all tensors of the model.
        pure: one type for every matrix, the output's included.

    Returns:
        Names of ``QUANT_TYPES``, one for each tensor.
    """
    tied = all(tensor.name != "output.weight" for tensor in tensors)
    output = "token_embd.weight" if tied else "output.weight"
    return [choose_type(method, tensor, is_output=tensor.name == output, pure=pure) for tensor in tensors]


def choose_type(method: Method, tensor: TargetTensor, *, is_output: bool, pure: bool) -> str:
    """The type of one tensor; ``is_output`` marks the matrix that makes the logits."""
    if not quantizable(tensor):
        return "f32"
    chosen = method.type
    if QUANT_TYPES[chosen].block_size == 1:
        return chosen
    if is_output and not pure:
        divides = tensor.row_length % QUANT_TYPES[chosen].block_size == 0
        chosen = "q6_k" if chosen != "q8_0" and divides else "q8_0"
    return fitting(chosen, tensor.row_length)


def quantizable(tensor: TargetTensor) -> bool:
    """Whether a tensor takes the method's type at all; the others stay float32."""
    matrix = tensor.rows > 1
    return matrix and tensor.name.endswith("weight") and not any(part in tensor.name for part in NEVER_QUANTIZED)


def fitting(chosen: str, row_length: int) -> str:
    """The chosen type, or the one that takes over for rows that its blocks do not divide, at last f16."""
    if row_length % QUANT_TYPES[chosen].block_size:
        chosen = NARROWER.get(chosen, chosen)
    return chosen if row_length % QUANT_TYPES[chosen].block_size == 0 else "f16"
