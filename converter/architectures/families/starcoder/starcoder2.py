"""StarCoder2: Llama's attention with layer norms and a feed-forward without gate."""

from __future__ import annotations

from typing import ClassVar

from converter.architectures.facts import LINEAR_BY_NAME
from converter.architectures.parts.decoder import Gate
from converter.architectures.parts.layer_norm import LayerNormDecoder


class StarCoder2(LayerNormDecoder):
    classes = ("Starcoder2ForCausalLM",)
    arch = "starcoder2"
    in_transformers: ClassVar = {"starcoder2": LINEAR_BY_NAME}
    defaults: ClassVar = {
        "hidden_act": "gelu_pytorch_tanh",
        "max_position_embeddings": 4096,
        "norm_epsilon": 1e-5,
        "num_key_value_heads": 2,
        "use_bias": True,
        "tie_word_embeddings": True,
    }
    epsilon = "norm_epsilon"
    names: ClassVar = {**LayerNormDecoder.names, "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"}
    gate = Gate.NONE
    zero_biases = ("attn_output", "ffn_up", "ffn_down")

    @property
    def sliding_window(self) -> int | None:
        return self.config.optional_integer("sliding_window")

    @property
    def query_bias(self) -> bool:
        return self.config.flag("use_bias")

    @property
    def output_bias(self) -> bool:
        return self.config.flag("use_bias")

    @property
    def feed_forward_bias(self) -> bool:
        return self.config.flag("use_bias")
