"""InternLM 3: Llama, as which transformers runs it, with InternLM 2's scaling beyond its context."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.families.internlm.internlm2 import InternLM2
from converter.architectures.layer import Layer
from converter.architectures.parts.decoder import Decoder
from converter.architectures.target import TargetTensor
from converter.gguf.key_values import KeyValue


class InternLM3(InternLM2):
    classes = ("InternLM3ForCausalLM",)
    arch = "llama"
    defaults: ClassVar = {
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "num_key_value_heads": 2,
        "head_dim": 128,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
    }
    aliases: ClassVar = {"qkv_bias": "attention_bias", "bias": "mlp_bias"}
    names = Decoder.names
    body = Decoder.body
    takes_frequency_factors = True
    takes_head_dim = True

    @property
    def output_bias(self) -> bool:
        """The model's own code follows ``bias`` here, as in the feed-forward."""
        return self.config.flag("mlp_bias")

    def key_values(self) -> list[KeyValue]:
        return Decoder.key_values(self)

    # Llama's projections, not InternLM 2's.

    def attention(self, layer: Layer) -> Iterator[TargetTensor]:
        return Decoder.attention(self, layer)

    def output_matrix(self, shape: tuple[int, int]) -> Iterator[TargetTensor]:
        return Decoder.output_matrix(self, shape)
