"""Directories of PyTorch's files that transformers loads: config, tokenizer and ``pytorch_model*.bin``."""

from __future__ import annotations

from converter.quants.encoding import Encoding

#: torch's name of a plain tensor's type, by method.
PLAIN = {name: Encoding(dtype, name) for name, dtype in (("f32", "float32"), ("f16", "float16"), ("bf16", "bfloat16"))}
