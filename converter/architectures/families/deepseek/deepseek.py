"""DeepSeek V2 and V3: keys and values compressed into one latent vector, experts beside shared ones.

llama.cpp runs the attention on the latent vectors themselves, as one key-value head (arXiv:2405.04434, section 2.1):
the keys' half of ``kv_b_proj`` is applied to the queries, so it is stored transposed for each head; the values' half is
applied to what the attention returns.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.parts.decoder import Llama
from converter.architectures.parts.experts import (
    SOFTMAX,
    expert_counts,
    expert_key_values,
    expert_stacks,
    leading_dense,
    shared_expert,
    sigmoid_choice,
)
from converter.architectures.parts.rope import Rope, yarn_scale
from converter.architectures.target import Piece, RowMap, TargetTensor, row_run
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, float32, string, uint32


class DeepseekV2(Llama):
    classes = ("DeepseekV2ForCausalLM",)
    arch = "deepseek2"
    defaults: ClassVar = {
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "first_k_dense_replace": 0,
        "kv_lora_rank": 512,
        "q_lora_rank": 1536,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "n_routed_experts": 64,
        "n_shared_experts": 2,
        "moe_intermediate_size": 1407,
        "routed_scaling_factor": 1.0,
        "topk_method": "greedy",
        "norm_topk_prob": False,
    }

    @property
    def query_rank(self) -> int:
        """Length of the queries' latent vector; 0 where queries are not compressed, which null says."""
        return 0 if self.config.says_none("q_lora_rank") else self.config.integer("q_lora_rank")

    @property
    def rank(self) -> int:
        return self.config.integer("kv_lora_rank")

    @property
    def plain_dim(self) -> int:
        """Elements of a query's or key's head that rope leaves alone; the first ones."""
        return self.config.integer("qk_nope_head_dim")

    @property
    def rotary_dim(self) -> int:
        rotated = self.config.integer("qk_rope_head_dim")
        if rotated % 2:
            raise ArchitectureError(f"config.json: 'qk_rope_head_dim' is {rotated}, an even number expected")
        return rotated

    @property
    def value_dim(self) -> int:
        return self.config.integer("v_head_dim")

    @property
    def expert_counts(self) -> tuple[int, int]:
        return expert_counts(self.config, "n_routed_experts", "num_experts_per_tok")

    @property
    def dense_layers(self) -> int:
        return self.config.integer("first_k_dense_replace", 0)

    @property
    def interleaved(self) -> bool:
        """Whether rope rotates neighbours in the source too."""
        return True

    def warnings(self) -> list[str]:
        epsilon = self.config.number("rms_norm_eps")
        if epsilon == 1e-6:
            return super().warnings()
        return [
            *super().warnings(),
            f"the latent vectors' norms have an epsilon of 1e-06, in llama.cpp the others' {epsilon:g}",
        ]

    def leaves_out(self, source: str) -> bool:
        """Layers beyond num_hidden_layers predict several tokens ahead; transformers does not run them either."""
        layer = re.match(r"model\.layers\.(\d+)\.", source)
        beyond = layer is not None and int(layer[1]) >= self.config.integer("num_hidden_layers")
        return beyond or super().leaves_out(source)

    def key_values(self) -> list[KeyValue]:
        config, arch = self.config, self.arch
        config.one_of("hidden_act", "silu")
        config.one_of("attention_bias", False, None)
        config.one_of("mlp_bias", False, None)
        layers = config.integer("num_hidden_layers")
        if (
            arch == DeepseekV2.arch
            and self.query_rank
            and (layers in (26, 27) or (layers == 48 and self.vocab_size == 128256))
        ):
            raise ArchitectureError(
                f"config.json: 'q_lora_rank' is {self.query_rank}, but llama.cpp takes a model of {layers} layers for "
                "one of DeepSeek-V2-Lite's kind, which has none"
            )
        return [
            uint32(f"{arch}.block_count", layers),
            uint32(f"{arch}.context_length", config.integer("max_position_embeddings")),
            uint32(f"{arch}.embedding_length", self.embedding_length),
            uint32(f"{arch}.feed_forward_length", config.integer("intermediate_size")),
            uint32(f"{arch}.vocab_size", self.vocab_size),
            uint32(f"{arch}.attention.head_count", self.heads),
            uint32(f"{arch}.attention.head_count_kv", 1),
            self.norm_epsilon,
            uint32(f"{arch}.attention.q_lora_rank", self.query_rank),
            uint32(f"{arch}.attention.kv_lora_rank", self.rank),
            uint32(f"{arch}.attention.key_length", self.rank + self.rotary_dim),
            uint32(f"{arch}.attention.value_length", self.rank),
            uint32(f"{arch}.attention.key_length_mla", self.plain_dim + self.rotary_dim),
            uint32(f"{arch}.attention.value_length_mla", self.value_dim),
            uint32(f"{arch}.rope.dimension_count", self.rotary_dim),
            *latent_rope(self.rope, arch),
            uint32(f"{arch}.leading_dense_block_count", self.dense_layers),
            *self.expert_key_values(),
        ]

    def expert_key_values(self) -> list[KeyValue]:
        config, arch = self.config, self.arch
        return [
            uint32(f"{arch}.expert_feed_forward_length", config.integer("moe_intermediate_size")),
            uint32(f"{arch}.expert_shared_count", config.integer("n_shared_experts")),
            *expert_key_values(arch, self.expert_counts),
            *self.choice(),
        ]

    def choice(self) -> list[KeyValue]:
        """How a token's experts are chosen and weighed."""
        # llama.cpp weighs a group by the sum of its two best experts, V2 by its best.
        self.config.one_of("topk_method", "greedy")
        self.config.one_of("norm_topk_prob", False)
        factor = self.config.positive("routed_scaling_factor")
        return [
            uint32(f"{self.arch}.expert_gating_func", SOFTMAX),
            float32(f"{self.arch}.expert_weights_scale", factor),
        ]

    def frequency_factors(self) -> Iterator[TargetTensor]:
        yield from ()

    def attention(self, target: str, source: str) -> Iterator[TargetTensor]:
        width, heads, rank = self.embedding_length, self.heads, self.rank
        value, query_rank = self.value_dim, self.query_rank
        if query_rank:
            yield self.tensor(f"{target}.attn_q_a.weight", f"{source}.q_a_proj.weight", (query_rank, width))
            yield self.tensor(f"{target}.attn_q_a_norm.weight", f"{source}.q_a_layernorm.weight", (query_rank,))
            yield self.paired(f"{target}.attn_q_b.weight", f"{source}.q_b_proj.weight", heads, query_rank)
        else:
            yield self.paired(f"{target}.attn_q.weight", f"{source}.q_proj.weight", heads, width)
        latent = f"{source}.kv_a_proj_with_mqa.weight"
        yield self.paired(f"{target}.attn_kv_a_mqa.weight", latent, 1, width, plain=rank)
        yield self.tensor(f"{target}.attn_kv_a_norm.weight", f"{source}.kv_a_layernorm.weight", (rank,))
        both, plain = f"{source}.kv_b_proj.weight", self.plain_dim
        self.source(both, (heads * (plain + value), rank))
        keys = (Piece(both, transposed=True, within=(head * (plain + value), plain)) for head in range(heads))
        yield TargetTensor(f"{target}.attn_k_b.weight", (heads, rank, plain), tuple(keys))
        values = RowMap(plain, ((heads, plain + value), (value, 1)))
        yield TargetTensor(f"{target}.attn_v_b.weight", (heads, value, rank), (Piece(both, values),))
        yield self.tensor(f"{target}.attn_output.weight", f"{source}.o_proj.weight", (width, heads * value))

    def paired(self, target: str, source: str, heads: int, row_length: int, plain: int | None = None) -> TargetTensor:
        """A projection whose heads end in rotated rows, which become neighbours where the source rotates halves."""
        plain, rotated = self.plain_dim if plain is None else plain, self.rotary_dim
        shape = (heads * (plain + rotated), row_length)
        if self.interleaved:
            return self.tensor(target, source, shape)
        self.source(source, shape)
        pieces = []
        for start in range(0, shape[0], plain + rotated):
            pieces.append(Piece(source, row_run(start, plain)))
            pieces.append(Piece(source, RowMap(start + plain, ((rotated // 2, 1), (2, rotated // 2)))))
        return TargetTensor(target, shape, tuple(pieces))

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
        yield from self.choice_bias(target, source)
        yield from expert_stacks(self, target, f"{source}.experts", (experts, inner, width))
        shared = inner * self.config.integer("n_shared_experts")
        yield from shared_expert(self, target, f"{source}.shared_experts", (shared, width))

    def choice_bias(self, target: str, source: str) -> Iterator[TargetTensor]:
        """What is added to the probabilities for the choice of experts alone."""
        yield from ()


class DeepseekV3(DeepseekV2):
    """DeepSeek V3 and R1, Moonlight, Kimi K2: sigmoid gates, a choice among the best groups of experts."""

    classes = ("DeepseekV3ForCausalLM",)
    defaults: ClassVar = {
        **{name: value for name, value in DeepseekV2.defaults.items() if name != "topk_method"},
        "max_position_embeddings": 4096,
        "first_k_dense_replace": 3,
        "n_routed_experts": 256,
        "n_shared_experts": 1,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 2048,
        "routed_scaling_factor": 2.5,
        "norm_topk_prob": True,
        "n_group": 8,
        "topk_group": 4,
        "rope_interleave": True,
    }

    @property
    def interleaved(self) -> bool:
        return self.config.flag("rope_interleave")

    def choice(self) -> list[KeyValue]:
        return sigmoid_choice(self.config, self.arch, self.expert_counts[0])

    def choice_bias(self, target: str, source: str) -> Iterator[TargetTensor]:
        bias = f"{source}.gate.e_score_correction_bias"
        yield self.tensor(f"{target}.exp_probs_b.bias", bias, (self.expert_counts[0],))


class Glm4MoeLite(DeepseekV3):
    """GLM-4.7 Flash: DeepSeek V3's layers, the dense ones named in a list."""

    classes = ("Glm4MoeLiteForCausalLM",)
    defaults: ClassVar = {
        **{name: value for name, value in DeepseekV3.defaults.items() if name != "first_k_dense_replace"},
        "max_position_embeddings": 202752,
        "rms_norm_eps": 1e-5,
        "n_routed_experts": 64,
        "num_experts_per_tok": 4,
        "q_lora_rank": 768,
        "qk_nope_head_dim": 192,
        "v_head_dim": 256,
        "moe_intermediate_size": 1536,
        "routed_scaling_factor": 1.8,
        "n_group": 1,
        "topk_group": 1,
    }

    @property
    def dense_layers(self) -> int:
        return leading_dense(self.config, self.arch, 1)


class Youtu(DeepseekV3):
    """Youtu-LLM: DeepSeek V3's attention without experts."""

    classes = ("YoutuForCausalLM",)
    defaults: ClassVar = {
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "kv_lora_rank": 512,
        "q_lora_rank": 1536,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "rope_interleave": True,
        "tie_word_embeddings": True,
    }

    @property
    def dense_layers(self) -> int:
        return self.config.integer("num_hidden_layers")

    def expert_key_values(self) -> list[KeyValue]:
        """What llama.cpp insists on though no layer has experts."""
        return [
            uint32(f"{self.arch}.expert_feed_forward_length", self.feed_forward_length),
            uint32(f"{self.arch}.expert_shared_count", 0),
        ]


def latent_rope(rope: Rope, arch: str) -> list[KeyValue]:
    """``{arch}.rope.*`` for attention on latent vectors.

    transformers scales cos and sin by yarn's attention factor a, and attention scores by m², where m is
    ``yarn_scale(factor, mscale_all_dim)``, or 1 without that field. llama.cpp scales cos and sin by ``attn_factor`` and
    the scores by (attn_factor × (1 + 0.1 × l × ln(factor)))², reading 0.1 × l as ``yarn_log_multiplier``; where l is 0,
    another 1 + 0.1 × ln(factor) joins attn_factor. So l follows from m / a.

    Raises:
        ArchitectureError: a scaling that llama.cpp does not run here.
    """
    if rope.scaling not in ("default", "yarn") or rope.by_frequency:
        raise ArchitectureError(
            f"config.json: rope scaling {rope.scaling!r} with these parameters cannot be represented; llama.cpp runs "
            f"{arch} only with 'default', and with 'yarn' of beta_fast 32 and beta_slow 1"
        )
    pairs = [float32(f"{arch}.rope.freq_base", rope.theta)]
    if rope.scaling == "default":
        return pairs
    factor, cosine = rope.factor, rope.attention_factor
    scores = yarn_scale(factor, rope.multiplier("mscale_all_dim"))
    multiplier = (scores / cosine - 1) / math.log(factor) if factor > 1 else 0.0
    return [
        *pairs,
        string(f"{arch}.rope.scaling.type", "yarn"),
        float32(f"{arch}.rope.scaling.factor", factor),
        uint32(f"{arch}.rope.scaling.original_context_length", rope.original_context_length),
        float32(f"{arch}.rope.scaling.attn_factor", cosine if multiplier else cosine / yarn_scale(factor)),
        float32(f"{arch}.rope.scaling.yarn_log_multiplier", multiplier),
    ]
