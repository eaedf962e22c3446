"""Falcon-H1: attention and a Mamba 2 mixer side by side in every layer, and a dozen multipliers.

llama.cpp knows no multiplier here: each goes into the weights of the projection beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

from converter.architectures.families.state_space.mamba2 import Mamba2Mixer
from converter.architectures.layer import Layer
from converter.architectures.parts.decoder import Decoder
from converter.architectures.parts.experts import gated_names
from converter.architectures.target import Operation, Piece, TargetTensor, row_run
from converter.gguf.key_values import KeyValue

MULTIPLIERS = (
    "attention_in_multiplier",
    "attention_out_multiplier",
    "embedding_multiplier",
    "key_multiplier",
    "lm_head_multiplier",
    "ssm_in_multiplier",
    "ssm_out_multiplier",
)


class FalconH1(Decoder):
    classes = ("FalconH1ForCausalLM",)
    arch = "falcon-h1"
    defaults: ClassVar = {
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "num_key_value_heads": 8,
        "mamba_d_ssm": 1024,
        "mamba_n_heads": 128,
        "mamba_d_head": "auto",
        "mamba_n_groups": 1,
        "mamba_d_state": 256,
        "mamba_d_conv": 4,
        "mamba_conv_bias": True,
        "mamba_rms_norm": False,
        "mamba_norm_before_gate": True,
        "mlp_multipliers": [1.0, 1.0],
        "ssm_multipliers": [1.0] * 5,
        **dict.fromkeys(MULTIPLIERS, 1.0),
    }
    names: ClassVar = {
        **Decoder.names,
        "output_norm": "model.final_layernorm",
        "ffn_norm": "pre_ff_layernorm",
        **gated_names("feed_forward"),
    }
    body = ""
    layout = ("attn_norm", "attention", "mamba", "norm_between", "feed_forward")
    needs_output = True
    rotates_neighbours = False
    takes_frequency_factors = False

    @property
    def mixer(self) -> Mamba2Mixer:
        config = self.config
        inner = config.integer("mamba_d_ssm")
        automatic = config.integer_or_auto("mamba_d_head") is None
        read = config.with_fields(mamba_d_head=inner // config.integer("mamba_n_heads")) if automatic else config
        names = ("mamba_n_heads", "mamba_d_head", "mamba_n_groups", "mamba_d_state", "mamba_d_conv")
        bias = config.flag("mamba_conv_bias")
        mixer = Mamba2Mixer.of(read, self.embedding_length, inner, names, bias=bias)
        return replace(mixer, normed=config.flag("mamba_rms_norm"))

    def key_values(self) -> list[KeyValue]:
        for name in ("attention_bias", "mlp_bias", "projectors_bias", "mamba_proj_bias"):
            self.config.one_of(name, False, None)
        if self.config.flag("mamba_rms_norm"):
            self.config.one_of("mamba_norm_before_gate", False)
        return [*super().key_values(), *self.mixer.key_values(self.arch)]

    def tensors(self) -> Iterator[TargetTensor]:
        """The embedding and the output matrix, even a tied one, each have a multiplier of their own."""
        names = {"token_embd.weight": "embedding_multiplier", "output.weight": "lm_head_multiplier"}
        for tensor in super().tensors():
            factor = self.config.number(names[tensor.name]) if tensor.name in names else 1.0
            yield multiplied(tensor, factor) if tensor.name in names else tensor

    def norm_between(self, layer: Layer) -> Iterator[TargetTensor]:
        """llama.cpp's name of this norm has no suffix in this arch."""
        norm = f"{self.source_name('ffn_norm', layer)}.weight"
        yield self.tensor(f"{layer.target}.ffn_norm", norm, (self.embedding_length,))

    def attention(self, layer: Layer) -> Iterator[TargetTensor]:
        config, target = self.config, layer.target
        before = config.number("attention_in_multiplier")
        factors = {
            f"{target}.attn_q.weight": before,
            f"{target}.attn_k.weight": before * config.number("key_multiplier"),
            f"{target}.attn_v.weight": before,
            f"{target}.attn_output.weight": config.number("attention_out_multiplier"),
        }
        for tensor in super().attention(layer):
            yield multiplied(tensor, factors[tensor.name])

    def feed_forward(self, layer: Layer) -> Iterator[TargetTensor]:
        gate, down = self.config.numbers("mlp_multipliers", 2)
        factors = {f"{layer.target}.ffn_gate.weight": gate, f"{layer.target}.ffn_down.weight": down}
        for tensor in super().feed_forward(layer):
            yield multiplied(tensor, factors.get(tensor.name, 1.0))

    def mamba(self, layer: Layer) -> Iterator[TargetTensor]:
        """``in_proj`` holds, one below the other, the gate, the state's own rows, its input, its output and the step,
        each with a multiplier of its own."""
        target, source = layer.target, f"{layer.source}.mamba"
        mixer, before = self.mixer, self.config.number("ssm_in_multiplier")
        shared = mixer.groups * mixer.state
        parts = zip(
            (mixer.inner, mixer.inner, shared, shared, mixer.heads),
            self.config.numbers("ssm_multipliers", 5),
            strict=True,
        )
        pieces, start = [], 0
        for rows, factor in parts:
            pieces.append(Piece(f"{source}.in_proj.weight", row_run(start, rows), operation=times(before * factor)))
            start += rows
        for tensor in mixer.tensors(self, layer, "mamba"):
            if tensor.name == f"{target}.ssm_in.weight":
                yield replace(tensor, pieces=tuple(pieces))
            elif tensor.name == f"{target}.ssm_out.weight":
                yield multiplied(tensor, self.config.number("ssm_out_multiplier"))
            else:
                yield tensor


def times(factor: float) -> Operation | None:
    return None if factor == 1.0 else Operation("multiply", factor)


def multiplied(tensor: TargetTensor, factor: float) -> TargetTensor:
    """The tensor with every weight multiplied; its pieces have no other operation."""
    return replace(tensor, pieces=tuple(replace(piece, operation=times(factor)) for piece in tensor.pieces))
