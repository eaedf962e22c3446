"""BERT: learned positions, a norm behind each sublayer, biases everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.family import COMPUTED_BUFFERS
from converter.architectures.layer import Layer, Names
from converter.architectures.parts.encoder import Encoder
from converter.architectures.target import TargetTensor, row_run
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, uint32


def bert_names(model: str) -> Names:
    """Names of BERT's tensors in a checkpoint with a head, which begin with ``model``."""
    return {
        "token_embd": f"{model}.embeddings.word_embeddings",
        "token_types": f"{model}.embeddings.token_type_embeddings",
        "position_embd": f"{model}.embeddings.position_embeddings",
        "token_embd_norm": f"{model}.embeddings.LayerNorm",
        "blk": f"{model}.encoder.layer",
        "attn_q": "attention.self.query",
        "attn_k": "attention.self.key",
        "attn_v": "attention.self.value",
        "attn_output": "attention.output.dense",
        "attn_output_norm": "attention.output.LayerNorm",
        "ffn_up": "intermediate.dense",
        "ffn_down": "output.dense",
        "layer_output_norm": "output.LayerNorm",
    }


class Bert(Encoder):
    """BERT and everything saved as such: E5, BGE, GTE, MiniLM and other sentence encoders."""

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
    names: ClassVar[Names] = bert_names("bert")
    #: What stands in a layer, in order.
    layout = (
        "attn_q",
        "attn_k",
        "attn_v",
        "attn_output",
        "attn_output_norm",
        "ffn_up",
        "ffn_down",
        "layer_output_norm",
    )

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
        yield self.embedding_tensor()
        yield from self.type_embedding()
        yield self.positions(f"{self.source_name('position_embd')}.weight")
        yield from self.norm("token_embd_norm", self.source_name("token_embd_norm"))
        for layer in self.layers:
            yield from self.block(layer)
        yield from self.head()

    def type_embedding(self) -> Iterator[TargetTensor]:
        shape = (self.token_types, self.embedding_length)
        yield self.tensor("token_types.weight", f"{self.source_name('token_types')}.weight", shape)

    def positions(self, source: str) -> TargetTensor:
        self.source(source, (self.first_position + self.context_length, self.embedding_length))
        rows = row_run(self.first_position, self.context_length) if self.first_position else None
        return self.tensor("position_embd.weight", source, (self.context_length, self.embedding_length), rows=rows)

    def block(self, layer: Layer) -> Iterator[TargetTensor]:
        width, inner = self.embedding_length, self.feed_forward_length
        shapes = {"ffn_up": (inner, width), "ffn_down": (width, inner)}
        for part in self.layout:
            if part.endswith("norm"):
                yield from self.layer_norm(layer, part)
            else:
                yield from self.projection(layer, part, shapes.get(part, (width, width)), bias=True)
