"""MiniCPM 3: DeepSeek V2's compressed keys and values, with MiniCPM's multipliers and LongRoPE.

llama.cpp computes keys and values of each head here, not on the latent vectors, so ``kv_b_proj`` stays whole. Its
multipliers are MiniCPM3-4B's, whatever a file says.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.families.deepseek.deepseek import DeepseekV2
from converter.architectures.layer import Layer
from converter.architectures.parts.longrope import LongRope, without_scaling
from converter.architectures.parts.rope import Rope, rope_section
from converter.architectures.target import TargetTensor
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, uint32

#: What llama.cpp has built in.
MULTIPLIERS = {"scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 256}


class MiniCPM3(DeepseekV2):
    classes = ("MiniCPM3ForCausalLM",)
    arch = "minicpm3"
    defaults: ClassVar = {
        "hidden_act": "silu",
        "kv_lora_rank": 256,
        "max_position_embeddings": 32768,
        "q_lora_rank": 768,
        "qk_nope_head_dim": 64,
        "qk_rope_head_dim": 32,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
        **MULTIPLIERS,
    }

    @property
    def interleaved(self) -> bool:
        """llama.cpp's rope rotates halves in this arch, as the model does: no row changes its place."""
        return True

    @property
    def mixture(self) -> None:
        return None

    @property
    def value_dim(self) -> int:
        return self.config.integer("v_head_dim") if "v_head_dim" in self.config else self.embedding_length // self.heads

    @property
    def long_rope(self) -> LongRope | None:
        parameters, scores = rope_section(self.config), "mscale_all_dim"
        if scores in parameters and parameters.number(scores):
            raise parameters.refusal(scores, f"but llama.cpp runs {self.arch} without")
        return LongRope.of(self.config, self.rotary_dim)

    @property
    def rope(self) -> Rope:
        return without_scaling(self.config)

    def key_values(self) -> list[KeyValue]:
        config, arch = self.config, self.arch
        for name, only in {"hidden_act": "silu", **MULTIPLIERS}.items():
            # A multiplier of null stands for another number.
            if config.says_none(name):
                raise config.refusal(name, f"but llama.cpp runs {arch} only with {only}")
            config.one_of(name, only)
        for name in ("attention_bias", "mlp_bias"):
            config.one_of(name, False, None)
        if not self.query_rank:
            raise ArchitectureError(
                f"config.json: 'q_lora_rank' is None, but llama.cpp runs {arch} only with compressed queries"
            )
        # The latent vectors give every head keys and values of its own.
        config.one_of("num_key_value_heads", self.heads, None)
        long_rope = self.long_rope
        return [
            uint32(f"{arch}.block_count", config.integer("num_hidden_layers")),
            uint32(f"{arch}.context_length", config.integer("max_position_embeddings")),
            uint32(f"{arch}.embedding_length", self.embedding_length),
            uint32(f"{arch}.feed_forward_length", self.feed_forward_length),
            uint32(f"{arch}.vocab_size", self.vocab_size),
            uint32(f"{arch}.attention.head_count", self.heads),
            uint32(f"{arch}.attention.head_count_kv", self.heads),
            self.norm_epsilon,
            uint32(f"{arch}.attention.q_lora_rank", self.query_rank),
            uint32(f"{arch}.attention.kv_lora_rank", self.rank),
            uint32(f"{arch}.attention.key_length", self.plain_dim + self.rotary_dim),
            uint32(f"{arch}.attention.value_length", self.value_dim),
            uint32(f"{arch}.rope.dimension_count", self.rotary_dim),
            *self.rope.key_values(arch),
            *(long_rope.key_values(arch) if long_rope else ()),
        ]

    def exact_lengths(self) -> Iterator[tuple[int, str]]:
        yield from super().exact_lengths()
        if self.long_rope is not None:
            yield from self.long_rope.exact_lengths(self.config)

    def frequency_factors(self) -> Iterator[TargetTensor]:
        long_rope = self.long_rope
        if long_rope:
            yield from long_rope.tensors()

    def attention(self, layer: Layer) -> Iterator[TargetTensor]:
        width, heads, rank, value = self.embedding_length, self.heads, self.rank, self.value_dim
        queries, rotated = self.query_rank, self.rotary_dim
        shapes = {
            "attn_q_a": (queries, width),
            "attn_q_b": (heads * (self.plain_dim + rotated), queries),
            "attn_kv_a_mqa": (rank + rotated, width),
            "attn_kv_b": (heads * (self.plain_dim + value), rank),
            "attn_output": (width, heads * value),
        }
        for part, shape in shapes.items():
            yield from self.projection(layer, part, shape)
        yield from self.layer_norm(layer, "attn_q_a_norm", queries)
        yield from self.layer_norm(layer, "attn_kv_a_norm", rank)
