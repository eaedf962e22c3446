"""Nemotron 3 and 4, Minitron: layer norms that hold their weight minus one, squared ReLU without gate, partial rope."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.parts.layer_norm import LayerNormDecoder
from converter.architectures.target import Operation, TargetTensor


class Nemotron(LayerNormDecoder):
    classes = ("NemotronForCausalLM",)
    arch = "nemotron"
    defaults: ClassVar = {"hidden_act": "relu2", "max_position_embeddings": 4096, "norm_eps": 1e-5}
    epsilon = "norm_eps"
    activations = ("relu2",)
    rotary_factor = 0.5
    norm_operation = Operation("add", 1.0)
    needs_output = True

    def block(self, target: str, source: str) -> Iterator[TargetTensor]:
        width, inner = self.embedding_length, self.feed_forward_length
        bias = self.config.flag("mlp_bias")
        yield from self.norm(f"{target}.attn_norm", f"{source}.input_layernorm")
        yield from self.attention(target, f"{source}.self_attn")
        yield from self.norm(f"{target}.ffn_norm", f"{source}.post_attention_layernorm")
        yield from self.linear(f"{target}.ffn_up", f"{source}.mlp.up_proj", (inner, width), bias=bias)
        yield from self.linear(f"{target}.ffn_down", f"{source}.mlp.down_proj", (width, inner), bias=bias)
