"""Nemotron-H and Nemotron 3: each layer is one of a Mamba 2 mixer, attention without rope, a feed-forward, experts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from gguf import GGUFValueType

from converter.architectures.families.state_space.mamba2 import Mamba2Mixer
from converter.architectures.family import Family
from converter.architectures.parts.experts import expert_counts, expert_key_values, sigmoid_choice
from converter.architectures.target import Piece, TargetTensor
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
    #: Layers that predict several tokens ahead, which transformers does not run either.
    skipped = (*Family.skipped, r"mtp\..*")

    def __init__(self, config: Mapping[str, Any], sources: Mapping[str, SourceTensor]) -> None:
        super().__init__(config, sources)
        self.has_experts = "moe" in self.layers
        if self.has_experts:
            self.arch = "nemotron_h_moe"

    @property
    def layers(self) -> list[str]:
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
        feed_forwards = [length if kind in ("mlp", "moe") else 0 for kind in self.layers]
        key_heads = [heads if kind == "attention" else 0 for kind in self.layers]
        return [
            uint32(f"{arch}.block_count", len(self.layers)),
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
            *(self.mixture_key_values() if self.has_experts else []),
        ]

    @property
    def expert_counts(self) -> tuple[int, int]:
        return expert_counts(self.config, "n_routed_experts", "num_experts_per_tok")

    def mixture_key_values(self) -> list[KeyValue]:
        config, arch = self.config, self.arch
        shared = config.integer("moe_shared_expert_intermediate_size")
        latent = [uint32(f"{arch}.moe_latent_size", config.integer("moe_latent_size"))] if self.latent else []
        return [
            *expert_key_values(arch, self.expert_counts),
            uint32(f"{arch}.expert_feed_forward_length", config.integer("moe_intermediate_size")),
            uint32(f"{arch}.expert_shared_feed_forward_length", shared),
            uint32(f"{arch}.expert_shared_count", config.integer("n_shared_experts")),
            *latent,
            *sigmoid_choice(config, arch, self.expert_counts[0]),
        ]

    @property
    def latent(self) -> bool:
        """Whether experts work on a projection of the hidden state."""
        return "moe_latent_size" in self.config

    def tensors(self) -> Iterator[TargetTensor]:
        # transformers 5 keeps the layers under another name than the published files.
        root = "backbone" if "backbone.embeddings.weight" in self.sources else "model"
        width, vocabulary = (self.width,), (self.vocab_size, self.width)
        make = {"mamba": self.mamba, "attention": self.attention, "mlp": self.feed_forward, "moe": self.mixture}
        yield self.tensor("token_embd.weight", f"{root}.embeddings.weight", vocabulary)
        for index, kind in enumerate(self.layers):
            target, source = f"blk.{index}", f"{root}.layers.{index}"
            yield self.tensor(f"{target}.attn_norm.weight", f"{source}.norm.weight", width)
            yield from make[kind](target, f"{source}.mixer")
        yield self.tensor("output_norm.weight", f"{root}.norm_f.weight", width)
        if not self.config.flag("tie_word_embeddings") or "lm_head.weight" in self.sources:
            yield self.tensor("output.weight", "lm_head.weight", vocabulary)

    def mamba(self, target: str, source: str) -> Iterator[TargetTensor]:
        yield from self.mixer.tensors(self, target, source)

    def attention(self, target: str, source: str) -> Iterator[TargetTensor]:
        config, head_dim = self.config, self.config.integer("head_dim")
        query, key = (config.integer(f"num_{name}_heads") * head_dim for name in ("attention", "key_value"))
        for name, rows in (("q", query), ("k", key), ("v", key)):
            yield self.tensor(f"{target}.attn_{name}.weight", f"{source}.{name}_proj.weight", (rows, self.width))
        yield self.tensor(f"{target}.attn_output.weight", f"{source}.o_proj.weight", (self.width, query))

    def feed_forward(self, target: str, source: str) -> Iterator[TargetTensor]:
        width, hidden = self.width, self.config.integer("intermediate_size")
        yield self.tensor(f"{target}.ffn_up.weight", f"{source}.up_proj.weight", (hidden, width))
        yield self.tensor(f"{target}.ffn_down.weight", f"{source}.down_proj.weight", (width, hidden))

    def mixture(self, target: str, source: str) -> Iterator[TargetTensor]:
        """Experts of two projections, without a gate, beside a shared one."""
        config, experts, width = self.config, self.expert_counts[0], self.width
        inner, shared = config.integer("moe_intermediate_size"), config.integer("moe_shared_expert_intermediate_size")
        seen = config.integer("moe_latent_size") if self.latent else width
        yield self.tensor(f"{target}.ffn_gate_inp.weight", f"{source}.gate.weight", (experts, width))
        yield self.tensor(f"{target}.exp_probs_b.bias", f"{source}.gate.e_score_correction_bias", (experts,))
        if self.latent:
            yield self.tensor(f"{target}.ffn_latent_down.weight", f"{source}.fc1_latent_proj.weight", (seen, width))
            yield self.tensor(f"{target}.ffn_latent_up.weight", f"{source}.fc2_latent_proj.weight", (width, seen))
        for name, shape in (("up", (inner, seen)), ("down", (seen, inner))):
            stacked, stack = f"{source}.experts.{name}_proj", f"{target}.ffn_{name}_exps.weight"
            if stacked in self.sources:
                yield self.tensor(stack, stacked, (experts, *shape))
                continue
            separate = [f"{source}.experts.{expert}.{name}_proj.weight" for expert in range(experts)]
            for matrix in separate:
                self.source(matrix, shape)
            yield TargetTensor(stack, (experts, *shape), tuple(Piece(matrix) for matrix in separate))
        yield self.tensor(f"{target}.ffn_up_shexp.weight", f"{source}.shared_experts.up_proj.weight", (shared, width))
        yield self.tensor(
            f"{target}.ffn_down_shexp.weight", f"{source}.shared_experts.down_proj.weight", (width, shared)
        )
