"""Jais 2: Llama's attention with layer norms, a squared ReLU without gate, biases everywhere."""

from __future__ import annotations

from typing import ClassVar

from converter.architectures.parts.decoder import Gate
from converter.architectures.parts.layer_norm import LayerNormDecoder


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
    gate = Gate.NONE
    zero_biases = ("attn_output", "ffn_up", "ffn_down")
    takes_head_dim = True
