"""The methods that users ask for by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from gguf import LlamaFileType

from converter.errors import UsageError
from converter.recipes.method_names import meant, spelled


@dataclass(frozen=True)
class Method:
    """A method, llama.cpp's "file type".

    Attributes:
        name: lower case, e.g. ``q4_k_m``.
        type: the type of most tensors.
        file_type: ``general.file_type`` of the result.
        use: when to choose it, one sentence.
    """

    name: str
    type: str
    file_type: LlamaFileType
    use: str


def _method(name: str, type_name: str, use: str) -> Method:
    prefix = "ALL" if name == "f32" else "MOSTLY"
    return Method(name, type_name, LlamaFileType[f"{prefix}_{name.upper()}"], use)


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        _method("f32", "f32", "Exact for any source; a reference, or a source for other tools."),
        _method("f16", "f16", "Near exact, fast on GPUs; refused where a weight exceeds 65504."),
        _method("bf16", "bf16", "Exact for bfloat16 sources at half of f32's size."),
        _method("q8_0", "q8_0", "Indistinguishable from the source in use; half of f16."),
        _method("q6_k", "q6_k", "Very close to the source; for when quality comes first."),
        _method("q5_k_m", "q5_k", "Small loss; sensitive tensors in 6 bits."),
        _method("q5_k_s", "q5_k", "Small loss, a little smaller than q5_k_m."),
        _method("q5_1", "q5_1", "An older 5-bit format, more faithful than q5_0 where weights are lopsided."),
        _method("q5_0", "q5_0", "An older 5-bit format; q5_k_m is better at the same size."),
        _method(
            "q4_k_m", "q4_k", "The usual choice: good quality at under a third of f16; sensitive tensors in 6 bits."
        ),
        _method("q4_k_s", "q4_k", "A little smaller than q4_k_m, a little less faithful."),
        _method("q4_1", "q4_1", "An older 4-bit format, more faithful than q4_0 where weights are lopsided."),
        _method("q4_0", "q4_0", "An older 4-bit format, the fastest to run on many CPUs."),
        _method("iq4_nl", "iq4_nl", "4.5 bits on a curved scale; for rows that 256 does not divide."),
        _method("iq4_xs", "iq4_xs", "Smaller than q4_k_s at about its quality; slower on CPUs."),
        _method("mxfp4_moe", "mxfp4", "Experts in MXFP4, the rest in q8_0; for models trained in that format."),
        _method("q3_k_l", "q3_k", "Noticeable loss; the best of the 3-bit mixes."),
        _method("q3_k_m", "q3_k", "Noticeable loss; for when 4 bits do not fit."),
        _method("q3_k_s", "q3_k", "Large loss."),
        _method("iq3_m", "iq3_s", "3.7 bits; better than q3_k at its size, with an importance matrix."),
        _method("iq3_s", "iq3_s", "3.4 bits, with an importance matrix."),
        _method("iq3_xs", "iq3_s", "3.3 bits, with an importance matrix."),
        _method("iq3_xxs", "iq3_xxs", "3.1 bits; needs an importance matrix."),
        _method("q2_k", "q2_k", "Large loss; the smallest without an importance matrix."),
        _method("q2_k_s", "q2_k", "Large loss; needs an importance matrix."),
        _method("iq2_m", "iq2_s", "2.7 bits; needs an importance matrix."),
        _method("iq2_s", "iq2_xs", "2.5 bits; needs an importance matrix."),
        _method("iq2_xs", "iq2_xs", "2.3 bits; needs an importance matrix."),
        _method("iq2_xxs", "iq2_xxs", "2.1 bits; needs an importance matrix."),
        _method("tq2_0", "tq2_0", "For models trained with three-valued weights; fast."),
        _method("tq1_0", "tq1_0", "For models trained with three-valued weights; smallest."),
        _method("iq1_m", "iq1_m", "1.75 bits; needs an importance matrix; for very large models only."),
        _method("iq1_s", "iq1_s", "1.6 bits; needs an importance matrix; for very large models only."),
    )
}


def find_method(name: str) -> Method:
    """The method of that name, in any case, or of a synonym.

    Raises:
        UsageError: with the method that the word means, or the nearest name.
    """
    method = METHODS.get(spelled(name))
    if method is None:
        hint = meant(name, "gguf", tuple(METHODS))
        if not hint:
            near = difflib.get_close_matches(name.lower(), METHODS, n=1, cutoff=0.6)
            hint = f"did you mean {near[0]}?" if near else f"methods are {', '.join(METHODS)}"
        raise UsageError(f"method {name!r} does not exist; {hint}")
    return method
