"""Granite 4: Granite's layers, most of them with a Mamba 2 mixer in place of attention, with or without experts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from gguf import GGUFValueType

from converter.architectures.families.granite.granite import GraniteMoeShared
from converter.architectures.families.state_space.mamba2 import Mamba2Mixer
from converter.architectures.layer import Layer, Names
from converter.architectures.parts.experts import Mixture
from converter.architectures.target import TargetTensor
from converter.checkpoints.tensor import SourceTensor
from converter.gguf.key_values import KeyValue, array, boolean


class GraniteHybrid(GraniteMoeShared):
    classes = ("GraniteMoeHybridForCausalLM",)
    arch = "granitehybrid"
    defaults: ClassVar = {
        **GraniteMoeShared.defaults,
        "shared_intermediate_size": 1024,
        "mamba_n_heads": 128,
        "mamba_n_groups": 1,
        "mamba_d_state": 256,
        "mamba_d_head": "auto",
        "mamba_d_conv": 4,
        "mamba_expand": 2,
        "mamba_conv_bias": True,
        "mamba_proj_bias": False,
    }
    #: Without experts a layer has what stands beside them otherwise.
    names: ClassVar[Names] = {
        **GraniteMoeShared.names,
        "ffn_gate": "shared_mlp.input_linear",
        "ffn_up": "shared_mlp.input_linear",
        "ffn_down": "shared_mlp.output_linear",
    }
    layout = ("attn_norm", "mixer_or_attention", "ffn_norm", "feed_forward")

    def __init__(self, config: Mapping[str, Any], sources: Mapping[str, SourceTensor]) -> None:
        super().__init__(config, sources)
        self.is_hybrid = "mamba" in self.kinds
        if not self.is_hybrid:
            # llama.cpp aborts on a hybrid of one kind of layer; the small models of attention alone are plain Granite.
            self.arch = "granite" if self.mixture is None else "granitemoe"

    @property
    def kinds(self) -> list[str]:
        """``mamba`` or ``attention`` for each layer, as the published files say; transformers 5 writes other words."""
        layers = self.config.integer("num_hidden_layers")
        spelled = ("mamba", "attention", "linear_attention", "full_attention")
        words = {"linear_attention": "mamba", "full_attention": "attention"}
        return [words.get(kind, kind) for kind in self.config.layer_types(layers, ["mamba"] * layers, spelled)]

    @property
    def mixture(self) -> Mixture | None:
        return super().mixture if self.config.integer("num_local_experts", 0) > 0 else None

    @property
    def feed_forward_length(self) -> int:
        return self.shared if self.mixture is None else self.config.integer("intermediate_size")

    @property
    def mixer(self) -> Mamba2Mixer:
        config = self.config
        # llama.cpp runs no other expansion.
        config.one_of("mamba_expand", 2)
        config.one_of("mamba_proj_bias", False)
        inner = 2 * self.embedding_length
        automatic = config.integer_or_auto("mamba_d_head") is None
        read = config.with_fields(mamba_d_head=inner // config.integer("mamba_n_heads")) if automatic else config
        names = ("mamba_n_heads", "mamba_d_head", "mamba_n_groups", "mamba_d_state", "mamba_d_conv")
        return Mamba2Mixer.of(read, self.embedding_length, inner, names, bias=config.flag("mamba_conv_bias"))

    def key_values(self) -> list[KeyValue]:
        config, arch = self.config, self.arch
        # The switch for rope is one that llama.cpp's granitemoe does not read.
        kinds = ("rope",) if arch == "granitemoe" else ("rope", "nope", None)
        roped = boolean(f"{arch}.rope.scaling.finetuned", config.one_of("position_embedding_type", *kinds) == "rope")
        if not self.is_hybrid:
            return [*super().key_values(), roped]
        key = f"{arch}.attention.head_count_kv"
        counts = [self.kv_heads if kind == "attention" else 0 for kind in self.kinds]
        pairs = super().key_values()
        return [
            *(array(key, counts, GGUFValueType.INT32) if pair.key == key else pair for pair in pairs),
            *self.mixer.key_values(arch),
            roped,
        ]

    def mixer_or_attention(self, layer: Layer) -> Iterator[TargetTensor]:
        if layer.kind == "attention":
            yield from self.attention(layer)
        else:
            yield from self.mixer.tensors(self, layer, "mamba")
