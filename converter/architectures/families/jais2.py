"""Jais 2: Llama's attention with layer norms, a squared ReLU without gate, biases everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.parts.layer_norm import LayerNormDecoder, zeros
from converter.architectures.target import TargetTensor


class Jais2(LayerNormDecoder):
    classes = ("Jais2ForCausalLM",)
    arch = "jais2"
    defaults: ClassVar = {
        "attention_bias": True,
        "hidden_act": "relu2",
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": 8192,
        "mlp_bias": True,
    }
    activations = ("relu2",)
    takes_head_dim = True

    def block(self, target: str, source: str) -> Iterator[TargetTensor]:
        width, inner, bias = self.embedding_length, self.feed_forward_length, self.config.flag("mlp_bias")
        yield from self.norm(f"{target}.attn_norm", f"{source}.input_layernorm")
        yield from self.attention(target, f"{source}.self_attn")
        if not self.output_bias:
            yield zeros(f"{target}.attn_output.bias", width)
        yield from self.norm(f"{target}.ffn_norm", f"{source}.post_attention_layernorm")
        yield from self.biased(f"{target}.ffn_up", f"{source}.mlp.up_proj", (inner, width), bias=bias)
        yield from self.biased(f"{target}.ffn_down", f"{source}.mlp.down_proj", (width, inner), bias=bias)
