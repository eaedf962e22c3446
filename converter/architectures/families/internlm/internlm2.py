"""InternLM 2: Llama with names of its own and one fused projection. transformers has no class for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.parts.decoder import Llama
from converter.architectures.target import Piece, RowMap, TargetTensor
from converter.gguf.key_values import KeyValue


class InternLM2(Llama):
    classes = ("InternLM2ForCausalLM",)
    arch = "internlm2"
    defaults: ClassVar = {**Llama.defaults, "bias": True, "tie_word_embeddings": False}
    takes_frequency_factors = False
    takes_head_dim = False

    def key_values(self) -> list[KeyValue]:
        self.config.one_of("bias", False)
        return super().key_values()

    def tensors(self) -> Iterator[TargetTensor]:
        width, vocabulary = (self.embedding_length,), (self.vocab_size, self.embedding_length)
        yield from self.frequency_factors()
        yield self.tensor("token_embd.weight", "model.tok_embeddings.weight", vocabulary)
        for index in range(self.config.integer("num_hidden_layers")):
            target, source = f"blk.{index}", f"model.layers.{index}"
            yield self.tensor(f"{target}.attn_norm.weight", f"{source}.attention_norm.weight", width)
            yield from self.attention(target, f"{source}.attention")
            yield self.tensor(f"{target}.ffn_norm.weight", f"{source}.ffn_norm.weight", width)
            yield from self.feed_forward(target, f"{source}.feed_forward")
        yield self.tensor("output_norm.weight", "model.norm.weight", width)
        yield self.tensor("output.weight", "output.weight", vocabulary)

    def attention(self, target: str, source: str) -> Iterator[TargetTensor]:
        """``wqkv`` holds, for each key head, its query heads, itself and its value head:
        [q, q, k, v, q, q, k, v] → [q, q, q, q], [k, k], [v, v]."""
        width, head, groups = self.embedding_length, self.head_dim, self.kv_heads
        queries = self.heads // groups
        stride, fused = (queries + 2) * head, f"{source}.wqkv.weight"
        self.source(fused, (groups * stride, width))
        pairs = ((head // 2, 1), (2, head // 2))
        maps = {
            "q": RowMap(0, ((groups, stride), (queries, head), *pairs)),
            "k": RowMap(queries * head, ((groups, stride), *pairs)),
            "v": RowMap((queries + 1) * head, ((groups, stride), (head, 1))),
        }
        for name, rows in maps.items():
            yield TargetTensor(f"{target}.attn_{name}.weight", (rows.rows, width), (Piece(fused, rows),))
        yield self.tensor(f"{target}.attn_output.weight", f"{source}.wo.weight", (width, width))

    def feed_forward(self, target: str, source: str) -> Iterator[TargetTensor]:
        width, hidden = self.embedding_length, self.config.integer("intermediate_size")
        yield self.tensor(f"{target}.ffn_gate.weight", f"{source}.w1.weight", (hidden, width))
        yield self.tensor(f"{target}.ffn_up.weight", f"{source}.w3.weight", (hidden, width))
        yield self.tensor(f"{target}.ffn_down.weight", f"{source}.w2.weight", (width, hidden))
