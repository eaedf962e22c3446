"""Phi 1, 1.5 and 2: attention and feed-forward side by side after one norm, biases everywhere, partial rope."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.facts import LINEAR_BY_NAME
from converter.architectures.parts.decoder import Gate
from converter.architectures.parts.layer_norm import LayerNormDecoder
from converter.architectures.target import TargetTensor
from converter.gguf.key_values import KeyValue


class Phi(LayerNormDecoder):
    classes = ("PhiForCausalLM",)
    arch = "phi2"
    in_transformers: ClassVar = {"phi": LINEAR_BY_NAME}
    defaults: ClassVar = {"hidden_act": "gelu_new", "max_position_embeddings": 2048, "layer_norm_eps": 1e-5}
    names: ClassVar = {
        **LayerNormDecoder.names,
        "output_norm": "model.final_layernorm",
        "attn_output": "self_attn.dense",
        "ffn_up": "mlp.fc1",
        "ffn_down": "mlp.fc2",
    }
    layout = ("attn_norm", "attention", "feed_forward")
    gate = Gate.NONE
    query_bias = True
    output_bias = True
    feed_forward_bias = True
    rotary_factor = 0.5
    needs_output = True

    def key_values(self) -> list[KeyValue]:
        self.config.one_of("qk_layernorm", False, None)
        return super().key_values()

    def output_matrix(self, shape: tuple[int, int]) -> Iterator[TargetTensor]:
        yield from super().output_matrix(shape)
        yield self.tensor("output.bias", "lm_head.bias", shape[:1])
