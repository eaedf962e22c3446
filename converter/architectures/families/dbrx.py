"""DBRX: a mixture of experts behind layer norms without biases; queries, keys and values fused and clipped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from converter.architectures.hyperparameters import Hyperparameters
from converter.architectures.layer import Layer
from converter.architectures.parts.experts import Mixture
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
    names: ClassVar = {
        "token_embd": "transformer.wte",
        "blk": "transformer.blocks",
        "output_norm": "transformer.norm_f",
        "output": "lm_head",
        "attn_norm": "norm_attn_norm.norm_1",
        "attn_qkv": "norm_attn_norm.attn.Wqkv",
        "attn_output": "norm_attn_norm.attn.out_proj",
        "attn_output_norm": "norm_attn_norm.norm_2",
        "ffn_gate_inp": "ffn.router.layer",
        "ffn_gate_exps": "ffn.experts.mlp.w1",
        "ffn_up_exps": "ffn.experts.mlp.v1",
        "ffn_down_exps": "ffn.experts.mlp.w2",
    }
    layout = ("attn_norm", "attention", "attn_output_norm", "feed_forward")
    # The activation stands in ffn_config.
    activations = ()
    norm_bias = False
    needs_output = True

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
    def mixture(self) -> Mixture:
        return Mixture.of(self.experts_config, "moe_num_experts", "moe_top_k", "ffn_hidden_size")

    @property
    def norm_epsilon(self) -> KeyValue:
        """No field of config.json: transformers' layer norms have PyTorch's default."""
        return float32(f"{self.arch}.attention.layer_norm_epsilon", 1e-5)

    def key_values(self) -> list[KeyValue]:
        return [
            *super().key_values(),
            float32(f"{self.arch}.attention.clamp_kqv", self.attention_config.number("clip_qkv")),
            *self.mixture_key_values(),
        ]

    def stacks(self, layer: Layer, mixture: Mixture) -> Iterator[TargetTensor]:
        """Experts lie one below the other, all as (inner, width), so the down projections transposed."""
        experts, inner, width = mixture.experts, mixture.length, self.embedding_length
        gate, up, down = (self.source_name(f"ffn_{name}_exps", layer) for name in ("gate", "up", "down"))
        for name in (gate, up, down):
            self.source(name, (experts * inner, width))
        for projection, name in (("gate", gate), ("up", up)):
            yield TargetTensor(f"{layer.target}.ffn_{projection}_exps.weight", (experts, inner, width), (Piece(name),))
        pieces = (Piece(down, transposed=True, within=(expert * inner, inner)) for expert in range(experts))
        yield TargetTensor(f"{layer.target}.ffn_down_exps.weight", (experts, width, inner), tuple(pieces))
