"""StarCoder2: Llama's attention with layer norms and a feed-forward without gate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.parts.layer_norm import LayerNormDecoder
from converter.architectures.target import TargetTensor


class StarCoder2(LayerNormDecoder):
    classes = ("Starcoder2ForCausalLM",)
    arch = "starcoder2"
    defaults: ClassVar = {
        "hidden_act": "gelu_pytorch_tanh",
        "max_position_embeddings": 4096,
        "norm_epsilon": 1e-5,
        "num_key_value_heads": 2,
        "use_bias": True,
        "tie_word_embeddings": True,
    }
    epsilon = "norm_epsilon"

    @property
    def sliding_window(self) -> int | None:
        return self.config.optional_integer("sliding_window")

    def block(self, target: str, source: str) -> Iterator[TargetTensor]:
        width, key, inner = self.embedding_length, self.kv_heads * self.head_dim, self.feed_forward_length
        attention, bias = f"{source}.self_attn", self.config.flag("use_bias")
        yield from self.norm(f"{target}.attn_norm", f"{source}.input_layernorm")
        yield from self.linear(f"{target}.attn_q", f"{attention}.q_proj", (width, width), bias=bias)
        yield from self.linear(f"{target}.attn_k", f"{attention}.k_proj", (key, width), bias=bias)
        yield from self.linear(f"{target}.attn_v", f"{attention}.v_proj", (key, width), bias=bias)
        yield from self.biased(f"{target}.attn_output", f"{attention}.o_proj", (width, width), bias=bias)
        yield from self.norm(f"{target}.ffn_norm", f"{source}.post_attention_layernorm")
        yield from self.biased(f"{target}.ffn_up", f"{source}.mlp.c_fc", (inner, width), bias=bias)
        yield from self.biased(f"{target}.ffn_down", f"{source}.mlp.c_proj", (width, inner), bias=bias)
