"""Bamba: Granite 4's hybrid without its multipliers and experts, and with rope on a part of each head, mostly half."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.families.granite.granite_hybrid import GraniteHybrid
from converter.architectures.layer import Names
from converter.architectures.parts.decoder import Decoder
from converter.architectures.parts.experts import gated_names
from converter.architectures.parts.rope import rotated_elements
from converter.architectures.target import RowMap, rotary_pairs
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue


class Bamba(GraniteHybrid):
    classes = ("BambaForCausalLM",)
    defaults: ClassVar = {
        "attention_bias": False,
        "hidden_act": "silu",
        "mamba_conv_bias": True,
        "mamba_d_conv": 4,
        "mamba_d_head": "auto",
        "mamba_d_state": 256,
        "mamba_expand": 2,
        "mamba_n_groups": 1,
        "mamba_n_heads": 128,
        "mamba_proj_bias": False,
        "max_position_embeddings": 262144,
        "mlp_bias": False,
        "num_key_value_heads": 8,
        # No field of Bamba's own, but what Granite's says of it.
        "position_embedding_type": "rope",
        "rms_norm_eps": 1e-5,
    }
    names: ClassVar[Names] = {
        **Decoder.names,
        "output_norm": "model.final_layernorm",
        "ffn_norm": "pre_ff_layernorm",
        **gated_names("feed_forward"),
    }
    body = ""

    @property
    def mixture(self) -> None:
        return None

    @property
    def feed_forward_length(self) -> int:
        return self.config.integer("intermediate_size")

    @property
    def kinds(self) -> list[str]:
        """``attention`` for the layers of ``attn_layer_indices``, ``mamba`` for the others.

        Raises:
            ArchitectureError: that is no list of layers, or names none or all, on which llama.cpp ends its process.
        """
        field, layers = "attn_layer_indices", self.config.integer("num_hidden_layers")
        attending = set(self.config.integers(field)) if field in self.config else set()
        if not 0 < len(attending) < layers or max(attending) >= layers:
            raise self.config.refusal(
                field,
                f"but llama.cpp runs {self.arch} only with some of the {layers} layers in it, and not with all",
            )
        return ["attention" if index in attending else "mamba" for index in range(layers)]

    @property
    def rotary_dim(self) -> int:
        """The first half of a head's elements, or the share that the rope's parameters tell.

        Raises:
            ArchitectureError: a head is no multiple of it, or other fields tell another share.
        """
        config = self.config
        # transformers overrides the field beside the rope's parameters, but not the one among them.
        config.one_of("partial_rotary_factor", 0.5, None)
        rotated = rotated_elements(config, self.head_dim, 0.5)
        if self.head_dim % rotated:
            raise ArchitectureError(
                f"config.json: 'partial_rotary_factor' gives {rotated} of the {self.head_dim} elements of a head, one "
                "over a whole number expected"
            )
        # The first releases' field for the same.
        config.one_of("attn_rotary_emb", rotated, None)
        return rotated

    def rotary_rows(self, heads: int) -> RowMap:
        """Elements that do not rotate change their order like those that do: queries and keys do so alike."""
        return rotary_pairs(heads * self.head_dim // self.rotary_dim, self.rotary_dim)

    def multipliers(self) -> Iterator[KeyValue]:
        yield from ()
