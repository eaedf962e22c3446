"""The frame of decoders: Llama's, and with other names, norms, biases and pairs of rotated rows that of most others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import ClassVar

from converter.architectures.family import Family
from converter.architectures.layer import Layer, Names, stack
from converter.architectures.parts.experts import (
    COUNTS,
    Mixture,
    expert_names,
    expert_stacks,
    gated_names,
    gated_projections,
)
from converter.architectures.parts.pooling import pooling_key_values
from converter.architectures.parts.rope import Rope
from converter.architectures.target import Operation, Piece, RowMap, TargetTensor, rotary_pairs
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, boolean, float32, uint32


class Gate(Enum):
    """Where a feed-forward has the projection that gates the other."""

    APART = "apart"
    FUSED = "in ffn_up, above it, as llama.cpp wants it too"
    NONE = "none"


class Decoder(Family):
    """Base of decoders.

    Attributes:
        layout: what stands in a layer, in order: norms by their names in ``names``, sublayers by the method's name.
        activation, activations: config.json's name of the activation, and what llama.cpp computes in this arch.
        gate: where the feed-forwards have their gate.
        norm_operation: what is done to a norm's weight.
        norms_heads: there are norms on queries and keys.
        rotates_neighbours: llama.cpp's rope for this arch rotates neighbouring rows, transformers rotates halves of a
            head.
        takes_frequency_factors: llama.cpp loads ``rope_freqs.weight`` for this arch.
        takes_head_dim: llama.cpp runs heads of any length in this arch, not only hidden_size / heads.
        needs_output: llama.cpp takes no embedding for an output matrix in this arch, so a tied one is written twice.
        zero_biases: projections whose bias llama.cpp requires: zeros where the source has none.
        mixture_keys: what llama.cpp reads of a mixture of experts in this arch.
    """

    defaults: ClassVar = {"max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "hidden_act": "silu"}
    names: ClassVar[Names] = {
        "token_embd": "model.embed_tokens",
        "blk": "model.layers",
        "output_norm": "model.norm",
        "output": "lm_head",
        "attn_norm": "input_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "attn_q_norm": "self_attn.q_norm",
        "attn_k_norm": "self_attn.k_norm",
        "ffn_norm": "post_attention_layernorm",
        **gated_names("mlp"),
        "ffn_gate_inp": "mlp.gate",
        **expert_names("mlp.experts"),
        **gated_names("mlp.shared_experts", "_shexp"),
    }
    body: ClassVar[str] = "model."
    layout: ClassVar[tuple[str, ...]] = ("attn_norm", "attention", "ffn_norm", "feed_forward")

    activation: ClassVar[str] = "hidden_act"
    activations: ClassVar[tuple[str, ...]] = ("silu",)
    gate: ClassVar[Gate] = Gate.APART
    norm_operation: ClassVar[Operation | None] = None
    norms_heads: ClassVar[bool] = False
    rotates_neighbours: ClassVar[bool] = True
    takes_frequency_factors: ClassVar[bool] = True
    takes_head_dim: ClassVar[bool] = True
    needs_output: ClassVar[bool] = False
    zero_biases: ClassVar[tuple[str, ...]] = ()
    mixture_keys: ClassVar[tuple[str, ...]] = COUNTS

    @property
    def embedding_length(self) -> int:
        return self.config.integer("hidden_size")

    @property
    def heads(self) -> int:
        return self.config.integer("num_attention_heads")

    @property
    def kv_heads(self) -> int:
        if "num_key_value_heads" not in self.config:
            return self.heads
        kv_heads = self.config.integer("num_key_value_heads")
        if self.heads % kv_heads:
            raise ArchitectureError(
                f"config.json: num_attention_heads {self.heads} is not a multiple of num_key_value_heads {kv_heads}"
            )
        return kv_heads

    @property
    def head_dim(self) -> int:
        """Elements of a head: explicit, or hidden_size over heads; even, since rope rotates pairs."""
        explicit = "head_dim" in self.config
        head_dim = self.config.integer("head_dim") if explicit else self.embedding_length // self.heads
        if head_dim % 2 or (not explicit and self.embedding_length % self.heads):
            given = f"head_dim {head_dim}" if explicit else "no head_dim"
            raise ArchitectureError(
                f"config.json: hidden_size {self.embedding_length}, num_attention_heads {self.heads} and {given} do "
                "not give heads of an even length"
            )
        if not self.takes_head_dim and head_dim * self.heads != self.embedding_length:
            raise ArchitectureError(
                f"config.json: 'head_dim' is {head_dim}, but llama.cpp runs {self.arch} only with hidden_size / "
                f"num_attention_heads = {self.embedding_length // self.heads}"
            )
        return head_dim

    @property
    def rotary_dim(self) -> int:
        """Elements of a head that rope rotates, from its first."""
        return self.head_dim

    @property
    def rope(self) -> Rope:
        return Rope.of(self.config)

    @property
    def feed_forward_length(self) -> int:
        return self.config.integer("intermediate_size")

    @property
    def query_bias(self) -> bool:
        return self.config.flag("attention_bias")

    @property
    def output_bias(self) -> bool:
        return self.config.flag("attention_bias")

    @property
    def feed_forward_bias(self) -> bool:
        return self.config.flag("mlp_bias")

    @property
    def mixture(self) -> Mixture | None:
        """The experts that some of the layers, or all, have; None for a dense model."""
        return None

    @property
    def kinds(self) -> Sequence[str]:
        """The kind of each layer."""
        return [""] * self.config.integer("num_hidden_layers")

    @property
    def layers(self) -> list[Layer]:
        return stack(self.source_name("blk"), self.kinds)

    @property
    def sliding_window(self) -> int | None:
        """Tokens that transformers attends to where this arch of llama.cpp attends to all; None for all."""
        return None

    @property
    def ropes(self) -> tuple[Rope, ...]:
        """The ropes of its layers."""
        return (self.rope,)

    def exact_lengths(self) -> Iterator[tuple[int, str]]:
        for rope in self.ropes:
            yield from rope.exact_lengths()
        window = self.sliding_window
        if window is not None and window < self.config.integer("max_position_embeddings"):
            yield window, f"the model attends to the last {window} tokens only, llama.cpp to all of them"

    def key_values(self) -> list[KeyValue]:
        config, arch = self.config, self.arch
        config.one_of(self.activation, *self.activations)
        return [
            uint32(f"{arch}.block_count", config.integer("num_hidden_layers")),
            uint32(f"{arch}.context_length", config.integer("max_position_embeddings")),
            uint32(f"{arch}.embedding_length", self.embedding_length),
            uint32(f"{arch}.feed_forward_length", self.feed_forward_length),
            uint32(f"{arch}.attention.head_count", self.heads),
            uint32(f"{arch}.attention.head_count_kv", self.kv_heads),
            *self.rope.key_values(arch),
            self.norm_epsilon,
            *self.head_key_values(),
            *self.embedding_key_values(),
        ]

    def embedding_key_values(self) -> list[KeyValue]:
        """What a decoder needs whose last hidden states are embeddings: how they are pooled, who attends to whom."""
        # transformers masks nothing where config.json says so, in any decoder.
        bidirectional = "is_causal" in self.config and not self.config.flag("is_causal")
        return [
            *([boolean(f"{self.arch}.attention.causal", False)] if bidirectional else []),
            *pooling_key_values(self.arch, self.directory),
        ]

    @property
    def norm_epsilon(self) -> KeyValue:
        return float32(f"{self.arch}.attention.layer_norm_rms_epsilon", self.config.number("rms_norm_eps"))

    def head_key_values(self) -> list[KeyValue]:
        return [
            uint32(f"{self.arch}.attention.key_length", self.head_dim),
            uint32(f"{self.arch}.attention.value_length", self.head_dim),
            uint32(f"{self.arch}.vocab_size", self.vocab_size),
            uint32(f"{self.arch}.rope.dimension_count", self.rotary_dim),
        ]

    def mixture_key_values(self) -> list[KeyValue]:
        """What llama.cpp reads of the mixture of experts."""
        mixture = self.mixture
        return [] if mixture is None else mixture.key_values(self.arch, self.mixture_keys)

    def tensors(self) -> Iterator[TargetTensor]:
        shape = (self.vocab_size, self.embedding_length)
        yield from self.frequency_factors()
        yield self.tensor("token_embd.weight", f"{self.source_name('token_embd')}.weight", shape)
        yield from self.before_layers()
        for layer in self.layers:
            yield from self.block(layer)
        yield from self.norm("output_norm", self.source_name("output_norm"))
        yield from self.output_matrix(shape)

    def before_layers(self) -> Iterator[TargetTensor]:
        """Tensors between the embedding and the first layer."""
        yield from ()

    def frequency_factors(self) -> Iterator[TargetTensor]:
        """``rope_freqs.weight``, where the rope's scaling is written as one factor for each frequency."""
        rope = self.rope
        factors = rope.frequency_factors(self.rotary_dim)
        if factors is not None:
            if not self.takes_frequency_factors:
                raise ArchitectureError(
                    f"config.json: rope scaling {rope.scaling!r} with these parameters needs frequency factors, which "
                    f"llama.cpp does not read for {self.arch}; it runs linear, and yarn with beta_fast 32, beta_slow 1"
                )
            yield TargetTensor("rope_freqs.weight", (len(factors),), values=factors)

    def output_matrix(self, shape: tuple[int, int]) -> Iterator[TargetTensor]:
        # A tied checkpoint may still hold an output matrix; transformers then uses it where it differs. One that was
        # saved without a head has none, whatever its config says of one.
        if not self.bare:
            yield from self.own_or_tied(shape)

    def own_or_tied(self, shape: tuple[int, int]) -> Iterator[TargetTensor]:
        """The output matrix, or where it is tied the embedding once more if llama.cpp needs it."""
        own, embedding = (f"{self.source_name(part)}.weight" for part in ("output", "token_embd"))
        if not self.config.flag("tie_word_embeddings") or own in self.sources:
            yield self.tensor("output.weight", own, shape)
        elif self.needs_output:
            yield self.tensor("output.weight", embedding, shape)

    def block(self, layer: Layer) -> Iterator[TargetTensor]:
        """A layer's tensors, as ``layout`` says."""
        for part in self.layout:
            if part in self.names:
                yield from self.layer_norm(layer, part)
            else:
                yield from getattr(self, part)(layer)

    def norm(self, target: str, source: str, length: int | None = None) -> Iterator[TargetTensor]:
        """A norm; its length is the hidden state's where none is given."""
        shape = (self.embedding_length if length is None else length,)
        yield self.tensor(f"{target}.weight", f"{source}.weight", shape, operation=self.norm_operation)

    def layer_norm(self, layer: Layer, part: str, length: int | None = None) -> Iterator[TargetTensor]:
        """A layer's norm, under its name in ``names``."""
        yield from self.norm(f"{layer.target}.{part}", self.source_name(part, layer), length)

    def projection(
        self, layer: Layer, part: str, shape: tuple[int, int], *, bias: bool = False, rows: RowMap | None = None
    ) -> Iterator[TargetTensor]:
        yield from super().projection(layer, part, shape, bias=bias, rows=rows)
        if not bias and part in self.zero_biases:
            yield zeros(f"{layer.target}.{part}.bias", shape[0])

    def attention(self, layer: Layer) -> Iterator[TargetTensor]:
        width, head_dim, bias = self.embedding_length, self.head_dim, self.query_bias
        query, key = self.heads * head_dim, self.kv_heads * head_dim
        if "attn_qkv" in self.names:
            yield from self.projection(layer, "attn_qkv", (query + 2 * key, width), bias=bias, rows=self.fused_rows)
        else:
            rows = self.rotary_rows(self.heads)
            yield from self.projection(layer, "attn_q", (query, width), bias=bias, rows=rows)
            rows = self.rotary_rows(self.kv_heads)
            yield from self.projection(layer, "attn_k", (key, width), bias=bias, rows=rows)
            yield from self.projection(layer, "attn_v", (key, width), bias=bias)
        yield from self.projection(layer, "attn_output", (width, query), bias=self.output_bias)
        if self.norms_heads:
            yield from self.head_norms(layer)

    @property
    def fused_rows(self) -> RowMap | None:
        """The rows of one projection of queries, keys and values in llama.cpp's order; None where they are in it."""
        return None

    def cut(self, layer: Layer, rows: int, maps: Mapping[str, RowMap], *, bias: bool = False) -> Iterator[TargetTensor]:
        """Several projections out of the one of the checkpoint.

        Args:
            layer: the layer.
            rows: how many the source, ``attn_qkv``, has.
            maps: which of them make which target.
            bias: whether there is a bias too.
        """
        width, fused = self.embedding_length, self.source_name("attn_qkv", layer)
        self.source(f"{fused}.weight", (rows, width))
        if bias:
            self.source(f"{fused}.bias", (rows,))
        for part, chosen in maps.items():
            target = f"{layer.target}.{part}"
            yield TargetTensor(f"{target}.weight", (chosen.rows, width), (Piece(f"{fused}.weight", chosen),))
            if bias:
                yield TargetTensor(f"{target}.bias", (chosen.rows,), (Piece(f"{fused}.bias", chosen),))

    def head_norms(self, layer: Layer) -> Iterator[TargetTensor]:
        for part in ("attn_q_norm", "attn_k_norm"):
            yield from self.layer_norm(layer, part, self.head_dim)

    def rotary_rows(self, heads: int) -> RowMap | None:
        return rotary_pairs(heads, self.head_dim) if self.rotates_neighbours else None

    def feed_forward(self, layer: Layer) -> Iterator[TargetTensor]:
        mixture = self.mixture
        if mixture is not None and mixture.stands_in(layer):
            yield from self.experts(layer, mixture)
        else:
            yield from self.dense(layer)

    def dense(self, layer: Layer) -> Iterator[TargetTensor]:
        """A feed-forward without experts."""
        width, hidden, bias = self.embedding_length, self.feed_forward_length, self.feed_forward_bias
        if self.gate is Gate.APART:
            yield from gated_projections(self, layer, (hidden, width), bias=bias)
            return
        rows = 2 * hidden if self.gate is Gate.FUSED else hidden
        yield from self.projection(layer, "ffn_up", (rows, width), bias=bias)
        yield from self.projection(layer, "ffn_down", (width, hidden), bias=bias)

    def experts(self, layer: Layer, mixture: Mixture) -> Iterator[TargetTensor]:
        """A feed-forward with experts: their scores, what only their choice sees, they themselves, the shared ones."""
        yield from self.projection(layer, "ffn_gate_inp", (mixture.experts, self.embedding_length))
        yield from self.choice_bias(layer, mixture)
        yield from self.stacks(layer, mixture)
        yield from self.shared_experts(layer, mixture)

    def choice_bias(self, layer: Layer, mixture: Mixture) -> Iterator[TargetTensor]:
        """What is added to the probabilities for the choice of experts alone."""
        if "exp_probs_b" in self.names:
            source = self.source_name("exp_probs_b", layer)
            yield self.tensor(f"{layer.target}.exp_probs_b.bias", source, (mixture.experts,))

    def stacks(self, layer: Layer, mixture: Mixture) -> Iterator[TargetTensor]:
        """The experts' projections."""
        yield from expert_stacks(self, layer, (mixture.experts, mixture.length, self.embedding_length))

    def shared_experts(self, layer: Layer, mixture: Mixture) -> Iterator[TargetTensor]:
        """What every token uses beside its chosen experts."""
        if mixture.shared_length:
            yield from gated_projections(self, layer, (mixture.shared_length, self.embedding_length), "_shexp")


def zeros(name: str, length: int) -> TargetTensor:
    """A vector of zeros."""
    return TargetTensor(name, (length,), values=(0.0,) * length)
