"""DBRX: a mixture of experts behind layer norms without biases; queries, keys and values fused and clipped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from converter.architectures.hyperparameters import Hyperparameters
from converter.architectures.parts.experts import expert_counts, expert_key_values
from converter.architectures.parts.layer_norm import LayerNormDecoder
from converter.architectures.parts.rope import Rope
from converter.architectures.target import Piece, TargetTensor
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, float32


class Dbrx(LayerNormDecoder):
    classes = ("DbrxForCausalLM",)
    arch = "dbrx"
    aliases: ClassVar = {
        "d_model": "hidden_size",
        "n_heads": "num_attention_heads",
        "n_layers": "num_hidden_layers",
        "max_seq_len": "max_position_embeddings",
    }
    # The activation stands in ffn_config.
    activations = ()
    norm_bias = False
    needs_output = True
    embedding = "transformer.wte"
    layers = "transformer.blocks"
    final_norm = "transformer.norm_f"

    def part(self, name: str, defaults: Mapping[str, Any]) -> Hyperparameters:
        """``attn_config`` or ``ffn_config``."""
        return self.config.section(name, defaults)

    @property
    def attention_config(self) -> Hyperparameters:
        return self.part("attn_config", {"kv_n_heads": 1})

    @property
    def experts_config(self) -> Hyperparameters:
        config = self.part(
            "ffn_config",
            {
                "ffn_act_fn": {"name": "silu"},
                "ffn_hidden_size": 3584,
                "moe_normalize_expert_weights": 1,
                "moe_num_experts": 4,
                "moe_top_k": 1,
            },
        )
        config.one_of("ffn_act_fn", {"name": "silu"})
        # An explicit null means weights that are not normalised; an absent field, transformers' default.
        if config.says_none("moe_normalize_expert_weights"):
            raise config.refusal("moe_normalize_expert_weights", "but llama.cpp runs this family only with 1")
        config.one_of("moe_normalize_expert_weights", 1)
        return config

    @property
    def kv_heads(self) -> int:
        kv_heads = self.attention_config.integer("kv_n_heads")
        if self.heads % kv_heads:
            raise ArchitectureError(f"config.json: n_heads {self.heads} is not a multiple of kv_n_heads {kv_heads}")
        return kv_heads

    @property
    def rope(self) -> Rope:
        """``rope_parameters``, or the base that older files have among ``attn_config``."""
        theta = self.attention_config.optional_positive("rope_theta")
        if "rope_parameters" in self.config or theta is None:
            return super().rope
        return Rope.of(self.config.with_fields(rope_theta=theta))

    @property
    def feed_forward_length(self) -> int:
        return self.experts_config.integer("ffn_hidden_size")

    @property
    def expert_counts(self) -> tuple[int, int]:
        return expert_counts(self.experts_config, "moe_num_experts", "moe_top_k")

    @property
    def norm_epsilon(self) -> KeyValue:
        """No field of config.json: transformers' layer norms have PyTorch's default."""
        return float32(f"{self.arch}.attention.layer_norm_epsilon", 1e-5)

    def key_values(self) -> list[KeyValue]:
        return [
            *super().key_values(),
            float32(f"{self.arch}.attention.clamp_kqv", self.attention_config.number("clip_qkv")),
            *expert_key_values(self.arch, self.expert_counts),
        ]

    def block(self, target: str, source: str) -> Iterator[TargetTensor]:
        width, attention = self.embedding_length, f"{source}.norm_attn_norm"
        fused = width + 2 * self.kv_heads * self.head_dim
        yield from self.norm(f"{target}.attn_norm", f"{attention}.norm_1")
        yield from self.linear(f"{target}.attn_qkv", f"{attention}.attn.Wqkv", (fused, width))
        yield from self.linear(f"{target}.attn_output", f"{attention}.attn.out_proj", (width, width))
        yield from self.norm(f"{target}.attn_output_norm", f"{attention}.norm_2")
        yield from self.linear(f"{target}.ffn_gate_inp", f"{source}.ffn.router.layer", (self.expert_counts[0], width))
        yield from self.experts(target, f"{source}.ffn.experts.mlp")

    def experts(self, target: str, source: str) -> Iterator[TargetTensor]:
        """Experts lie one below the other, all as (inner, width), so the down projections transposed."""
        experts, inner, width = self.expert_counts[0], self.feed_forward_length, self.embedding_length
        for name in ("w1", "v1", "w2"):
            self.source(f"{source}.{name}", (experts * inner, width))
        for projection, name in (("gate", "w1"), ("up", "v1")):
            pieces: tuple[Piece, ...] = (Piece(f"{source}.{name}"),)
            yield TargetTensor(f"{target}.ffn_{projection}_exps.weight", (experts, inner, width), pieces)
        pieces = tuple(
            Piece(f"{source}.w2", transposed=True, within=(expert * inner, inner)) for expert in range(experts)
        )
        yield TargetTensor(f"{target}.ffn_down_exps.weight", (experts, width, inner), pieces)
