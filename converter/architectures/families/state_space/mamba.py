"""Mamba and Falcon-Mamba: state spaces instead of attention."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from converter.architectures.facts import InTransformers
from converter.architectures.family import Family
from converter.architectures.layer import Layer, Names, stack
from converter.architectures.target import Operation, Piece, TargetTensor
from converter.gguf.key_values import KeyValue, boolean, float32, uint32

#: No config names a length; llama.cpp's own converter writes this one.
CONTEXT_LENGTH = 2**20


class Mamba(Family):
    classes = ("MambaForCausalLM",)
    arch = "mamba"
    in_transformers: ClassVar = {"mamba": InTransformers(own_products=r"\.dt_proj$")}
    defaults: ClassVar = {
        "state_size": 16,
        "conv_kernel": 4,
        "expand": 2,
        "layer_norm_epsilon": 1e-5,
        "hidden_act": "silu",
        "time_step_rank": "auto",
        "use_bias": False,
        "use_conv_bias": True,
        "tie_word_embeddings": True,
    }
    names: ClassVar[Names] = {
        "token_embd": "backbone.embeddings",
        "blk": "backbone.layers",
        "output_norm": "backbone.norm_f",
        "output": "lm_head",
    }
    #: The mixer's name in a layer.
    place: ClassVar[str] = "mixer"
    #: config.json's names of a mixer's sizes and of its convolution's bias.
    fields: ClassVar[Mapping[str, str]] = {
        "expansion": "expand",
        "state": "state_size",
        "rank": "time_step_rank",
        "taps": "conv_kernel",
        "bias": "use_conv_bias",
    }
    #: RMS norms on what the state's inputs are made of.
    norms_inputs: ClassVar[bool] = False

    @property
    def embedding_length(self) -> int:
        return self.config.integer("hidden_size")

    @property
    def inner(self) -> int:
        """Elements of a mixer's hidden state, its expansion times hidden_size."""
        return int(self.config.number(self.fields["expansion"]) * self.embedding_length)

    @property
    def state(self) -> int:
        return self.config.integer(self.fields["state"])

    @property
    def taps(self) -> int:
        return self.config.integer(self.fields["taps"])

    @property
    def time_step_rank(self) -> int:
        """Rank of the time step's projection; ``auto`` is a sixteenth of hidden_size, rounded up."""
        field = self.fields["rank"]
        rank = self.config.integer_or_auto(field)
        return -(-self.embedding_length // 16) if rank is None else rank

    def key_values(self) -> list[KeyValue]:
        config, arch = self.config, self.arch
        config.one_of("hidden_act", "silu")
        config.one_of("use_bias", False)
        return [
            uint32(f"{arch}.block_count", config.integer("num_hidden_layers")),
            uint32(f"{arch}.context_length", CONTEXT_LENGTH),
            uint32(f"{arch}.embedding_length", self.embedding_length),
            uint32(f"{arch}.feed_forward_length", 0),
            uint32(f"{arch}.attention.head_count", 0),
            float32(f"{arch}.attention.layer_norm_rms_epsilon", config.number("layer_norm_epsilon")),
            *self.mixer_key_values(),
        ]

    def mixer_key_values(self) -> list[KeyValue]:
        # llama.cpp runs no other expansion.
        self.config.one_of(self.fields["expansion"], 2)
        return [
            uint32(f"{self.arch}.ssm.conv_kernel", self.taps),
            uint32(f"{self.arch}.ssm.inner_size", self.inner),
            uint32(f"{self.arch}.ssm.state_size", self.state),
            uint32(f"{self.arch}.ssm.time_step_rank", self.time_step_rank),
            boolean(f"{self.arch}.ssm.dt_b_c_rms", self.norms_inputs),
        ]

    @property
    def layers(self) -> list[Layer]:
        return stack(self.source_name("blk"), [""] * self.config.integer("num_hidden_layers"))

    def tensors(self) -> Iterator[TargetTensor]:
        width, vocabulary = self.embedding_length, (self.vocab_size, self.embedding_length)
        yield self.tensor("token_embd.weight", f"{self.source_name('token_embd')}.weight", vocabulary)
        for layer in self.layers:
            yield from self.block(layer)
        yield self.tensor("output_norm.weight", f"{self.source_name('output_norm')}.weight", (width,))
        if not self.config.flag("tie_word_embeddings") or "lm_head.weight" in self.sources:
            yield self.tensor("output.weight", "lm_head.weight", vocabulary)

    def block(self, layer: Layer) -> Iterator[TargetTensor]:
        norm = f"{layer.source}.norm.weight"
        yield self.tensor(f"{layer.target}.attn_norm.weight", norm, (self.embedding_length,))
        yield from self.mixer(layer)

    def mixer(self, layer: Layer) -> Iterator[TargetTensor]:
        target, source = layer.target, f"{layer.source}.{self.place}"
        inner, state, rank = self.inner, self.state, self.time_step_rank
        yield self.tensor(f"{target}.ssm_in.weight", f"{source}.in_proj.weight", (2 * inner, self.embedding_length))
        bias = self.config.flag(self.fields["bias"])
        yield from convolution(self, target, source, (inner, self.taps), bias=bias)
        yield self.tensor(f"{target}.ssm_x.weight", f"{source}.x_proj.weight", (rank + 2 * state, inner))
        yield from self.linear(f"{target}.ssm_dt", f"{source}.dt_proj", (inner, rank), bias=True)
        decay = Operation("negated exponential")
        yield self.tensor(f"{target}.ssm_a", f"{source}.A_log", (inner, state), operation=decay)
        yield self.tensor(f"{target}.ssm_d", f"{source}.D", (inner,))
        yield self.tensor(f"{target}.ssm_out.weight", f"{source}.out_proj.weight", (self.embedding_length, inner))


class FalconMamba(Mamba):
    """Falcon-Mamba: Mamba with norms, which have no weights, on the time step and on the state's input and output."""

    classes = ("FalconMambaForCausalLM",)
    in_transformers: ClassVar = {"falcon_mamba": InTransformers(own_products=r"\.dt_proj$")}
    defaults: ClassVar = {**Mamba.defaults, "mixer_rms_eps": 1e-6}
    norms_inputs = True

    def warnings(self) -> list[str]:
        own, others = self.config.number("mixer_rms_eps"), self.config.number("layer_norm_epsilon")
        return [] if own == others else [f"the mixers' norms have an epsilon of {own:g}, in llama.cpp {others:g}"]


def convolution(
    family: Family, target: str, source: str, shape: tuple[int, int], *, bias: bool
) -> Iterator[TargetTensor]:
    """One kernel for each channel, in the source with a dimension of length 1; llama.cpp always adds a bias.

    Args:
        family: whose sources these are.
        target, source: the mixer.
        shape: (channels, taps).
        bias: whether the source has one; zeros are written otherwise.
    """
    channels, taps = shape
    family.source(f"{source}.conv1d.weight", (channels, 1, taps))
    yield TargetTensor(f"{target}.ssm_conv1d.weight", shape, (Piece(f"{source}.conv1d.weight"),))
    if bias:
        yield family.tensor(f"{target}.ssm_conv1d.bias", f"{source}.conv1d.bias", (channels,))
    else:
        yield TargetTensor(f"{target}.ssm_conv1d.bias", (channels,), values=(0.0,) * channels)
