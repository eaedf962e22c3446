"""Facts about families that others ask for: what transformers' code and llama.cpp's quantizer make of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InTransformers:
    """What transformers' own code does with the weights of one ``model_type``.

    Attributes:
        linear_by_name: the weights of a layer that are named ``X.weight`` belong to linear modules named X, unless that
            is a norm or selects experts; those of single experts are merged.
        own_products: a regular expression of the linear modules by whose weights it multiplies itself, transposed or
            from the left, so that no packed tensor can stand in for them; empty for none.
        transposed: projections are Conv1D modules, with weights of shape (in, out).
        transposed_experts: stacked experts are of shape (experts, in, out).
    """

    linear_by_name: bool = False
    own_products: str = ""
    transposed: bool = False
    transposed_experts: bool = False


LINEAR_BY_NAME = InTransformers(linear_by_name=True)


@dataclass(frozen=True)
class InQuantizer:
    """What llama.cpp's quantizer makes of an architecture by its name (``llama_model_quantize``,
    ``src/llama-quant.cpp``).

    Attributes:
        falcon: of Falcon's kind: the output matrix takes q8_0, and the feed-forward's output bears fewer bits.
        large: how many blocks make a 70B model, whose attention values take 5 bits at least; 0 for none.
        large_shares: whether heads must share key-value heads for that.
    """

    falcon: bool = False
    large: int = 0
    large_shares: bool = False


#: By llama.cpp's name: these facts are its own, and a GGUF source, of any family, has nothing but the name.
IN_QUANTIZER = {
    "falcon": InQuantizer(falcon=True),
    "llama": InQuantizer(large=80, large_shares=True),
    "qwen2": InQuantizer(large=80),
    "olmo": InQuantizer(large=80),
    "deci": InQuantizer(large=80),
    "jais2": InQuantizer(large=68),
}


def in_quantizer(arch: str) -> InQuantizer:
    """The facts about an architecture; those of most where none are known."""
    return IN_QUANTIZER.get(arch, InQuantizer())
