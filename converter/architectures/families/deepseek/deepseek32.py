"""DeepSeek V3.2: DeepSeek V3 with sparse attention, whose lightning indexer picks the tokens that a query sees.

For each query, an indexer of a few heads scores every token before it; attention then sees the ``index_topk`` best
only, or all while there are no more (transformers, ``DeepseekV32Indexer``). The indexer has queries from the
attention's own latent queries, one key for all its heads behind a layer norm, and a weight for each head. Its rope
rotates halves of the first elements of a head, and llama.cpp's does here too, so its rows stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from converter.architectures.families.deepseek.deepseek import DeepseekV3
from converter.architectures.layer import Layer
from converter.architectures.parts.experts import leading_dense
from converter.architectures.parts.rope import yarn_scale
from converter.architectures.target import TargetTensor
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, float32, uint32

#: Side of the smallest Hadamard matrix that llama.cpp multiplies the indexer's queries and keys by, which leaves their
#: products as they are; a head is as long as the matrix, and the next has twice the side.
HADAMARD = 64


class DeepseekV32(DeepseekV3):
    classes = ("DeepseekV32ForCausalLM",)
    arch = "deepseek32"
    defaults: ClassVar[dict[str, Any]] = {
        **{name: value for name, value in DeepseekV3.defaults.items() if name != "rope_interleave"},
        "max_position_embeddings": 163840,
        "index_topk": 2048,
        "index_head_dim": 128,
        "index_n_heads": 64,
    }

    #: Whether the indexer's rope rotates neighbours, as the attention's always does.
    indexer_interleaved: ClassVar[bool] = False

    @property
    def interleaved(self) -> bool:
        return True

    @property
    def dense_layers(self) -> int:
        usual = self.config.integer("first_k_dense_replace", 0)
        return leading_dense(self.config, self.arch, min(usual, self.config.integer("num_hidden_layers")))

    @property
    def query_rank(self) -> int:
        """Length of the queries' latent vector, from which the indexer's queries come too."""
        if self.config.says_none("q_lora_rank"):
            raise ArchitectureError(
                f"config.json: 'q_lora_rank' is None, but llama.cpp runs {self.arch} only with compressed queries"
            )
        return super().query_rank

    @property
    def index_dim(self) -> int:
        """Elements of an indexer's head, the first of which rope rotates."""
        length = self.config.integer("index_head_dim")
        if length.bit_count() > 1 or length < max(HADAMARD, self.rotary_dim):
            raise ArchitectureError(
                f"config.json: 'index_head_dim' is {length}, but llama.cpp runs {self.arch} only with a power of two "
                f"that is at least {HADAMARD} and 'qk_rope_head_dim' = {self.rotary_dim}"
            )
        return length

    @property
    def index_heads(self) -> int:
        return self.config.integer("index_n_heads")

    @property
    def yarn_factor(self) -> KeyValue:
        """What llama.cpp reads as yarn's attention factor.

        It scales cos and sin by that times s / (1 + l × ln(factor)), where l is ``yarn_log_multiplier`` and s is
        ``yarn_scale(factor)``; in ``deepseek2`` the fraction is 1 unless l is 0. l is such that the divisor times the
        scale of cos and sin is m, whose square multiplies the scores (see ``latent_rope``): so m / s is right here.

        Raises:
            ArchitectureError: yarn does not extend the context, so no l gives m.
        """
        rope = self.rope
        factor = rope.factor
        if not factor > 1:
            raise rope.parameters.refusal("factor", "a number above 1 expected")
        scores = yarn_scale(factor, rope.multiplier("mscale_all_dim"))
        return float32(f"{self.arch}.rope.scaling.attn_factor", scores / yarn_scale(factor))

    def key_values(self) -> list[KeyValue]:
        prefix = f"{self.arch}.attention.indexer"
        self.config.one_of("rope_interleave", True, None)
        self.config.one_of("indexer_rope_interleave", self.indexer_interleaved, None)
        pairs = super().key_values()
        if self.rope.scaling == "yarn":
            scale = self.yarn_factor
            pairs = [scale if pair.key == scale.key else pair for pair in pairs]
        return [
            *pairs,
            uint32(f"{prefix}.head_count", self.index_heads),
            uint32(f"{prefix}.key_length", self.index_dim),
            uint32(f"{prefix}.top_k", self.config.integer("index_topk")),
        ]

    def attention(self, layer: Layer) -> Iterator[TargetTensor]:
        yield from super().attention(layer)
        yield from self.indexer(layer)

    def indexer(self, layer: Layer) -> Iterator[TargetTensor]:
        target, source = f"{layer.target}.indexer", f"{layer.source}.self_attn.indexer"
        width, length, heads = self.embedding_length, self.index_dim, self.index_heads
        queries = (heads * length, self.query_rank)
        yield self.tensor(f"{target}.attn_q_b.weight", f"{source}.wq_b.weight", queries)
        yield self.tensor(f"{target}.attn_k.weight", f"{source}.wk.weight", (length, width))
        for kind in ("weight", "bias"):
            yield self.tensor(f"{target}.k_norm.{kind}", f"{source}.k_norm.{kind}", (length,))
        yield self.tensor(f"{target}.proj.weight", f"{source}.weights_proj.weight", (heads, width))
