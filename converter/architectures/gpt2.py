"""GPT-2 and what was trained as such (DialoGPT, DistilGPT-2): learned positions, projections stored transposed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.family import COMPUTED_BUFFERS
from converter.architectures.layer_norm import LayerNormDecoder
from converter.architectures.target import TargetTensor
from converter.metadata import KeyValue


class GPT2(LayerNormDecoder):
    classes = ("GPT2LMHeadModel",)
    arch = "gpt2"
    defaults: ClassVar = {
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

    @property
    def prefix(self) -> str:
        """``transformer.``, which the first releases' files do without."""
        return "" if "wte.weight" in self.sources else "transformer."

    @property
    def feed_forward_length(self) -> int:
        return self.config.integer("n_inner") if "n_inner" in self.config else 4 * self.embedding_length

    def key_values(self) -> list[KeyValue]:
        self.config.one_of("scale_attn_weights", True)
        self.config.one_of("scale_attn_by_inverse_layer_idx", False, None)
        self.config.one_of("add_cross_attention", False, None)
        return super().key_values()

    def tensors(self) -> Iterator[TargetTensor]:
        prefix, width = self.prefix, self.embedding_length
        shape = (self.vocab_size, width)
        positions = (self.config.integer("max_position_embeddings"), width)
        yield self.tensor("token_embd.weight", f"{prefix}wte.weight", shape)
        yield self.tensor("position_embd.weight", f"{prefix}wpe.weight", positions)
        for index in range(self.config.integer("num_hidden_layers")):
            yield from self.block(f"blk.{index}", f"{prefix}h.{index}")
        yield from self.norm("output_norm", f"{prefix}ln_f")
        yield from self.output_matrix(shape)

    def block(self, target: str, source: str) -> Iterator[TargetTensor]:
        width, inner = self.embedding_length, self.feed_forward_length
        yield from self.norm(f"{target}.attn_norm", f"{source}.ln_1")
        yield from self.transposed(f"{target}.attn_qkv", f"{source}.attn.c_attn", (3 * width, width))
        yield from self.transposed(f"{target}.attn_output", f"{source}.attn.c_proj", (width, width))
        yield from self.norm(f"{target}.ffn_norm", f"{source}.ln_2")
        yield from self.transposed(f"{target}.ffn_up", f"{source}.mlp.c_fc", (inner, width))
        yield from self.transposed(f"{target}.ffn_down", f"{source}.mlp.c_proj", (width, inner))

    def transposed(self, target: str, source: str, shape: tuple[int, int]) -> Iterator[TargetTensor]:
        """A projection that the source holds as (in, out)."""
        yield self.tensor(f"{target}.weight", f"{source}.weight", shape, transposed=True)
        yield self.tensor(f"{target}.bias", f"{source}.bias", shape[:1])
