"""BERT: learned positions, a norm behind each sublayer, biases everywhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from converter.architectures.family import COMPUTED_BUFFERS
from converter.architectures.parts.encoder import Encoder
from converter.architectures.target import TargetTensor, row_run
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, uint32


class Bert(Encoder):
    """BERT and everything saved as such: E5, BGE, GTE, MiniLM and other sentence encoders.

    Attributes:
        block_names: source name of each module of a block, by the target's, both without ``.weight``.
        encoder: what source names of blocks begin with.
    """

    classes: ClassVar[tuple[str, ...]] = ("BertModel", "BertForMaskedLM", "BertForPreTraining")
    arch = "bert"
    defaults: ClassVar = {
        "vocab_size": 30522,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "hidden_act": "gelu",
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
    }
    skipped: ClassVar[tuple[str, ...]] = (
        *COMPUTED_BUFFERS,
        r"(bert\.)?embeddings\.(position_ids|token_type_ids)",
        r"(bert\.)?pooler\..*",
        r"cls\..*",
    )
    body = "bert."
    encoder: ClassVar[str] = "encoder.layer"
    block_names: ClassVar[Mapping[str, str]] = {
        "attn_q": "attention.self.query",
        "attn_k": "attention.self.key",
        "attn_v": "attention.self.value",
        "attn_output": "attention.output.dense",
        "attn_output_norm": "attention.output.LayerNorm",
        "ffn_up": "intermediate.dense",
        "ffn_down": "output.dense",
        "layer_output_norm": "output.LayerNorm",
    }

    @property
    def token_types(self) -> int:
        return self.config.integer("type_vocab_size")

    @property
    def first_position(self) -> int:
        """Row of the position table that belongs to the first token."""
        return 0

    @property
    def context_length(self) -> int:
        rows = self.config.integer("max_position_embeddings")
        if rows <= self.first_position:
            raise ArchitectureError(
                f"config.json: 'max_position_embeddings' is {rows}, more than {self.first_position} expected: "
                "positions begin there"
            )
        return rows - self.first_position

    def key_values(self) -> list[KeyValue]:
        self.config.one_of("position_embedding_type", "absolute", None)
        self.config.one_of("is_decoder", False, None)
        self.config.one_of("add_cross_attention", False, None)
        # llama.cpp adds the first token type's row to every token, as transformers does for a single text.
        return [*super().key_values(), uint32("tokenizer.ggml.token_type_count", self.token_types)]

    def tensors(self) -> Iterator[TargetTensor]:
        prefix, width = self.prefix, self.embedding_length
        yield self.tensor("token_embd.weight", f"{prefix}{self.embedding}.weight", (self.vocab_size, width))
        yield from self.type_embedding(f"{prefix}embeddings.token_type_embeddings.weight")
        yield self.positions(f"{prefix}embeddings.position_embeddings.weight")
        yield from self.norm("token_embd_norm", f"{prefix}embeddings.LayerNorm")
        for index in range(self.layers):
            yield from self.block(f"blk.{index}", f"{prefix}{self.encoder}.{index}")
        yield from self.head()

    def type_embedding(self, source: str) -> Iterator[TargetTensor]:
        yield self.tensor("token_types.weight", source, (self.token_types, self.embedding_length))

    def positions(self, source: str) -> TargetTensor:
        self.source(source, (self.first_position + self.context_length, self.embedding_length))
        rows = row_run(self.first_position, self.context_length) if self.first_position else None
        return self.tensor("position_embd.weight", source, (self.context_length, self.embedding_length), rows=rows)

    def block(self, target: str, source: str) -> Iterator[TargetTensor]:
        width, inner = self.embedding_length, self.feed_forward_length
        shapes = {"ffn_up": (inner, width), "ffn_down": (width, inner)}
        for name, source_name in self.block_names.items():
            if name.endswith("norm"):
                yield from self.norm(f"{target}.{name}", f"{source}.{source_name}")
            else:
                shape = shapes.get(name, (width, width))
                yield from self.linear(f"{target}.{name}", f"{source}.{source_name}", shape, bias=True)
