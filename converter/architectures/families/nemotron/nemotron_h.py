"""Nemotron-H and Nemotron 3: each layer is one of a Mamba 2 mixer, attention without rope, a feed-forward, experts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from gguf import GGUFValueType

from converter.architectures.families.state_space.mamba2 import Mamba2Mixer
from converter.architectures.family import Family
from converter.architectures.layer import Layer, Names, stack
from converter.architectures.parts.experts import (
    CHOICE,
    LENGTH,
    Mixture,
    expert_counts,
    expert_stacks,
    gated_projections,
    sigmoid_choice,
)
from converter.architectures.target import TargetTensor
from converter.checkpoints.tensor import SourceTensor
from converter.gguf.key_values import KeyValue, array, float32, uint32

#: Letters of ``hybrid_override_pattern`` and the words of other releases.
KINDS = {
    "M": "mamba",
    "*": "attention",
    "-": "mlp",
    "E": "moe",
    "linear_attention": "mamba",
    "full_attention": "attention",
    **{kind: kind for kind in ("mamba", "attention", "mlp", "moe")},
}

#: config.json's fields for it: that of the published files, and transformers'.
PATTERNS = ("hybrid_override_pattern", "layers_block_type")

#: What llama.cpp reads of the experts.
MIXTURE_KEYS = (
    *LENGTH,
    "expert_shared_feed_forward_length",
    "expert_shared_count",
    "moe_latent_size",
    *CHOICE,
)


class NemotronH(Family):
    classes = ("NemotronHForCausalLM",)
    arch = "nemotron_h"
    defaults: ClassVar = {
        "max_position_embeddings": 4096,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": 21504,
        "mlp_hidden_act": "relu2",
        "mamba_hidden_act": "silu",
        "ssm_state_size": 128,
        "mamba_num_heads": 128,
        "mamba_head_dim": 64,
        "n_groups": 8,
        "conv_kernel": 4,
        "use_conv_bias": True,
        "n_routed_experts": 8,
        "n_shared_experts": 1,
        "moe_intermediate_size": 7688,
        "moe_shared_expert_intermediate_size": 7688,
        "num_experts_per_tok": 2,
        "routed_scaling_factor": 1.0,
        "n_group": 1,
        "topk_group": 1,
        "norm_topk_prob": True,
        "layer_norm_epsilon": 1e-5,
    }
    aliases: ClassVar[Mapping[str, str]] = {
        "layer_types": "layers_block_type",
        "mamba_n_groups": "n_groups",
        "mamba_d_conv": "conv_kernel",
        "mamba_dt_limit": "time_step_limit",
        "mamba_conv_bias": "use_conv_bias",
    }
    #: The published files' names of the whole, and those of transformers 5.
    names: ClassVar[Names] = {
        "token_embd": ("backbone.embeddings", "model.embeddings"),
        "blk": ("backbone.layers", "model.layers"),
        "output_norm": ("backbone.norm_f", "model.norm_f"),
        "output": "lm_head",
        "attn_q": "mixer.q_proj",
        "attn_k": "mixer.k_proj",
        "attn_v": "mixer.v_proj",
        "attn_output": "mixer.o_proj",
        "ffn_up": "mixer.up_proj",
        "ffn_down": "mixer.down_proj",
        "ffn_gate_inp": "mixer.gate",
        "exp_probs_b": "mixer.gate.e_score_correction_bias",
        "ffn_latent_down": "mixer.fc1_latent_proj",
        "ffn_latent_up": "mixer.fc2_latent_proj",
        "ffn_up_exps": ("mixer.experts.up_proj", "mixer.experts.*.up_proj"),
        "ffn_down_exps": ("mixer.experts.down_proj", "mixer.experts.*.down_proj"),
        "ffn_up_shexp": "mixer.shared_experts.up_proj",
        "ffn_down_shexp": "mixer.shared_experts.down_proj",
    }
    #: Layers that predict several tokens ahead, which transformers does not run either.
    skipped = (*Family.skipped, r"mtp\..*")

    def __init__(self, config: Mapping[str, Any], sources: Mapping[str, SourceTensor]) -> None:
        super().__init__(config, sources)
        self.has_experts = "moe" in self.kinds
        if self.has_experts:
            self.arch = "nemotron_h_moe"

    @property
    def kinds(self) -> list[str]:
        """The kind of each layer: a key of ``KINDS`` for each, in a list or, as letters, in a string."""
        field = next((name for name in PATTERNS if name in self.config), PATTERNS[-1])
        kinds = self.config.kinds(field, KINDS)
        if "moe" in kinds and "mlp" in kinds:
            raise self.config.refusal(
                field,
                "but llama.cpp runs this family only with feed-forwards that all have experts or all have none",
            )
        return kinds

    @property
    def width(self) -> int:
        return self.config.integer("hidden_size")

    @property
    def mixer(self) -> Mamba2Mixer:
        config = self.config
        inner = config.integer("mamba_num_heads") * config.integer("mamba_head_dim")
        names = ("mamba_num_heads", "mamba_head_dim", "n_groups", "ssm_state_size", "conv_kernel")
        return Mamba2Mixer.of(config, self.width, inner, names, bias=config.flag("use_conv_bias"))

    def key_values(self) -> list[KeyValue]:
        config, arch = self.config, self.arch
        config.one_of("mlp_hidden_act", "relu2")
        config.one_of("mamba_hidden_act", "silu")
        for name in ("use_bias", "attention_bias", "mlp_bias", "mamba_proj_bias"):
            config.one_of(name, False, None)
        config.one_of("sliding_window", None)
        length = config.integer("moe_intermediate_size" if self.has_experts else "intermediate_size")
        heads = config.integer("num_key_value_heads")
        feed_forwards = [length if kind in ("mlp", "moe") else 0 for kind in self.kinds]
        key_heads = [heads if kind == "attention" else 0 for kind in self.kinds]
        return [
            uint32(f"{arch}.block_count", len(self.kinds)),
            uint32(f"{arch}.context_length", config.integer("max_position_embeddings")),
            uint32(f"{arch}.embedding_length", self.width),
            uint32(f"{arch}.vocab_size", self.vocab_size),
            array(f"{arch}.feed_forward_length", feed_forwards, GGUFValueType.INT32),
            uint32(f"{arch}.attention.head_count", config.integer("num_attention_heads")),
            array(f"{arch}.attention.head_count_kv", key_heads, GGUFValueType.INT32),
            uint32(f"{arch}.attention.key_length", config.integer("head_dim")),
            uint32(f"{arch}.attention.value_length", config.integer("head_dim")),
            float32(f"{arch}.attention.layer_norm_epsilon", config.number("layer_norm_epsilon")),
            float32(f"{arch}.attention.layer_norm_rms_epsilon", config.number("layer_norm_epsilon")),
            *self.mixer.key_values(arch),
            *(self.mixture.key_values(arch, MIXTURE_KEYS) if self.has_experts else []),
        ]

    @property
    def mixture(self) -> Mixture:
        config = self.config
        counts = expert_counts(config, "n_routed_experts", "num_experts_per_tok")
        return Mixture(
            *counts,
            config.integer("moe_intermediate_size"),
            shared=config.integer("n_shared_experts"),
            shared_length=config.integer("moe_shared_expert_intermediate_size"),
            latent=config.integer("moe_latent_size") if "moe_latent_size" in config else None,
            **sigmoid_choice(config, counts[0]),
        )

    def tensors(self) -> Iterator[TargetTensor]:
        width, vocabulary = (self.width,), (self.vocab_size, self.width)
        make = {"mamba": self.mamba, "attention": self.attention, "mlp": self.feed_forward, "moe": self.experts}
        yield self.tensor("token_embd.weight", f"{self.source_name('token_embd')}.weight", vocabulary)
        for layer in stack(self.source_name("blk"), self.kinds):
            yield self.tensor(f"{layer.target}.attn_norm.weight", f"{layer.source}.norm.weight", width)
            yield from make[layer.kind](layer)
        yield self.tensor("output_norm.weight", f"{self.source_name('output_norm')}.weight", width)
        if not self.config.flag("tie_word_embeddings") or "lm_head.weight" in self.sources:
            yield self.tensor("output.weight", "lm_head.weight", vocabulary)

    def mamba(self, layer: Layer) -> Iterator[TargetTensor]:
        yield from self.mixer.tensors(self, layer, "mixer")

    def attention(self, layer: Layer) -> Iterator[TargetTensor]:
        config, head_dim = self.config, self.config.integer("head_dim")
        query, key = (config.integer(f"num_{name}_heads") * head_dim for name in ("attention", "key_value"))
        for part, rows in (("attn_q", query), ("attn_k", key), ("attn_v", key)):
            yield from self.projection(layer, part, (rows, self.width))
        yield from self.projection(layer, "attn_output", (self.width, query))

    def feed_forward(self, layer: Layer) -> Iterator[TargetTensor]:
        yield from gated_projections(self, layer, (self.config.integer("intermediate_size"), self.width))

    def experts(self, layer: Layer) -> Iterator[TargetTensor]:
        """Experts of two projections, without a gate, beside a shared one."""
        mixture, width = self.mixture, self.width
        seen = mixture.latent or width
        yield from self.projection(layer, "ffn_gate_inp", (mixture.experts, width))
        bias = self.source_name("exp_probs_b", layer)
        yield self.tensor(f"{layer.target}.exp_probs_b.bias", bias, (mixture.experts,))
        if mixture.latent:
            yield from self.projection(layer, "ffn_latent_down", (seen, width))
            yield from self.projection(layer, "ffn_latent_up", (width, seen))
        yield from expert_stacks(self, layer, (mixture.experts, mixture.length, seen))
        yield from gated_projections(self, layer, (mixture.shared_length, width), "_shexp")
