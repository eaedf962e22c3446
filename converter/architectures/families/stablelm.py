"""StableLM: Llama's blocks with layer norms and partial rope; the 12B model norms each head by weights of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.facts import LINEAR_BY_NAME
from converter.architectures.layer import Layer
from converter.architectures.parts.layer_norm import LayerNormDecoder
from converter.architectures.target import Piece, TargetTensor
from converter.gguf.key_values import KeyValue, boolean


class StableLM(LayerNormDecoder):
    classes = ("StableLmForCausalLM",)
    arch = "stablelm"
    in_transformers: ClassVar = {"stablelm": LINEAR_BY_NAME}
    defaults: ClassVar = {
        "hidden_act": "silu",
        "max_position_embeddings": 4096,
        "layer_norm_eps": 1e-5,
        "num_key_value_heads": 32,
    }
    names: ClassVar = {
        **LayerNormDecoder.names,
        "attn_q_norm": "self_attn.q_layernorm",
        "attn_k_norm": "self_attn.k_layernorm",
    }
    layout = ("attn_norm", "attention", "norm_between", "feed_forward")
    activations = ("silu",)
    rotary_factor = 0.25
    needs_output = True

    def key_values(self) -> list[KeyValue]:
        parallel = self.config.flag("use_parallel_residual")
        return [*super().key_values(), boolean(f"{self.arch}.use_parallel_residual", parallel)]

    def norm_between(self, layer: Layer) -> Iterator[TargetTensor]:
        """Without this norm llama.cpp runs the feed-forward beside the attention."""
        if not self.config.flag("use_parallel_residual"):
            yield from self.layer_norm(layer, "ffn_norm")

    def attention(self, layer: Layer) -> Iterator[TargetTensor]:
        yield from super().attention(layer)
        if self.config.flag("qk_layernorm"):
            for part, heads in (("attn_q_norm", self.heads), ("attn_k_norm", self.kv_heads)):
                yield self.stacked_norms(f"{layer.target}.{part}", self.source_name(part, layer), heads)

    def stacked_norms(self, target: str, source: str, heads: int) -> TargetTensor:
        """One norm for each head, stored one by one, as a matrix (heads, head_dim)."""
        names = [f"{source}.norms.{head}.weight" for head in range(heads)]
        for name in names:
            self.source(name, (self.head_dim,))
        return TargetTensor(f"{target}.weight", (heads, self.head_dim), tuple(Piece(name) for name in names))

    @property
    def query_bias(self) -> bool:
        return self.config.flag("use_qkv_bias")

    @property
    def output_bias(self) -> bool:
        return False
