"""GPTBigCode: StarCoder and SantaCoder, GPT-2 with one key and value head for all queries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.families.gpt.gpt2 import GPT2
from converter.architectures.families.gpt.gpt_neox import interleaved_thirds
from converter.architectures.target import TargetTensor


class GPTBigCode(GPT2):
    classes = ("GPTBigCodeForCausalLM",)
    arch = "starcoder"
    defaults: ClassVar = {**GPT2.defaults, "activation_function": "gelu_pytorch_tanh", "multi_query": True}

    @property
    def kv_heads(self) -> int:
        return 1 if self.config.flag("multi_query") else self.heads

    def fused_attention(self, target: str, source: str) -> Iterator[TargetTensor]:
        """Already queries, keys, values where all queries share one key; otherwise head after head."""
        width, head_dim = self.embedding_length, self.head_dim
        rows = None if self.config.flag("multi_query") else interleaved_thirds(self.heads, head_dim)
        shape = (width + 2 * self.kv_heads * head_dim, width)
        yield from self.linear(target, source, shape, bias=True, rows=rows)

    def projection(self, target: str, source: str, shape: tuple[int, int]) -> Iterator[TargetTensor]:
        yield from self.linear(target, source, shape, bias=True)
