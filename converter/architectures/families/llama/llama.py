"""Llama 1 to 3 and everything saved as such (Yi, TinyLlama, SmolLM, CodeLlama, …)."""

from __future__ import annotations

from typing import ClassVar

from converter.architectures.facts import LINEAR_BY_NAME
from converter.architectures.parts.decoder import Decoder


class Llama(Decoder):
    classes: ClassVar[tuple[str, ...]] = ("LlamaForCausalLM", "LLaMAForCausalLM", "LlamaModel")
    arch = "llama"
    in_transformers: ClassVar = {"llama": LINEAR_BY_NAME}
