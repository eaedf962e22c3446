"""Ling, by its first name Bailing: mixtures of experts with one fused projection. transformers has no class for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from converter.architectures.layer import Layer, Names
from converter.architectures.parts.decoder import Decoder
from converter.architectures.parts.experts import COUNTS, Mixture, expert_counts
from converter.architectures.parts.rope import rotated_elements
from converter.architectures.parts.sigmoid_experts import SigmoidExperts
from converter.architectures.target import RowMap, TargetTensor, rotary_pairs, row_run
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue


class Bailing(Decoder):
    """What both generations share.

    Attributes:
        computed: for each of these fields, the values with which llama.cpp computes what the model does.
    """

    computed: ClassVar[dict[str, tuple[Any, ...]]] = {}
    names: ClassVar[Names] = {
        **Decoder.names,
        "token_embd": "model.word_embeddings",
        "attn_qkv": "attention.query_key_value",
        "attn_output": "attention.dense",
        "attn_q_norm": "attention.query_layernorm",
        "attn_k_norm": "attention.key_layernorm",
        "exp_probs_b": "mlp.gate.expert_bias",
    }
    body = ""
    needs_output = True

    def key_values(self) -> list[KeyValue]:
        for name in ("use_bias", "use_sliding_window"):
            self.config.one_of(name, False, None)
        if self.config.flag("norm_head"):
            raise ArchitectureError(
                "config.json: 'norm_head' is True; an output matrix to be divided by the norms of its columns is not "
                "supported"
            )
        for name, values in self.computed.items():
            self.config.one_of(name, *values)
        return super().key_values()


class BailingMoe(Bailing):
    """Ling 1 and 1.5: experts in every layer, weighed by a softmax."""

    classes = ("BailingMoeForCausalLM",)
    arch = "bailingmoe"
    defaults: ClassVar = {
        "max_position_embeddings": 16384,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "use_bias": True,
        "norm_topk_prob": True,
    }
    computed: ClassVar = {
        "first_k_dense_replace": (0, None),
        "moe_router_enable_expert_bias": (False, None),
        "multi_gate": (False, None),
        "n_group": (0, 1, None),
        "partial_rotary_factor": (1.0, None),
        "score_function": ("softmax", None),
        "use_qk_norm": (False, None),
    }
    mixture_keys = (
        *COUNTS,
        "leading_dense_block_count",
        "expert_feed_forward_length",
        "expert_shared_count",
        "expert_weights_scale",
        "expert_weights_norm",
    )

    @property
    def mixture(self) -> Mixture:
        config, length = self.config, self.config.integer("moe_intermediate_size")
        shared = config.integer("num_shared_experts")
        return Mixture(
            *expert_counts(config, "num_experts", "num_experts_per_tok"),
            length,
            shared=shared,
            shared_length=shared * length,
            scale=1.0,
            normalized=config.flag("norm_topk_prob"),
        )

    def key_values(self) -> list[KeyValue]:
        return [*super().key_values(), *self.mixture_key_values()]

    def attention(self, layer: Layer) -> Iterator[TargetTensor]:
        head = self.head_dim
        queries, keys = self.heads * head, self.kv_heads * head
        maps = {
            "attn_q": rotary_pairs(self.heads, head),
            "attn_k": RowMap(queries, rotary_pairs(self.kv_heads, head).loops),
            "attn_v": row_run(queries + keys, keys),
        }
        yield from self.cut(layer, queries + 2 * keys, maps, bias=self.config.flag("use_qkv_bias"))
        yield from self.projection(layer, "attn_output", (self.embedding_length, queries))

    def choice_bias(self, layer: Layer, mixture: Mixture) -> Iterator[TargetTensor]:
        yield from ()


class BailingMoeV2(Bailing, SigmoidExperts):
    """Ling 2: norms on heads, rope on part of them, experts in groups, chosen and weighed as DeepSeek V3's."""

    classes = ("BailingMoeV2ForCausalLM",)
    arch = "bailingmoe2"
    defaults: ClassVar = {
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "rope_theta": 600000.0,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "first_k_dense_replace": 1,
        "moe_intermediate_size": 512,
        "num_experts": 256,
        "num_experts_per_tok": 8,
        "num_shared_experts": 1,
        "n_group": 8,
        "topk_group": 4,
        "norm_topk_prob": True,
        "routed_scaling_factor": 1.0,
        "score_function": "sigmoid",
        "use_qk_norm": True,
    }
    #: The model divides by the sum of the chosen weights whatever ``norm_topk_prob`` says.
    computed: ClassVar = {
        "norm_topk_prob": (True,),
        "score_function": ("sigmoid",),
        "use_qk_norm": (True,),
        "use_qkv_bias": (False, None),
    }
    takes_head_dim = False
    count_field = "num_experts"
    shared_field = "num_shared_experts"

    @property
    def rotary_dim(self) -> int:
        """``rotary_dim`` itself, or a share of the head; no default, as the model's code and llama.cpp's differ."""
        config, head = self.config, self.head_dim
        if "rotary_dim" not in config:
            return rotated_elements(config, head, config.number("partial_rotary_factor"))
        rotated = config.integer("rotary_dim")
        if rotated > head or rotated % 2:
            raise ArchitectureError(
                f"config.json: 'rotary_dim' is {rotated}, an even number up to the {head} elements of a head expected"
            )
        return rotated

    @property
    def query_bias(self) -> bool:
        return False

    @property
    def mixture(self) -> Mixture:
        if self.config.integer("num_experts_per_tok") == 1:
            raise ArchitectureError(
                "config.json: 'num_experts_per_tok' is 1; the model then weighs an expert by its score, llama.cpp by 1"
            )
        return super().mixture

    def attention(self, layer: Layer) -> Iterator[TargetTensor]:
        fused = ((self.heads + 2 * self.kv_heads) * self.head_dim, self.embedding_length)
        yield from self.projection(layer, "attn_qkv", fused)
        yield from self.head_norms(layer)
        yield from self.projection(layer, "attn_output", (self.embedding_length, self.heads * self.head_dim))
