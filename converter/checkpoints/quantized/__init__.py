"""Checkpoints whose weights someone quantized: one file per method, all of them dequantizing while they read."""

from converter.checkpoints.quantized.methods import METHODS, dequantized
from converter.checkpoints.quantized.mxfp4 import Mxfp4Tensor

__all__ = ["METHODS", "Mxfp4Tensor", "dequantized"]
