"""Jamba: Mamba's mixers with attention in a few layers; experts in every other one, or in none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from gguf import GGUFValueType

from converter.architectures.facts import InTransformers
from converter.architectures.families.state_space.mamba import Mamba
from converter.architectures.layer import Layer, Names, stack
from converter.architectures.parts.experts import (
    COUNTS,
    Mixture,
    expert_names,
    expert_stacks,
    gated_names,
    gated_projections,
)
from converter.architectures.target import TargetTensor
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, array, float32, uint32


class Jamba(Mamba):
    """Jamba of any size; no layer rotates its heads."""

    classes = ("JambaForCausalLM",)
    arch = "jamba"
    in_transformers: ClassVar = {"jamba": InTransformers(own_products=r"\.dt_proj$")}
    defaults: ClassVar[dict[str, Any]] = {
        "max_position_embeddings": 262144,
        "num_key_value_heads": 8,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "num_experts": 16,
        "num_experts_per_tok": 2,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "attn_layer_period": 8,
        "attn_layer_offset": 4,
        "mamba_d_state": 16,
        "mamba_d_conv": 4,
        "mamba_expand": 2,
        "mamba_dt_rank": "auto",
        "mamba_conv_bias": True,
        "mamba_proj_bias": False,
    }
    aliases: ClassVar[Mapping[str, str]] = {"num_local_experts": "num_experts"}
    names: ClassVar[Names] = {
        "token_embd": "model.embed_tokens",
        "blk": "model.layers",
        "output_norm": "model.final_layernorm",
        "output": "lm_head",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        **gated_names("feed_forward"),
        "ffn_gate_inp": "feed_forward.router",
        **expert_names("feed_forward.experts"),
    }
    place = "mamba"
    fields: ClassVar[Mapping[str, str]] = {
        "expansion": "mamba_expand",
        "state": "mamba_d_state",
        "rank": "mamba_dt_rank",
        "taps": "mamba_d_conv",
        "bias": "mamba_conv_bias",
    }
    norms_inputs = True

    def chosen_layers(self, kind: str) -> list[bool]:
        """For each layer, whether ``{kind}_layer_period`` and ``{kind}_layer_offset`` choose it."""
        period, offset = self.config.integer(f"{kind}_layer_period"), self.config.integer(f"{kind}_layer_offset", 0)
        if offset >= period:
            raise ArchitectureError(
                f"config.json: '{kind}_layer_offset' is {offset}, less than '{kind}_layer_period' {period} expected"
            )
        return [index % period == offset for index in range(self.config.integer("num_hidden_layers"))]

    @property
    def attending(self) -> list[bool]:
        """Which layers have attention in place of a mixer."""
        layers = self.chosen_layers("attn")
        if all(layers) or not any(layers):
            # Its memory for such hybrids has a part for each kind of layer, and none may be empty.
            period, offset = self.config.integer("attn_layer_period"), self.config.integer("attn_layer_offset", 0)
            raise ArchitectureError(
                f"config.json: 'attn_layer_period' is {period} and 'attn_layer_offset' {offset}: {sum(layers)} of "
                f"{len(layers)} layers have attention, but llama.cpp runs {self.arch} only with layers of both kinds"
            )
        return layers

    @property
    def mixture(self) -> Mixture | None:
        with_experts = self.chosen_layers("expert")
        if self.config.integer("num_experts") == 1 or not any(with_experts):
            return None
        return Mixture.of(self.config, "num_experts", "num_experts_per_tok", "intermediate_size", layers=with_experts)

    @property
    def heads(self) -> int:
        heads = self.config.integer("num_attention_heads")
        if self.embedding_length % heads:
            raise ArchitectureError(
                f"config.json: hidden_size {self.embedding_length} is not a multiple of num_attention_heads {heads}"
            )
        if self.config.optional_integer("head_dim") not in (None, self.embedding_length // heads):
            raise self.config.refusal(
                "head_dim",
                f"but llama.cpp runs {self.arch} only with hidden_size / num_attention_heads = "
                f"{self.embedding_length // heads}",
            )
        return heads

    @property
    def kv_heads(self) -> int:
        kv_heads = self.config.integer("num_key_value_heads")
        if self.heads % kv_heads:
            raise ArchitectureError(
                f"config.json: num_attention_heads {self.heads} is not a multiple of num_key_value_heads {kv_heads}"
            )
        return kv_heads

    def key_values(self) -> list[KeyValue]:
        config, arch = self.config, self.arch
        config.one_of("hidden_act", "silu")
        config.one_of("mamba_proj_bias", False)
        kv_heads = [self.kv_heads if attends else 0 for attends in self.attending]
        mixture = self.mixture
        return [
            uint32(f"{arch}.block_count", config.integer("num_hidden_layers")),
            uint32(f"{arch}.context_length", config.integer("max_position_embeddings")),
            uint32(f"{arch}.embedding_length", self.embedding_length),
            uint32(f"{arch}.feed_forward_length", config.integer("intermediate_size")),
            uint32(f"{arch}.attention.head_count", self.heads),
            array(f"{arch}.attention.head_count_kv", kv_heads, GGUFValueType.INT32),
            float32(f"{arch}.attention.layer_norm_rms_epsilon", config.number("rms_norm_eps")),
            *self.mixer_key_values(),
            *(mixture.key_values(arch, COUNTS) if mixture else ()),
        ]

    @property
    def layers(self) -> list[Layer]:
        kinds = ["attention" if attends else "mamba" for attends in self.attending]
        return stack(self.source_name("blk"), kinds)

    def block(self, layer: Layer) -> Iterator[TargetTensor]:
        width, mixture = (self.embedding_length,), self.mixture
        shape = (self.config.integer("intermediate_size"), self.embedding_length)
        yield self.tensor(f"{layer.target}.attn_norm.weight", f"{layer.source}.input_layernorm.weight", width)
        yield from self.attention(layer) if layer.kind == "attention" else self.mixer(layer)
        yield self.tensor(f"{layer.target}.ffn_norm.weight", f"{layer.source}.pre_ff_layernorm.weight", width)
        if mixture and mixture.stands_in(layer):
            yield from self.projection(layer, "ffn_gate_inp", (mixture.experts, self.embedding_length))
            yield from expert_stacks(self, layer, (mixture.experts, *shape))
        else:
            yield from gated_projections(self, layer, shape)

    def attention(self, layer: Layer) -> Iterator[TargetTensor]:
        width = self.embedding_length
        key = width // self.heads * self.kv_heads
        for part, rows in (("attn_q", width), ("attn_k", key), ("attn_v", key), ("attn_output", width)):
            yield from self.projection(layer, part, (rows, width))

    def mixer(self, layer: Layer) -> Iterator[TargetTensor]:
        yield from super().mixer(layer)
        for name, elements in (("dt", self.time_step_rank), ("b", self.state), ("c", self.state)):
            norm = f"{layer.source}.{self.place}.{name}_layernorm.weight"
            yield self.tensor(f"{layer.target}.ssm_{name}_norm.weight", norm, (elements,))
