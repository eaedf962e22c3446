"""Llama and its closest relatives: Mistral, Qwen2, Qwen3 differ in biases, norms and how rope pairs a head's rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from converter.architectures.family import Family
from converter.architectures.parts.pooling import pooling_key_values
from converter.architectures.parts.rope import Rope
from converter.architectures.target import RowMap, TargetTensor, rotary_pairs
from converter.checkpoints.tensor import SourceTensor
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, boolean, float32, uint32


class Llama(Family):
    """Llama 1 to 3 and everything saved as such (Yi, TinyLlama, SmolLM, CodeLlama, …)."""

    classes: ClassVar[tuple[str, ...]] = ("LlamaForCausalLM", "LLaMAForCausalLM", "LlamaModel")
    arch = "llama"
    defaults: ClassVar = {"max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "hidden_act": "silu"}

    #: config.json's name of the activation, and what llama.cpp computes in this arch.
    activation: ClassVar[str] = "hidden_act"
    activations: ClassVar[tuple[str, ...]] = ("silu",)
    #: llama.cpp's rope for this arch rotates neighbouring rows, transformers rotates halves of a head.
    rotates_neighbours: ClassVar[bool] = True
    #: RMS norms on queries and keys.
    norms_heads: ClassVar[bool] = False
    #: llama.cpp loads rope_freqs.weight for this arch.
    takes_frequency_factors: ClassVar[bool] = True
    #: llama.cpp runs heads of any length in this arch, not only hidden_size / heads.
    takes_head_dim: ClassVar[bool] = True
    #: llama.cpp takes no embedding for an output matrix in this arch, so a tied one is written twice.
    needs_output: ClassVar[bool] = False

    #: How the checkpoint's names of the decoder's tensors begin, and its name of the output matrix.
    decoder: str = "model."
    head_name: str = "lm_head"

    def __init__(self, config: Mapping[str, Any], sources: Mapping[str, SourceTensor]) -> None:
        super().__init__(config, sources)
        #: Saved without a head, as checkpoints for embeddings are, whatever the class name.
        self.headless = "embed_tokens.weight" in sources
        if self.headless:
            self.decoder = ""

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

    def tensors(self) -> Iterator[TargetTensor]:
        width = self.embedding_length
        yield from self.frequency_factors()
        yield self.tensor("token_embd.weight", f"{self.decoder}embed_tokens.weight", (self.vocab_size, width))
        for index in range(self.config.integer("num_hidden_layers")):
            yield from self.block(f"blk.{index}", f"{self.decoder}layers.{index}")
        yield self.tensor("output_norm.weight", f"{self.decoder}norm.weight", (width,))
        yield from self.output_matrix((self.vocab_size, width))

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
        if self.headless:
            return
        if not self.config.flag("tie_word_embeddings") or f"{self.head_name}.weight" in self.sources:
            yield self.tensor("output.weight", f"{self.head_name}.weight", shape)
        elif self.needs_output:
            yield self.tensor("output.weight", f"{self.decoder}embed_tokens.weight", shape)

    def block(self, target: str, source: str) -> Iterator[TargetTensor]:
        yield self.tensor(f"{target}.attn_norm.weight", f"{source}.input_layernorm.weight", (self.embedding_length,))
        yield from self.attention(target, f"{source}.self_attn")
        yield self.tensor(
            f"{target}.ffn_norm.weight", f"{source}.post_attention_layernorm.weight", (self.embedding_length,)
        )
        yield from self.feed_forward(target, f"{source}.mlp")

    def attention(self, target: str, source: str) -> Iterator[TargetTensor]:
        width, head_dim = self.embedding_length, self.head_dim
        query, key = self.heads * head_dim, self.kv_heads * head_dim
        bias = self.query_bias
        yield from self.linear(
            f"{target}.attn_q", f"{source}.q_proj", (query, width), bias=bias, rows=self.rotary_rows(self.heads)
        )
        yield from self.linear(
            f"{target}.attn_k", f"{source}.k_proj", (key, width), bias=bias, rows=self.rotary_rows(self.kv_heads)
        )
        yield from self.linear(f"{target}.attn_v", f"{source}.v_proj", (key, width), bias=bias)
        yield from self.linear(f"{target}.attn_output", f"{source}.o_proj", (width, query), bias=self.output_bias)
        if self.norms_heads:
            yield from self.head_norms(target, source)

    def head_norms(self, target: str, source: str) -> Iterator[TargetTensor]:
        for name in "qk":
            yield self.tensor(f"{target}.attn_{name}_norm.weight", f"{source}.{name}_norm.weight", (self.head_dim,))

    def rotary_rows(self, heads: int) -> RowMap | None:
        return rotary_pairs(heads, self.head_dim) if self.rotates_neighbours else None

    def feed_forward(self, target: str, source: str) -> Iterator[TargetTensor]:
        width, hidden = self.embedding_length, self.feed_forward_length
        bias = self.config.flag("mlp_bias")
        yield from self.linear(f"{target}.ffn_gate", f"{source}.gate_proj", (hidden, width), bias=bias)
        yield from self.linear(f"{target}.ffn_up", f"{source}.up_proj", (hidden, width), bias=bias)
        yield from self.linear(f"{target}.ffn_down", f"{source}.down_proj", (width, hidden), bias=bias)
