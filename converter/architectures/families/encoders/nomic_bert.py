"""Nomic-BERT: BERT with rope for positions, gated feed-forward layers and no biases but the norms'."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from converter.architectures.family import COMPUTED_BUFFERS
from converter.architectures.layer import Layer
from converter.architectures.parts.encoder import Encoder
from converter.architectures.parts.rope import Rope
from converter.architectures.target import TargetTensor
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, uint32

#: Fields of the published files, which transformers' own class no longer has, with what llama.cpp computes.
PUBLISHED: dict[str, tuple[Any, ...]] = {
    "causal": (False, None),
    "moe_every_n_layers": (0, None),
    "mlp_fc1_bias": (False, None),
    "mlp_fc2_bias": (False, None),
    "parallel_block": (False, None),
    "prenorm": (False, None),
    "qkv_proj_bias": (False, None),
    "rotary_emb_fraction": (1.0, None),
    "rotary_emb_interleaved": (False, None),
    "rotary_emb_scale_base": (None,),
    "use_rms_norm": (False, None),
}


class NomicBert(Encoder):
    classes = ("NomicBertModel", "NomicBertForMaskedLM")
    arch = "nomic-bert"
    defaults: ClassVar = {
        "vocab_size": 30528,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "hidden_act": "silu",
        "max_position_embeddings": 2048,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "rope_theta": 1000.0,
    }
    aliases: ClassVar = {
        "activation_function": "hidden_act",
        "layer_norm_epsilon": "layer_norm_eps",
        "n_embd": "hidden_size",
        "n_head": "num_attention_heads",
        "n_inner": "intermediate_size",
        "n_layer": "num_hidden_layers",
        "n_positions": "max_position_embeddings",
        "rotary_emb_base": "rope_theta",
    }
    skipped: ClassVar[tuple[str, ...]] = (*COMPUTED_BUFFERS, r"(nomic_bert\.|bert\.)?pooler\..*", r"cls\..*")
    names: ClassVar = {
        "token_embd": "nomic_bert.embeddings.word_embeddings",
        "token_types": "nomic_bert.embeddings.token_type_embeddings",
        "token_embd_norm": "nomic_bert.emb_ln",
        "blk": "nomic_bert.encoder.layers",
        "attn_qkv": "attn.Wqkv",
        "attn_output": "attn.out_proj",
        "attn_output_norm": "norm1",
        "ffn_up": "mlp.fc11",
        "ffn_gate": "mlp.fc12",
        "ffn_down": "mlp.fc2",
        "layer_output_norm": "norm2",
    }
    body = "nomic_bert."
    activations = ("silu", "swiglu")

    @property
    def context_length(self) -> int:
        """The published files promise more than the model was trained on, by a scaling of rope for longer texts."""
        longest = super().context_length
        trained = "max_trained_positions" in self.config
        return min(longest, self.config.integer("max_trained_positions")) if trained else longest

    @property
    def rope(self) -> Rope:
        return Rope.of(self.config)

    def exact_lengths(self) -> Iterator[tuple[int, str]]:
        yield from self.rope.exact_lengths()

    @property
    def token_types(self) -> int:
        return self.config.integer("type_vocab_size")

    def key_values(self) -> list[KeyValue]:
        for name, allowed in PUBLISHED.items():
            self.config.one_of(name, *allowed)
        rope = self.rope
        if rope.scaling != "default":
            raise ArchitectureError(
                f"config.json: rope scaling is {rope.scaling!r}, but {self.arch} is converted only with default"
            )
        if "head_dim" in self.config and self.config.integer("head_dim") * self.heads != self.embedding_length:
            raise self.config.refusal(
                "head_dim",
                f"but llama.cpp runs {self.arch} only with hidden_size / num_attention_heads = "
                f"{self.embedding_length // self.heads}",
            )
        return [
            *super().key_values(),
            *rope.key_values(self.arch),
            uint32("tokenizer.ggml.token_type_count", self.token_types),
        ]

    def tensors(self) -> Iterator[TargetTensor]:
        types = (self.token_types, self.embedding_length)
        yield self.embedding_tensor()
        yield self.tensor("token_types.weight", f"{self.source_name('token_types')}.weight", types)
        yield from self.norm("token_embd_norm", self.source_name("token_embd_norm"))
        for layer in self.layers:
            yield from self.block(layer)

    def block(self, layer: Layer) -> Iterator[TargetTensor]:
        width, inner = self.embedding_length, self.feed_forward_length
        yield from self.projection(layer, "attn_qkv", (3 * width, width))
        yield from self.projection(layer, "attn_output", (width, width))
        yield from self.layer_norm(layer, "attn_output_norm")
        yield from self.projection(layer, "ffn_up", (inner, width))
        yield from self.projection(layer, "ffn_gate", (inner, width))
        yield from self.projection(layer, "ffn_down", (width, inner))
        yield from self.layer_norm(layer, "layer_output_norm")
