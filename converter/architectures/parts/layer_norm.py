"""The frame of decoders with layer norms: GPT-2 and its descendants, and some of Llama's relatives.

Each differs in where its blocks put the norms, how it stores queries, keys and values, and what of a head rotates.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.parts.decoder import Decoder
from converter.architectures.parts.rope import Rope, rotated_elements
from converter.architectures.target import TargetTensor
from converter.gguf.key_values import KeyValue, float32, uint32

#: Names of the GELU that llama.cpp computes, by the tanh approximation and a table of float16 values. The exact one,
#: "gelu", differs from the approximation by 5e-4 at most, no more than the table rounds.
GELUS: tuple[str, ...] = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu")


class LayerNormDecoder(Decoder):
    """What these families share: layer norms with biases, heads of hidden_size / heads elements.

    Attributes:
        epsilon: config.json's name of the norms' epsilon.
        norm_bias: norms have biases.
        rotary_factor: transformers' default of the share of a head that rope rotates; None for a family without rope.
    """

    rotates_neighbours = False
    takes_frequency_factors = False
    takes_head_dim = False
    epsilon: ClassVar[str] = "layer_norm_eps"
    activations: ClassVar[tuple[str, ...]] = GELUS
    norm_bias: ClassVar[bool] = True
    rotary_factor: ClassVar[float | None] = 1.0
    body = ""

    @property
    def rotary_dim(self) -> int:
        return rotated_elements(self.config, self.head_dim, self.rotary_factor or 1.0)

    @property
    def ropes(self) -> tuple[Rope, ...]:
        return () if self.rotary_factor is None else super().ropes

    @property
    def feed_forward_length(self) -> int:
        return self.config.integer("intermediate_size")

    @property
    def norm_epsilon(self) -> KeyValue:
        return float32(f"{self.arch}.attention.layer_norm_epsilon", self.config.number(self.epsilon))

    @property
    def context_length(self) -> int:
        return self.config.integer("max_position_embeddings")

    def key_values(self) -> list[KeyValue]:
        config, arch = self.config, self.arch
        if self.activations:
            config.one_of(self.activation, *self.activations)
        pairs = [
            uint32(f"{arch}.block_count", config.integer("num_hidden_layers")),
            uint32(f"{arch}.context_length", self.context_length),
            uint32(f"{arch}.embedding_length", self.embedding_length),
            uint32(f"{arch}.feed_forward_length", self.feed_forward_length),
            uint32(f"{arch}.attention.head_count", self.heads),
            uint32(f"{arch}.attention.head_count_kv", self.kv_heads),
            uint32(f"{arch}.attention.key_length", self.head_dim),
            uint32(f"{arch}.attention.value_length", self.head_dim),
            self.norm_epsilon,
        ]
        if self.rotary_factor is not None:
            pairs += [
                *self.rope.key_values(arch),
                uint32(f"{arch}.rope.dimension_count", self.rotary_dim),
            ]
        return pairs

    def frequency_factors(self) -> Iterator[TargetTensor]:
        if self.rotary_factor is not None:
            yield from super().frequency_factors()

    def output_matrix(self, shape: tuple[int, int]) -> Iterator[TargetTensor]:
        yield from self.own_or_tied(shape)

    def norm(self, target: str, source: str, length: int | None = None) -> Iterator[TargetTensor]:
        yield from super().norm(target, source, length)
        if self.norm_bias:
            yield self.tensor(f"{target}.bias", f"{source}.bias", (self.embedding_length,))
