"""LFM2: short convolutions in most layers, attention in the others; dense, or with experts after the first layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from gguf import GGUFValueType

from converter.architectures.parts.decoder import Llama
from converter.architectures.parts.experts import expert_counts, expert_key_values, expert_stacks
from converter.architectures.target import Piece, TargetTensor
from converter.gguf.key_values import KeyValue, array, float32, uint32


class Lfm2(Llama):
    classes: ClassVar[tuple[str, ...]] = ("Lfm2ForCausalLM", "LFM2ForCausalLM")
    arch = "lfm2"
    defaults: ClassVar = {
        "max_position_embeddings": 128000,
        "norm_eps": 1e-5,
        "hidden_act": "silu",
        "num_key_value_heads": 8,
        "rope_theta": 1e6,
        "conv_bias": False,
        "conv_L_cache": 3,
        "block_multiple_of": 256,
        "block_ffn_dim_multiplier": 1.0,
        "block_auto_adjust_ff_dim": True,
        "tie_word_embeddings": True,
    }
    aliases: ClassVar[Mapping[str, str]] = {"tie_embedding": "tie_word_embeddings", "block_ff_dim": "intermediate_size"}
    rotates_neighbours = False
    takes_frequency_factors = False
    takes_head_dim = False

    @property
    def norm_epsilon(self) -> KeyValue:
        return float32(f"{self.arch}.attention.layer_norm_rms_epsilon", self.config.number("norm_eps"))

    @property
    def layer_types(self) -> list[str]:
        layers = self.config.integer("num_hidden_layers")
        field = "full_attn_idxs"
        attending = self.config.integers(field) if field in self.config else range(layers)
        usual = ["full_attention" if index in attending else "conv" for index in range(layers)]
        return self.config.layer_types(layers, usual, ("conv", "full_attention"))

    @property
    def feed_forward_length(self) -> int:
        """intermediate_size, or two thirds of it, times a factor, rounded up, as transformers adjusts it."""
        config, length = self.config, self.config.integer("intermediate_size")
        if not config.flag("block_auto_adjust_ff_dim"):
            return length
        length = int(config.number("block_ffn_dim_multiplier") * int(2 * length / 3))
        multiple = config.integer("block_multiple_of")
        return multiple * -(-length // multiple)

    def key_values(self) -> list[KeyValue]:
        config, arch = self.config, self.arch
        config.one_of("conv_bias", False)
        key = f"{arch}.attention.head_count_kv"
        heads = array(key, [0 if kind == "conv" else self.kv_heads for kind in self.layer_types], GGUFValueType.INT32)
        pairs = [heads if pair.key == key else pair for pair in super().key_values()]
        return [*pairs, uint32(f"{arch}.shortconv.l_cache", config.integer("conv_L_cache", 2))]

    def tensors(self) -> Iterator[TargetTensor]:
        width, vocabulary = self.embedding_length, (self.vocab_size, self.embedding_length)
        yield from self.frequency_factors()
        yield self.tensor("token_embd.weight", "model.embed_tokens.weight", vocabulary)
        for index, kind in enumerate(self.layer_types):
            target, source = f"blk.{index}", f"model.layers.{index}"
            yield self.tensor(f"{target}.attn_norm.weight", f"{source}.operator_norm.weight", (width,))
            if kind == "conv":
                yield from self.convolution(target, f"{source}.conv")
            else:
                yield from self.attention(target, f"{source}.self_attn")
            yield self.tensor(f"{target}.ffn_norm.weight", f"{source}.ffn_norm.weight", (width,))
            yield from self.feed_forward(target, f"{source}.feed_forward")
        # The norm behind the last layer, whatever its name says on either side.
        yield self.tensor("token_embd_norm.weight", "model.embedding_norm.weight", (width,))
        yield from self.output_matrix(vocabulary)

    def convolution(self, target: str, source: str) -> Iterator[TargetTensor]:
        width, kernel = self.embedding_length, self.config.integer("conv_L_cache")
        yield self.tensor(f"{target}.shortconv.in_proj.weight", f"{source}.in_proj.weight", (3 * width, width))
        self.source(f"{source}.conv.weight", (width, 1, kernel))
        yield TargetTensor(f"{target}.shortconv.conv.weight", (width, kernel), (Piece(f"{source}.conv.weight"),))
        yield self.tensor(f"{target}.shortconv.out_proj.weight", f"{source}.out_proj.weight", (width, width))

    def attention(self, target: str, source: str) -> Iterator[TargetTensor]:
        width, key = self.embedding_length, self.kv_heads * self.head_dim
        for name, rows in (("q", width), ("k", key), ("v", key)):
            yield self.tensor(f"{target}.attn_{name}.weight", f"{source}.{name}_proj.weight", (rows, width))
        yield self.tensor(f"{target}.attn_output.weight", f"{source}.out_proj.weight", (width, width))
        for name in "qk":
            norm = f"{source}.{name}_layernorm.weight"
            yield self.tensor(f"{target}.attn_{name}_norm.weight", norm, (self.head_dim,))

    def feed_forward(self, target: str, source: str) -> Iterator[TargetTensor]:
        width, hidden = self.embedding_length, self.feed_forward_length
        yield self.tensor(f"{target}.ffn_gate.weight", f"{source}.w1.weight", (hidden, width))
        yield self.tensor(f"{target}.ffn_up.weight", f"{source}.w3.weight", (hidden, width))
        yield self.tensor(f"{target}.ffn_down.weight", f"{source}.w2.weight", (width, hidden))


class Lfm2Moe(Lfm2):
    classes = ("Lfm2MoeForCausalLM",)
    arch = "lfm2moe"
    defaults: ClassVar = {
        "max_position_embeddings": 128000,
        "norm_eps": 1e-5,
        "hidden_act": "silu",
        "num_key_value_heads": 8,
        "rope_theta": 1e6,
        "conv_bias": False,
        "conv_L_cache": 3,
        "tie_word_embeddings": True,
        "moe_intermediate_size": 1792,
        "num_dense_layers": 2,
        "num_experts": 32,
        "num_experts_per_tok": 4,
        "use_expert_bias": True,
        "norm_topk_prob": True,
        "routed_scaling_factor": 1.0,
    }
    aliases: ClassVar[Mapping[str, str]] = {"tie_embedding": "tie_word_embeddings"}

    @property
    def expert_counts(self) -> tuple[int, int]:
        return expert_counts(self.config, "num_experts", "num_experts_per_tok")

    @property
    def dense_layers(self) -> int:
        return self.config.integer("num_dense_layers", 0)

    @property
    def feed_forward_length(self) -> int:
        return self.config.integer("intermediate_size")

    def key_values(self) -> list[KeyValue]:
        config, arch = self.config, self.arch
        config.one_of("norm_topk_prob", True)
        config.one_of("routed_scaling_factor", 1)
        return [
            *super().key_values(),
            *expert_key_values(arch, self.expert_counts),
            uint32(f"{arch}.expert_feed_forward_length", config.integer("moe_intermediate_size")),
            uint32(f"{arch}.leading_dense_block_count", self.dense_layers),
            # llama.cpp's number of the sigmoid.
            uint32(f"{arch}.expert_gating_func", 2),
        ]

    def feed_forward(self, target: str, source: str) -> Iterator[TargetTensor]:
        if int(target.split(".")[1]) < self.dense_layers:
            yield from super().feed_forward(target, source)
            return
        experts, width, inner = (
            self.expert_counts[0],
            self.embedding_length,
            self.config.integer("moe_intermediate_size"),
        )
        yield self.tensor(f"{target}.ffn_gate_inp.weight", f"{source}.gate.weight", (experts, width))
        if self.config.flag("use_expert_bias"):
            yield self.tensor(f"{target}.exp_probs_b.bias", f"{source}.expert_bias", (experts,))
        else:
            yield TargetTensor(f"{target}.exp_probs_b.bias", (experts,), values=(0.0,) * experts)
        shape = (experts, inner, width)
        yield from expert_stacks(self, target, f"{source}.experts", shape, names=("w1", "w3", "w2"))
