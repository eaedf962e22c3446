"""Gemma: norms hold their weight minus one, heads of any length, the embedding is the output matrix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.family import COMPUTED_BUFFERS
from converter.architectures.parts.decoder import Llama
from converter.architectures.parts.tied import require_tied
from converter.architectures.target import Operation, TargetTensor
from converter.gguf.key_values import KeyValue


class Gemma(Llama):
    classes = ("GemmaForCausalLM",)
    arch = "gemma"
    defaults: ClassVar = {
        "hidden_act": "gelu_pytorch_tanh",
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-6,
        "num_key_value_heads": 16,
        "head_dim": 256,
        "tie_word_embeddings": True,
    }
    skipped: ClassVar[tuple[str, ...]] = (*COMPUTED_BUFFERS, r"lm_head\.weight")
    # Gemma's first files say "gelu" and mean the approximation, as transformers knows.
    activations: ClassVar[tuple[str, ...]] = ("gelu_pytorch_tanh", "gelu")
    rotates_neighbours = False
    takes_frequency_factors = False
    #: Values of ``use_bidirectional_attention`` that llama.cpp runs in this arch.
    bidirectional: ClassVar[tuple[bool | None, ...]] = (False, None)

    def key_values(self) -> list[KeyValue]:
        self.config.one_of("attention_bias", False, None)
        self.config.one_of("use_bidirectional_attention", *self.bidirectional)
        return super().key_values()

    def tensors(self) -> Iterator[TargetTensor]:
        yield from self.frequency_factors()
        yield from self.model("model.", (self.vocab_size, self.embedding_length))
        require_tied(self, "model.embed_tokens.weight", "lm_head.weight")

    def model(self, prefix: str, shape: tuple[int, int]) -> Iterator[TargetTensor]:
        """All but an output matrix; ``prefix`` is what the source's names begin with."""
        yield self.tensor("token_embd.weight", f"{prefix}embed_tokens.weight", shape)
        for index in range(self.config.integer("num_hidden_layers")):
            yield from self.block(f"blk.{index}", f"{prefix}layers.{index}")
        yield self.norm("output_norm", f"{prefix}norm", self.embedding_length)

    def block(self, target: str, source: str) -> Iterator[TargetTensor]:
        width = self.embedding_length
        yield self.norm(f"{target}.attn_norm", f"{source}.input_layernorm", width)
        yield from self.attention(target, f"{source}.self_attn")
        yield self.norm(f"{target}.ffn_norm", f"{source}.post_attention_layernorm", width)
        yield from self.feed_forward(target, f"{source}.mlp")

    def norm(self, target: str, source: str, length: int) -> TargetTensor:
        return self.tensor(f"{target}.weight", f"{source}.weight", (length,), operation=Operation("add", 1.0))
