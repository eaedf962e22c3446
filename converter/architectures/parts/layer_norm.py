"""The frame of decoders with layer norms: GPT-2 and its descendants, and some of Llama's relatives.

Each differs in where its blocks put the norms, how it stores queries, keys and values, and what of a head rotates.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.parts.decoder import Llama
from converter.architectures.parts.rope import Rope, rotated_elements
from converter.architectures.target import Operation, TargetTensor
from converter.gguf.key_values import KeyValue, float32, uint32

#: Names of the GELU that llama.cpp computes, by the tanh approximation and a table of float16 values. The exact one,
#: "gelu", differs from the approximation by 5e-4 at most, no more than the table rounds.
GELUS: tuple[str, ...] = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu")


class LayerNormDecoder(Llama):
    """What these families share: layer norms with biases, heads of hidden_size / heads elements.

    Attributes:
        epsilon: config.json's name of the norms' epsilon.
        norm_bias: norms have biases.
        norm_operation: what is done to a norm's weight.
        rotary_factor: transformers' default of the share of a head that rope rotates; None for a family without rope.
        body: what the names of all but the output matrix begin with; the first releases' files do without.
        embedding, final_norm, output: source names, without ``.weight``.
        layers: what source names of layers begin with.
    """

    rotates_neighbours = False
    takes_frequency_factors = False
    takes_head_dim = False
    epsilon: ClassVar[str] = "layer_norm_eps"
    activations: ClassVar[tuple[str, ...]] = GELUS
    norm_bias: ClassVar[bool] = True
    norm_operation: ClassVar[Operation | None] = None
    rotary_factor: ClassVar[float | None] = 1.0
    body: ClassVar[str] = ""
    embedding: ClassVar[str] = "model.embed_tokens"
    layers: ClassVar[str] = "model.layers"
    final_norm: ClassVar[str] = "model.norm"
    output: ClassVar[str] = "lm_head"

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

    @property
    def prefix(self) -> str:
        """``body``, where this checkpoint's names have it."""
        return "" if f"{self.embedding}.weight" in self.sources else self.body

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

    def tensors(self) -> Iterator[TargetTensor]:
        prefix, shape = self.prefix, (self.vocab_size, self.embedding_length)
        if self.rotary_factor is not None:
            yield from self.frequency_factors()
        yield self.tensor("token_embd.weight", f"{prefix}{self.embedding}.weight", shape)
        yield from self.before_blocks()
        for index in range(self.config.integer("num_hidden_layers")):
            yield from self.block(f"blk.{index}", f"{prefix}{self.layers}.{index}")
        yield from self.norm("output_norm", f"{prefix}{self.final_norm}")
        yield from self.output_matrix(shape)

    def before_blocks(self) -> Iterator[TargetTensor]:
        """Tensors between the embedding and the first block."""
        yield from ()

    def output_matrix(self, shape: tuple[int, int]) -> Iterator[TargetTensor]:
        # A tied checkpoint may still hold an output matrix; transformers then uses it where it differs.
        if not self.config.flag("tie_word_embeddings") or f"{self.output}.weight" in self.sources:
            yield self.tensor("output.weight", f"{self.output}.weight", shape)
        elif self.needs_output:
            yield self.tensor("output.weight", f"{self.prefix}{self.embedding}.weight", shape)

    def norm(self, target: str, source: str) -> Iterator[TargetTensor]:
        shape = (self.embedding_length,)
        yield self.tensor(f"{target}.weight", f"{source}.weight", shape, operation=self.norm_operation)
        if self.norm_bias:
            yield self.tensor(f"{target}.bias", f"{source}.bias", shape)

    def biased(self, target: str, source: str, shape: tuple[int, int], *, bias: bool) -> Iterator[TargetTensor]:
        """A projection whose bias llama.cpp requires: zeros where the source has none."""
        yield from self.linear(target, source, shape, bias=bias)
        if not bias:
            yield zeros(f"{target}.bias", shape[0])


def zeros(name: str, length: int) -> TargetTensor:
    """A vector of zeros."""
    return TargetTensor(name, (length,), values=(0.0,) * length)
