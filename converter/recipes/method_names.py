"""What people call methods: other spellings, and words of other tools."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

#: Other names of the very same methods: numpy's and torch's, and the short ones that llama-quantize takes too.
SYNONYMS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("fp32", "float32", "float"), "f32"),
        **dict.fromkeys(("fp16", "float16", "half"), "f16"),
        "bfloat16": "bf16",
        "q3_k": "q3_k_m",
        "q4_k": "q4_k_m",
        "q5_k": "q5_k_m",
    }
)

#: The method of a GGUF that comes nearest to a word in its sense, and why; most words need no reason.
_IN_GGUF: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(("int4", "4bit", "w4a16", "uint4", "i4"), ("q4_k_m", "the usual choice of 4 bits")),
    **dict.fromkeys(("int8", "8bit", "w8a16", "w8a8", "uint8", "i8"), ("q8_0", "8-bit integers in blocks of 32")),
    **dict.fromkeys(("q8", "q8_1", "q8_k", "q8_k_xl"), ("q8_0", "")),
    **dict.fromkeys(("q4", "4"), ("q4_k_m", "")),
    **dict.fromkeys(("int2", "2bit", "q2", "q2_k_m", "q2_k_l", "q2_k_xl"), ("q2_k", "")),
    **dict.fromkeys(("int3", "3bit", "q3"), ("q3_k_m", "")),
    **dict.fromkeys(("int5", "5bit", "q5"), ("q5_k_m", "")),
    **dict.fromkeys(("int6", "6bit", "q6", "q6_k_m", "q6_k_s", "q6_k_l", "q6_k_xl"), ("q6_k", "")),
    **dict.fromkeys(("16bit", "fp", "none", "auto", "unquantized"), ("bf16", "16 bits, not quantized")),
    **dict.fromkeys(("32bit", "full", "exact"), ("f32", "")),
    **dict.fromkeys(("lossless", "best"), ("bf16", "exact for most models; q8_0 is half of it")),
    **dict.fromkeys(("default", "recommended", "auto4", "balanced"), ("q4_k_m", "")),
    **dict.fromkeys(("small", "smallest", "tiny", "min"), ("q2_k", "the smallest that needs no importance matrix")),
    "fast": ("q4_0", ""),
    "fastest": ("q4_0", ""),
    "awq": (
        "q4_k_m",
        "add --calibrate TEXT to protect the weights that matter; AWQ models can be converted",
    ),
    "gptq": ("q4_k_m", "add --calibrate TEXT to take real text into account; GPTQ models can be converted"),
    **dict.fromkeys(
        ("nf4", "fp4", "bnb", "bitsandbytes", "qlora"),
        ("iq4_nl", "4 bits on a curved scale, like NF4; bitsandbytes itself is --format safetensors --method bnb_4bit"),
    ),
    "bnb_4bit": ("iq4_nl", "4 bits on a curved scale, like NF4"),
    "bnb_8bit": ("q8_0", "8-bit integers, too"),
    "llm_int8": ("q8_0", "bitsandbytes itself is --format safetensors --method bnb_8bit"),
    **dict.fromkeys(("fp8", "f8", "float8", "e4m3", "e5m2", "fp8_e4m3"), ("q8_0", "GGUF has no 8-bit floats")),
    "mxfp4": ("mxfp4_moe", "a mixture's experts in MXFP4, the rest in q8_0"),
    "nvfp4": ("q4_k_m", "GGUF has no NVFP4; NVFP4 models can be converted"),
    **dict.fromkeys(("mxfp8", "mxfp6"), ("q8_0", "of the MX formats GGUF has MXFP4: mxfp4_moe")),
    **dict.fromkeys(
        ("exl2", "exl3", "hqq", "aqlm", "quip", "quanto", "eetq", "marlin", "torchao", "spqr", "squeezellm", "vptq"),
        ("q4_k_m", "that is another tool's format"),
    ),
    **dict.fromkeys(("mlx", "coreml", "onnx", "openvino", "tensorrt"), ("q4_k_m", "that is another tool's format")),
    **dict.fromkeys(("ggml", "gguf", "llama.cpp"), ("q4_k_m", "that is the file format; this is the usual method")),
    **dict.fromkeys(("q4_k_l", "q4_k_xl"), ("q4_k_m", "add --output-type q8_0 --embedding-type q8_0")),
    **dict.fromkeys(("q5_k_l", "q5_k_xl"), ("q5_k_m", "add --output-type q8_0 --embedding-type q8_0")),
    "q3_k_xl": ("q3_k_l", "add --output-type q8_0 --embedding-type q8_0"),
    **dict.fromkeys(("q4_0_4_4", "q4_0_4_8", "q4_0_8_8"), ("q4_0", "llama.cpp repacks it when it loads")),
    **dict.fromkeys(("q4_2", "q4_3"), ("q4_1", "llama.cpp has dropped that format")),
    **dict.fromkeys(("iq4", "q4_k_xs", "iq4_k"), ("iq4_xs", "")),
    "iq3": ("iq3_m", ""),
    "iq2": ("iq2_m", ""),
    "iq1": ("iq1_m", ""),
    **dict.fromkeys(
        ("1.58bit", "1.58", "ternary", "bitnet", "b1.58", "i2_s", "tl1", "tl2"),
        ("tq2_0", "for models trained with three-valued weights"),
    ),
    **dict.fromkeys(("1bit", "int1", "q1"), ("iq1_m", "for very large models, with an importance matrix")),
}
#: The same for models of transformers and vLLM.
_IN_DIRECTORIES: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(("int4", "4bit", "w4a16", "uint4", "i4", "q4", "4"), ("q4_0", "4-bit integers in groups of 32")),
    **dict.fromkeys(("int8", "8bit", "w8a16", "w8a8", "uint8", "i8", "q8"), ("q8_0", "8-bit integers in groups of 32")),
    **dict.fromkeys(("awq", "gptq"), ("q4_0", "4-bit integers in groups of 32")),
    **dict.fromkeys(("fp8", "f8", "float8", "e4m3", "mxfp8"), ("q8_0", "8 bits, closer to the source than FP8")),
    **dict.fromkeys(("mxfp4", "nvfp4", "exl2", "exl3", "hqq", "marlin"), ("q4_0", "4-bit integers")),
    **dict.fromkeys(("16bit", "none", "auto", "unquantized", "default", "lossless"), ("bf16", "not quantized")),
}
#: And for those of safetensors alone.
_IN_SAFETENSORS: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(("nf4", "fp4", "bnb", "bitsandbytes", "qlora"), ("bnb_4bit", "bitsandbytes' NF4")),
    "llm_int8": ("bnb_8bit", "bitsandbytes' int8"),
}
_MEANT: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "gguf": _IN_GGUF,
    "safetensors": {**_IN_DIRECTORIES, **_IN_SAFETENSORS},
    "pytorch": {**_IN_DIRECTORIES, **dict.fromkeys(_IN_SAFETENSORS, ("q4_0", "4-bit integers in groups of 32"))},
}
#: What is taken where no method is named.
DEFAULTS: Mapping[str, str] = {"gguf": "q4_k_m", "safetensors": "bf16", "pytorch": "bf16"}
#: What may stand before a name: Unsloth's mixes, and llama.cpp's names of the file types.
_PREFIXES = ("ud_", "mostly_", "all_", "llama_ftype_mostly_")


def spelled(name: str) -> str:
    """A method's own name, from its name in any case or a synonym."""
    lower = name.strip().lower()
    return SYNONYMS.get(lower, lower)


def meant(name: str, output_format: str, methods: tuple[str, ...]) -> str:
    """The rest of a refusal: the method that a word means, with the reason; empty for a word that nobody knows.

    Args:
        name: what was asked for.
        output_format: the container.
        methods: its methods.
    """
    word = plain(name)
    for form in (word, word.replace("_", "")):
        if form in methods:
            return f"did you mean {form}?"
        if found := _MEANT[output_format].get(form):
            method, reason = found
            return f"did you mean {method}?" + (f" ({reason})" if reason else "")
    squeezed = {method.replace("_", ""): method for method in methods}
    return f"did you mean {squeezed[word]}?" if word in squeezed else ""


def plain(name: str) -> str:
    """A name with the separators of ours and without another tool's prefix, synonyms resolved."""
    word = spelled(name).replace("-", "_").replace(" ", "_")
    for prefix in _PREFIXES:
        word = word.removeprefix(prefix)
    return SYNONYMS.get(word, word)
