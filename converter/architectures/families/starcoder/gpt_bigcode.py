"""GPTBigCode: StarCoder and SantaCoder, GPT-2 with one key and value head for all queries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.families.gpt.gpt2 import GPT2
from converter.architectures.families.gpt.gpt_neox import interleaved_thirds
from converter.architectures.layer import Layer
from converter.architectures.parts.layer_norm import LayerNormDecoder
from converter.architectures.target import RowMap, TargetTensor


class GPTBigCode(GPT2):
    classes = ("GPTBigCodeForCausalLM",)
    arch = "starcoder"
    defaults: ClassVar = {**GPT2.defaults, "activation_function": "gelu_pytorch_tanh", "multi_query": True}

    @property
    def kv_heads(self) -> int:
        return 1 if self.config.flag("multi_query") else self.heads

    @property
    def fused_rows(self) -> RowMap | None:
        """Already queries, keys, values where all queries share one key; otherwise head after head."""
        return None if self.config.flag("multi_query") else interleaved_thirds(self.heads, self.head_dim)

    def projection(
        self, layer: Layer, part: str, shape: tuple[int, int], *, bias: bool = True, rows: RowMap | None = None
    ) -> Iterator[TargetTensor]:
        return LayerNormDecoder.projection(self, layer, part, shape, bias=True, rows=rows)
