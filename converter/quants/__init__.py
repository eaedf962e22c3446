"""Block formats of tensors: pure functions from float32 rows to bytes and back.

``QUANT_TYPES["q4_0"].quantize(rows)`` gives the bytes that ggml gives, bit for bit. Importing this package loads
neither a compiler nor ggml; the first call of a type does.
"""

from converter.quants.registry import QUANT_TYPES, QuantType

__all__ = ["QUANT_TYPES", "QuantType"]
