"""GPT-2 and what was trained as such (DialoGPT, DistilGPT-2): learned positions, projections stored transposed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from converter.architectures.family import COMPUTED_BUFFERS
from converter.architectures.parts.layer_norm import LayerNormDecoder
from converter.architectures.target import TargetTensor
from converter.gguf.key_values import KeyValue


class GPT2(LayerNormDecoder):
    classes = ("GPT2LMHeadModel",)
    arch = "gpt2"
    defaults: ClassVar[dict[str, Any]] = {
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "scale_attn_weights": True,
        "tie_word_embeddings": True,
    }
    aliases: ClassVar = {
        "n_embd": "hidden_size",
        "n_head": "num_attention_heads",
        "n_layer": "num_hidden_layers",
        "n_positions": "max_position_embeddings",
    }
    skipped: ClassVar[tuple[str, ...]] = (*COMPUTED_BUFFERS, r".*\.attn\.bias")
    epsilon = "layer_norm_epsilon"
    activation = "activation_function"
    rotary_factor = None
    body = "transformer."
    embedding = "wte"
    layers = "h"
    final_norm = "ln_f"

    @property
    def feed_forward_length(self) -> int:
        return self.config.integer("n_inner") if "n_inner" in self.config else 4 * self.embedding_length

    def key_values(self) -> list[KeyValue]:
        self.config.one_of("scale_attn_weights", True)
        self.config.one_of("scale_attn_by_inverse_layer_idx", False, None)
        self.config.one_of("add_cross_attention", False, None)
        return super().key_values()

    def before_blocks(self) -> Iterator[TargetTensor]:
        yield self.tensor(
            "position_embd.weight", f"{self.prefix}wpe.weight", (self.context_length, self.embedding_length)
        )

    def block(self, target: str, source: str) -> Iterator[TargetTensor]:
        width, inner = self.embedding_length, self.feed_forward_length
        yield from self.norm(f"{target}.attn_norm", f"{source}.ln_1")
        yield from self.fused_attention(f"{target}.attn_qkv", f"{source}.attn.c_attn")
        yield from self.projection(f"{target}.attn_output", f"{source}.attn.c_proj", (width, width))
        yield from self.norm(f"{target}.ffn_norm", f"{source}.ln_2")
        yield from self.projection(f"{target}.ffn_up", f"{source}.mlp.c_fc", (inner, width))
        yield from self.projection(f"{target}.ffn_down", f"{source}.mlp.c_proj", (width, inner))

    def fused_attention(self, target: str, source: str) -> Iterator[TargetTensor]:
        yield from self.projection(target, source, (3 * self.embedding_length, self.embedding_length))

    def projection(self, target: str, source: str, shape: tuple[int, int]) -> Iterator[TargetTensor]:
        """A projection that the source holds as (in, out)."""
        yield self.tensor(f"{target}.weight", f"{source}.weight", shape, transposed=True)
        yield self.tensor(f"{target}.bias", f"{source}.bias", shape[:1])
