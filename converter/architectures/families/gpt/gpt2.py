"""GPT-2 and what was trained as such (DialoGPT, DistilGPT-2): learned positions, projections stored transposed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from converter.architectures.facts import InTransformers
from converter.architectures.family import COMPUTED_BUFFERS
from converter.architectures.layer import Layer, Names
from converter.architectures.parts.decoder import Gate
from converter.architectures.parts.layer_norm import LayerNormDecoder
from converter.architectures.target import RowMap, TargetTensor
from converter.gguf.key_values import KeyValue


class GPT2(LayerNormDecoder):
    classes = ("GPT2LMHeadModel",)
    arch = "gpt2"
    in_transformers: ClassVar = {"gpt2": InTransformers(transposed=True)}
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
    names: ClassVar[Names] = {
        "token_embd": "transformer.wte",
        "position_embd": "transformer.wpe",
        "blk": "transformer.h",
        "output_norm": "transformer.ln_f",
        "output": "lm_head",
        "attn_norm": "ln_1",
        "attn_qkv": "attn.c_attn",
        "attn_output": "attn.c_proj",
        "ffn_norm": "ln_2",
        "ffn_up": "mlp.c_fc",
        "ffn_down": "mlp.c_proj",
    }
    body = "transformer."
    gate = Gate.NONE
    skipped: ClassVar[tuple[str, ...]] = (*COMPUTED_BUFFERS, r".*\.attn\.bias")
    epsilon = "layer_norm_epsilon"
    activation = "activation_function"
    rotary_factor = None

    @property
    def feed_forward_length(self) -> int:
        return self.config.integer("n_inner") if "n_inner" in self.config else 4 * self.embedding_length

    def key_values(self) -> list[KeyValue]:
        self.config.one_of("scale_attn_weights", True)
        self.config.one_of("scale_attn_by_inverse_layer_idx", False, None)
        self.config.one_of("add_cross_attention", False, None)
        return super().key_values()

    def before_layers(self) -> Iterator[TargetTensor]:
        shape = (self.context_length, self.embedding_length)
        yield self.tensor("position_embd.weight", f"{self.source_name('position_embd')}.weight", shape)

    def projection(
        self, layer: Layer, part: str, shape: tuple[int, int], *, bias: bool = True, rows: RowMap | None = None
    ) -> Iterator[TargetTensor]:
        """A projection that the source holds as (in, out), with a bias."""
        target, source = f"{layer.target}.{part}", self.source_name(part, layer)
        yield self.tensor(f"{target}.weight", f"{source}.weight", shape, transposed=True)
        yield self.tensor(f"{target}.bias", f"{source}.bias", shape[:1])
