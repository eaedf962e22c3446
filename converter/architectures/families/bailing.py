"""Ling, by its first name Bailing: mixtures of experts with one fused projection. transformers has no class for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from converter.architectures.parts.decoder import Llama
from converter.architectures.parts.experts import expert_counts, expert_key_values, expert_stacks, shared_expert
from converter.architectures.parts.rope import rotated_elements
from converter.architectures.parts.sigmoid_experts import SigmoidExperts
from converter.architectures.target import Piece, RowMap, TargetTensor, rotary_pairs, row_run
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, boolean, float32, uint32


class Bailing(Llama):
    """What both generations share.

    Attributes:
        computed: for each of these fields, the values with which llama.cpp computes what the model does.
    """

    computed: ClassVar[dict[str, tuple[Any, ...]]] = {}

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

    @property
    def fused_rows(self) -> int:
        """Rows of the projection that gives all queries, then all keys, then all values."""
        return (self.heads + 2 * self.kv_heads) * self.head_dim

    def tensors(self) -> Iterator[TargetTensor]:
        shape = (self.vocab_size, self.embedding_length)
        yield from self.frequency_factors()
        yield self.tensor("token_embd.weight", "model.word_embeddings.weight", shape)
        for index in range(self.config.integer("num_hidden_layers")):
            yield from self.block(f"blk.{index}", f"model.layers.{index}")
        yield self.tensor("output_norm.weight", "model.norm.weight", shape[1:])
        tied = self.config.flag("tie_word_embeddings") and "lm_head.weight" not in self.sources
        yield self.tensor("output.weight", "model.word_embeddings.weight" if tied else "lm_head.weight", shape)

    def block(self, target: str, source: str) -> Iterator[TargetTensor]:
        width = self.embedding_length
        yield self.tensor(f"{target}.attn_norm.weight", f"{source}.input_layernorm.weight", (width,))
        yield from self.attention(target, f"{source}.attention")
        output = (width, self.heads * self.head_dim)
        yield self.tensor(f"{target}.attn_output.weight", f"{source}.attention.dense.weight", output)
        yield self.tensor(f"{target}.ffn_norm.weight", f"{source}.post_attention_layernorm.weight", (width,))
        yield from self.feed_forward(target, f"{source}.mlp")


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

    @property
    def expert_counts(self) -> tuple[int, int]:
        return expert_counts(self.config, "num_experts", "num_experts_per_tok")

    def key_values(self) -> list[KeyValue]:
        config, arch = self.config, self.arch
        return [
            *super().key_values(),
            *expert_key_values(arch, self.expert_counts),
            uint32(f"{arch}.leading_dense_block_count", 0),
            uint32(f"{arch}.expert_feed_forward_length", config.integer("moe_intermediate_size")),
            uint32(f"{arch}.expert_shared_count", config.integer("num_shared_experts")),
            float32(f"{arch}.expert_weights_scale", 1.0),
            boolean(f"{arch}.expert_weights_norm", config.flag("norm_topk_prob")),
        ]

    def attention(self, target: str, source: str) -> Iterator[TargetTensor]:
        width, head = self.embedding_length, self.head_dim
        queries, keys = self.heads * head, self.kv_heads * head
        fused, bias = f"{source}.query_key_value", self.config.flag("use_qkv_bias")
        self.source(f"{fused}.weight", (self.fused_rows, width))
        if bias:
            self.source(f"{fused}.bias", (self.fused_rows,))
        maps = {
            "q": rotary_pairs(self.heads, head),
            "k": RowMap(queries, rotary_pairs(self.kv_heads, head).loops),
            "v": row_run(queries + keys, keys),
        }
        for name, rows in maps.items():
            yield TargetTensor(f"{target}.attn_{name}.weight", (rows.rows, width), (Piece(f"{fused}.weight", rows),))
            if bias:
                yield TargetTensor(f"{target}.attn_{name}.bias", (rows.rows,), (Piece(f"{fused}.bias", rows),))

    def feed_forward(self, target: str, source: str) -> Iterator[TargetTensor]:
        experts, width = self.expert_counts[0], self.embedding_length
        inner = self.config.integer("moe_intermediate_size")
        shared = inner * self.config.integer("num_shared_experts")
        yield self.tensor(f"{target}.ffn_gate_inp.weight", f"{source}.gate.weight", (experts, width))
        yield from expert_stacks(self, target, f"{source}.experts", (experts, inner, width))
        yield from shared_expert(self, target, f"{source}.shared_experts", (shared, width))


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
    def expert_counts(self) -> tuple[int, int]:
        experts, used = super().expert_counts
        if used == 1:
            raise ArchitectureError(
                "config.json: 'num_experts_per_tok' is 1; the model then weighs an expert by its score, llama.cpp by 1"
            )
        return experts, used

    def attention(self, target: str, source: str) -> Iterator[TargetTensor]:
        shape = (self.fused_rows, self.embedding_length)
        yield self.tensor(f"{target}.attn_qkv.weight", f"{source}.query_key_value.weight", shape)
        for name, norm in (("q", "query"), ("k", "key")):
            yield self.tensor(
                f"{target}.attn_{name}_norm.weight", f"{source}.{norm}_layernorm.weight", (self.head_dim,)
            )

    def router(self, source: str) -> tuple[str, str]:
        return f"{source}.gate.weight", f"{source}.gate.expert_bias"
