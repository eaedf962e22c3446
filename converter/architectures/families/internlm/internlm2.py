"""InternLM 2: Llama with names of its own and one fused projection. transformers has no class for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.layer import Layer, Names
from converter.architectures.parts.decoder import Decoder
from converter.architectures.target import RowMap, TargetTensor
from converter.gguf.key_values import KeyValue


class InternLM2(Decoder):
    classes = ("InternLM2ForCausalLM",)
    arch = "internlm2"
    defaults: ClassVar = {**Decoder.defaults, "bias": True, "tie_word_embeddings": False}
    names: ClassVar[Names] = {
        "token_embd": "model.tok_embeddings",
        "blk": "model.layers",
        "output_norm": "model.norm",
        "output": "output",
        "attn_norm": "attention_norm",
        "attn_qkv": "attention.wqkv",
        "attn_output": "attention.wo",
        "ffn_norm": "ffn_norm",
        "ffn_gate": "feed_forward.w1",
        "ffn_up": "feed_forward.w3",
        "ffn_down": "feed_forward.w2",
    }
    body = ""
    takes_frequency_factors = False
    takes_head_dim = False

    def key_values(self) -> list[KeyValue]:
        self.config.one_of("bias", False)
        return super().key_values()

    def attention(self, layer: Layer) -> Iterator[TargetTensor]:
        """``wqkv`` holds, for each key head, its query heads, itself and its value head:
        [q, q, k, v, q, q, k, v] → [q, q, q, q], [k, k], [v, v]."""
        width, head, groups = self.embedding_length, self.head_dim, self.kv_heads
        queries = self.heads // groups
        stride, pairs = (queries + 2) * head, ((head // 2, 1), (2, head // 2))
        maps = {
            "attn_q": RowMap(0, ((groups, stride), (queries, head), *pairs)),
            "attn_k": RowMap(queries * head, ((groups, stride), *pairs)),
            "attn_v": RowMap((queries + 1) * head, ((groups, stride), (head, 1))),
        }
        yield from self.cut(layer, groups * stride, maps)
        yield from self.projection(layer, "attn_output", (width, width))

    def output_matrix(self, shape: tuple[int, int]) -> Iterator[TargetTensor]:
        yield self.tensor("output.weight", f"{self.source_name('output')}.weight", shape)
