"""How GPTQ's and AWQ's tensors, which have the same names, are packed: their shapes tell.

GPTQ       qweight (in / n, out)    scales (groups, out)     n codes in a word
AWQ gemm   qweight (in, out / 8)    scales (groups, out)
AWQ gemv   qweight (out, in / 8)    scales (out, groups, padded)
"""

from __future__ import annotations

from collections.abc import Mapping

from converter.checkpoints.quantized.parts import Parts
from converter.checkpoints.safetensors import SafetensorsTensor
from converter.errors import CheckpointError

GPTQ, GEMM, GEMV = "gptq", "awq, version gemm", "awq, version gemv"
_CODES_OF_WORD = 8


def packing_of(parts: Parts | Mapping[str, SafetensorsTensor], base: str) -> str | None:
    """The packing whose shapes the tensors ``base`` + ``.qweight`` and ``.scales`` have; None if it is none of them."""
    codes, scales = parts.get(f"{base}.qweight"), parts.get(f"{base}.scales")
    if codes is None or scales is None or len(codes.shape) != 2 or len(scales.shape) != 2:
        return None
    if scales.shape[1] == codes.shape[1]:
        return GPTQ
    if scales.shape[1] == codes.shape[1] * _CODES_OF_WORD:
        return GEMM
    return GEMV if scales.shape[0] == codes.shape[0] else None


def check_packing(parts: Parts, base: str, expected: str) -> None:
    """Refuse tensors that are packed otherwise than the configuration says.

    Raises:
        CheckpointError: naming both.
    """
    found = packing_of(parts, base)
    if found not in (None, expected):
        raise CheckpointError(
            f"{parts.config}: quantization_config says {expected}, but {base}.qweight is packed as {found} does it; "
            + ("save it in gemm's order first" if found == GEMV else "correct quantization_config")
        )
