"""DeepSeek V2 and V3: keys and values compressed into one latent vector, experts beside shared ones.

llama.cpp runs the attention on the latent vectors themselves, as one key-value head (arXiv:2405.04434, section 2.1):
the keys' half of ``kv_b_proj`` is applied to the queries, so it is stored transposed for each head; the values' half is
applied to what the attention returns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar

from converter.architectures.facts import LINEAR_BY_NAME
from converter.architectures.layer import Layer, Names
from converter.architectures.parts.decoder import Decoder
from converter.architectures.parts.experts import (
    CHOICE,
    COUNTS,
    SOFTMAX,
    Mixture,
    expert_counts,
    leading_dense,
    sigmoid_choice,
    weights_scale,
)
from converter.architectures.parts.rope import Rope, yarn_scale
from converter.architectures.target import Piece, RowMap, TargetTensor, row_run
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, float32, string, uint32


class DeepseekV2(Decoder):
    classes = ("DeepseekV2ForCausalLM",)
    arch = "deepseek2"
    in_transformers: ClassVar = {"deepseek_v2": LINEAR_BY_NAME}
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
    names: ClassVar[Names] = {
        **Decoder.names,
        "attn_q_a": "self_attn.q_a_proj",
        "attn_q_a_norm": "self_attn.q_a_layernorm",
        "attn_q_b": "self_attn.q_b_proj",
        "attn_kv_a_mqa": "self_attn.kv_a_proj_with_mqa",
        "attn_kv_a_norm": "self_attn.kv_a_layernorm",
        "attn_kv_b": "self_attn.kv_b_proj",
    }
    predicts_ahead = True
    mixture_keys = (
        "leading_dense_block_count",
        "expert_feed_forward_length",
        "expert_shared_count",
        *COUNTS,
        *CHOICE,
    )

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
    def mixture(self) -> Mixture | None:
        counts = expert_counts(self.config, "n_routed_experts", "num_experts_per_tok")
        length, shared = self.config.integer("moe_intermediate_size"), self.config.integer("n_shared_experts")
        return Mixture(
            *counts,
            length,
            dense=self.dense_layers,
            shared=shared,
            shared_length=shared * length,
            **self.choice(counts[0]),
        )

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
            *self.mixture_key_values(),
        ]

    def choice(self, experts: int) -> dict[str, Any]:
        """How a token's experts are chosen and weighed, as arguments of :class:`Mixture`."""
        # llama.cpp weighs a group by the sum of its two best experts, V2 by its best.
        self.config.one_of("topk_method", "greedy")
        self.config.one_of("norm_topk_prob", False)
        return {"gating": SOFTMAX, "scale": weights_scale(self.config)}

    def frequency_factors(self) -> Iterator[TargetTensor]:
        yield from ()

    def attention(self, layer: Layer) -> Iterator[TargetTensor]:
        width, heads, rank = self.embedding_length, self.heads, self.rank
        value, query_rank = self.value_dim, self.query_rank
        if query_rank:
            yield from self.projection(layer, "attn_q_a", (query_rank, width))
            yield from self.layer_norm(layer, "attn_q_a_norm", query_rank)
            yield self.paired(layer, "attn_q_b", heads, query_rank)
        else:
            yield self.paired(layer, "attn_q", heads, width)
        yield self.paired(layer, "attn_kv_a_mqa", 1, width, plain=rank)
        yield from self.layer_norm(layer, "attn_kv_a_norm", rank)
        both, plain = f"{self.source_name('attn_kv_b', layer)}.weight", self.plain_dim
        self.source(both, (heads * (plain + value), rank))
        keys = (Piece(both, transposed=True, within=(head * (plain + value), plain)) for head in range(heads))
        yield TargetTensor(f"{layer.target}.attn_k_b.weight", (heads, rank, plain), tuple(keys))
        values = RowMap(plain, ((heads, plain + value), (value, 1)))
        yield TargetTensor(f"{layer.target}.attn_v_b.weight", (heads, value, rank), (Piece(both, values),))
        yield from self.projection(layer, "attn_output", (width, heads * value))

    def paired(self, layer: Layer, part: str, heads: int, row_length: int, plain: int | None = None) -> TargetTensor:
        """A projection whose heads end in rotated rows, which become neighbours where the source rotates halves."""
        target, source = f"{layer.target}.{part}.weight", f"{self.source_name(part, layer)}.weight"
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


class DeepseekV3(DeepseekV2):
    """DeepSeek V3 and R1, Moonlight, Kimi K2: sigmoid gates, a choice among the best groups of experts."""

    classes = ("DeepseekV3ForCausalLM",)
    in_transformers: ClassVar = {"deepseek_v3": LINEAR_BY_NAME}
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

    names: ClassVar[Names] = {**DeepseekV2.names, "exp_probs_b": "mlp.gate.e_score_correction_bias"}

    @property
    def interleaved(self) -> bool:
        return self.config.flag("rope_interleave")

    def choice(self, experts: int) -> dict[str, Any]:
        return sigmoid_choice(self.config, experts)


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
    def mixture(self) -> None:
        return None

    def mixture_key_values(self) -> list[KeyValue]:
        """What llama.cpp insists on though no layer has experts."""
        return [
            uint32(f"{self.arch}.leading_dense_block_count", self.config.integer("num_hidden_layers")),
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
