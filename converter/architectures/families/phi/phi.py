"""Phi 1, 1.5 and 2: attention and feed-forward side by side after one norm, biases everywhere, partial rope."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.parts.layer_norm import LayerNormDecoder
from converter.architectures.target import TargetTensor
from converter.gguf.key_values import KeyValue


class Phi(LayerNormDecoder):
    classes = ("PhiForCausalLM",)
    arch = "phi2"
    defaults: ClassVar = {"hidden_act": "gelu_new", "max_position_embeddings": 2048, "layer_norm_eps": 1e-5}
    rotary_factor = 0.5
    needs_output = True
    final_norm = "model.final_layernorm"

    def key_values(self) -> list[KeyValue]:
        self.config.one_of("qk_layernorm", False, None)
        return super().key_values()

    def block(self, target: str, source: str) -> Iterator[TargetTensor]:
        width, key, inner = self.embedding_length, self.kv_heads * self.head_dim, self.feed_forward_length
        attention = f"{source}.self_attn"
        yield from self.norm(f"{target}.attn_norm", f"{source}.input_layernorm")
        yield from self.linear(f"{target}.attn_q", f"{attention}.q_proj", (width, width), bias=True)
        yield from self.linear(f"{target}.attn_k", f"{attention}.k_proj", (key, width), bias=True)
        yield from self.linear(f"{target}.attn_v", f"{attention}.v_proj", (key, width), bias=True)
        yield from self.linear(f"{target}.attn_output", f"{attention}.dense", (width, width), bias=True)
        yield from self.linear(f"{target}.ffn_up", f"{source}.mlp.fc1", (inner, width), bias=True)
        yield from self.linear(f"{target}.ffn_down", f"{source}.mlp.fc2", (width, inner), bias=True)

    def output_matrix(self, shape: tuple[int, int]) -> Iterator[TargetTensor]:
        yield from super().output_matrix(shape)
        yield self.tensor("output.bias", "lm_head.bias", shape[:1])
