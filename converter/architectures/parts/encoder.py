"""What encoders share: tokens attend to both sides, and the result is an embedding of each of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.family import Family
from converter.architectures.layer import Layer, stack
from converter.architectures.parts.layer_norm import GELUS
from converter.architectures.parts.pooling import pooling_key_values
from converter.architectures.target import TargetTensor
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, boolean, float32, uint32


class Encoder(Family):
    """An encoder with layer norms.

    Attributes:
        epsilon, activation, feed_forward: config.json's names of these fields.
        activations: values of the activation that llama.cpp computes.
    """

    epsilon: ClassVar[str] = "layer_norm_eps"
    activation: ClassVar[str] = "hidden_act"
    activations: ClassVar[tuple[str, ...]] = GELUS
    feed_forward: ClassVar[str] = "intermediate_size"

    @property
    def embedding_length(self) -> int:
        return self.config.integer("hidden_size")

    @property
    def feed_forward_length(self) -> int:
        return self.config.integer(self.feed_forward)

    @property
    def context_length(self) -> int:
        return self.config.integer("max_position_embeddings")

    @property
    def layers(self) -> list[Layer]:
        return stack(self.source_name("blk"), [""] * self.config.integer("num_hidden_layers"))

    @property
    def heads(self) -> int:
        heads = self.config.integer("num_attention_heads")
        if self.embedding_length % heads:
            raise ArchitectureError(
                f"config.json: hidden_size {self.embedding_length} is not a multiple of num_attention_heads {heads}"
            )
        return heads

    @property
    def norm_epsilon(self) -> float:
        return self.config.number(self.epsilon)

    def key_values(self) -> list[KeyValue]:
        arch = self.arch
        self.config.one_of(self.activation, *self.activations)
        return [
            uint32(f"{arch}.block_count", self.config.integer("num_hidden_layers")),
            uint32(f"{arch}.context_length", self.context_length),
            uint32(f"{arch}.embedding_length", self.embedding_length),
            uint32(f"{arch}.feed_forward_length", self.feed_forward_length),
            uint32(f"{arch}.attention.head_count", self.heads),
            float32(f"{arch}.attention.layer_norm_epsilon", self.norm_epsilon),
            boolean(f"{arch}.attention.causal", False),
            *self.pooling_key_values(),
        ]

    def pooling_key_values(self) -> list[KeyValue]:
        """How the embeddings of a text's tokens become what is asked of it."""
        return pooling_key_values(self.arch, self.directory)

    def head(self) -> Iterator[TargetTensor]:
        """Tensors behind the encoder's own."""
        yield from ()

    def norm(self, target: str, source: str) -> Iterator[TargetTensor]:
        """A layer norm; the first checkpoints call its weight gamma and its bias beta."""
        old = f"{source}.gamma" in self.sources
        for name, old_name in (("weight", "gamma"), ("bias", "beta")):
            yield self.tensor(f"{target}.{name}", f"{source}.{old_name if old else name}", (self.embedding_length,))

    def layer_norm(self, layer: Layer, part: str) -> Iterator[TargetTensor]:
        """A layer's norm, under its name in ``names``."""
        yield from self.norm(f"{layer.target}.{part}", self.source_name(part, layer))

    def embedding_tensor(self) -> TargetTensor:
        shape = (self.vocab_size, self.embedding_length)
        return self.tensor("token_embd.weight", f"{self.source_name('token_embd')}.weight", shape)
