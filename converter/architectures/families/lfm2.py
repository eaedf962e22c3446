"""LFM2: short convolutions in most layers, attention in the others; dense, or with experts after the first layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from gguf import GGUFValueType

from converter.architectures.layer import Layer
from converter.architectures.parts.decoder import Decoder, zeros
from converter.architectures.parts.experts import LENGTH, SIGMOID, Mixture, expert_names
from converter.architectures.target import Piece, TargetTensor
from converter.gguf.key_values import KeyValue, array, float32, uint32


class Lfm2(Decoder):
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
    names: ClassVar = {
        "token_embd": "model.embed_tokens",
        "blk": "model.layers",
        "output_norm": "model.embedding_norm",
        "output": "lm_head",
        "attn_norm": "operator_norm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.out_proj",
        "attn_q_norm": "self_attn.q_layernorm",
        "attn_k_norm": "self_attn.k_layernorm",
        "ffn_norm": "ffn_norm",
        "ffn_gate": "feed_forward.w1",
        "ffn_up": "feed_forward.w3",
        "ffn_down": "feed_forward.w2",
        "ffn_gate_inp": "feed_forward.gate",
        "exp_probs_b": "feed_forward.expert_bias",
        **expert_names("feed_forward.experts", apart=("w1", "w3", "w2")),
    }
    body = ""
    layout = ("attn_norm", "convolution_or_attention", "ffn_norm", "feed_forward")
    norms_heads = True
    rotates_neighbours = False
    takes_frequency_factors = False
    takes_head_dim = False

    @property
    def norm_epsilon(self) -> KeyValue:
        return float32(f"{self.arch}.attention.layer_norm_rms_epsilon", self.config.number("norm_eps"))

    @property
    def kinds(self) -> list[str]:
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
        heads = array(key, [0 if kind == "conv" else self.kv_heads for kind in self.kinds], GGUFValueType.INT32)
        pairs = [heads if pair.key == key else pair for pair in super().key_values()]
        return [*pairs, uint32(f"{arch}.shortconv.l_cache", config.integer("conv_L_cache", 2))]

    def convolution_or_attention(self, layer: Layer) -> Iterator[TargetTensor]:
        yield from self.convolution(layer) if layer.kind == "conv" else self.attention(layer)

    def convolution(self, layer: Layer) -> Iterator[TargetTensor]:
        target, source = f"{layer.target}.shortconv", f"{layer.source}.conv"
        width, kernel = self.embedding_length, self.config.integer("conv_L_cache")
        yield self.tensor(f"{target}.in_proj.weight", f"{source}.in_proj.weight", (3 * width, width))
        self.source(f"{source}.conv.weight", (width, 1, kernel))
        yield TargetTensor(f"{target}.conv.weight", (width, kernel), (Piece(f"{source}.conv.weight"),))
        yield self.tensor(f"{target}.out_proj.weight", f"{source}.out_proj.weight", (width, width))

    def norm(self, target: str, source: str, length: int | None = None) -> Iterator[TargetTensor]:
        """The norm behind the last layer is called one of the embedding on either side."""
        yield from super().norm("token_embd_norm" if target == "output_norm" else target, source, length)

    @property
    def query_bias(self) -> bool:
        return False

    @property
    def output_bias(self) -> bool:
        return False


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
    mixture_keys = (*LENGTH, "leading_dense_block_count", "expert_gating_func")

    @property
    def mixture(self) -> Mixture:
        fields = ("num_experts", "num_experts_per_tok", "moe_intermediate_size")
        return Mixture.of(self.config, *fields, dense=self.config.integer("num_dense_layers", 0), gating=SIGMOID)

    @property
    def feed_forward_length(self) -> int:
        return self.config.integer("intermediate_size")

    def key_values(self) -> list[KeyValue]:
        self.config.one_of("norm_topk_prob", True)
        self.config.one_of("routed_scaling_factor", 1)
        return [*super().key_values(), *self.mixture_key_values()]

    def choice_bias(self, layer: Layer, mixture: Mixture) -> Iterator[TargetTensor]:
        if self.config.flag("use_expert_bias"):
            yield from super().choice_bias(layer, mixture)
        else:
            yield zeros(f"{layer.target}.exp_probs_b.bias", mixture.experts)
