"""DistilBERT: BERT without token types, with names and fields of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.families.encoders.bert import Bert
from converter.architectures.family import COMPUTED_BUFFERS
from converter.architectures.target import TargetTensor


class DistilBert(Bert):
    classes = ("DistilBertModel", "DistilBertForMaskedLM")
    defaults: ClassVar = {
        "vocab_size": 30522,
        "hidden_size": 768,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "hidden_dim": 3072,
        "activation": "gelu",
        "max_position_embeddings": 512,
    }
    aliases: ClassVar = {"dim": "hidden_size", "n_layers": "num_hidden_layers", "n_heads": "num_attention_heads"}
    skipped: ClassVar[tuple[str, ...]] = (
        *COMPUTED_BUFFERS,
        r"(distilbert\.)?embeddings\.position_ids",
        r"vocab_(transform|layer_norm|projector)\..*",
    )
    body = "distilbert."
    activation = "activation"
    feed_forward = "hidden_dim"
    names: ClassVar = {
        "token_embd": "distilbert.embeddings.word_embeddings",
        "position_embd": "distilbert.embeddings.position_embeddings",
        "token_embd_norm": "distilbert.embeddings.LayerNorm",
        "blk": "distilbert.transformer.layer",
        "attn_q": "attention.q_lin",
        "attn_k": "attention.k_lin",
        "attn_v": "attention.v_lin",
        "attn_output": "attention.out_lin",
        "attn_output_norm": "sa_layer_norm",
        "ffn_up": "ffn.lin1",
        "ffn_down": "ffn.lin2",
        "layer_output_norm": "output_layer_norm",
    }
    #: llama.cpp wants to know of at least one token type, though it needs no embedding of it.
    token_types = 1
    #: transformers' code has it as a number.
    norm_epsilon = 1e-12

    def type_embedding(self) -> Iterator[TargetTensor]:
        yield from ()
