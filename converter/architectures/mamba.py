"""Mamba, Falcon-Mamba and Mamba 2: state spaces instead of attention."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.family import Family
from converter.architectures.target import Operation, Piece, TargetTensor
from converter.errors import ArchitectureError
from converter.metadata import KeyValue, boolean, float32, uint32

#: No config names a length; llama.cpp's own converter writes this one.
CONTEXT_LENGTH = 2**20


class Mamba(Family):
    classes = ("MambaForCausalLM",)
    arch = "mamba"
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
    #: RMS norms without weights on what the state's inputs are made of.
    norms_inputs: ClassVar[bool] = False

    @property
    def embedding_length(self) -> int:
        return self.config.integer("hidden_size")

    @property
    def inner(self) -> int:
        """Elements of a mixer's hidden state, ``expand`` times hidden_size."""
        return int(self.config.number("expand") * self.embedding_length)

    @property
    def state(self) -> int:
        return self.config.integer("state_size")

    @property
    def time_step_rank(self) -> int:
        """Rank of the time step's projection; ``auto`` is a sixteenth of hidden_size, rounded up."""
        automatic = self.config.get("time_step_rank") == "auto"
        return -(-self.embedding_length // 16) if automatic else self.config.integer("time_step_rank")

    @property
    def convolved(self) -> int:
        """Channels of the convolution."""
        return self.inner

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
            uint32(f"{arch}.ssm.conv_kernel", config.integer("conv_kernel")),
            uint32(f"{arch}.ssm.inner_size", self.inner),
            uint32(f"{arch}.ssm.state_size", self.state),
            *self.mixer_key_values(),
        ]

    def mixer_key_values(self) -> list[KeyValue]:
        # llama.cpp runs no other expansion.
        self.config.one_of("expand", 2)
        return [
            uint32(f"{self.arch}.ssm.time_step_rank", self.time_step_rank),
            boolean(f"{self.arch}.ssm.dt_b_c_rms", self.norms_inputs),
        ]

    def tensors(self) -> Iterator[TargetTensor]:
        width, vocabulary = self.embedding_length, (self.vocab_size, self.embedding_length)
        yield self.tensor("token_embd.weight", "backbone.embeddings.weight", vocabulary)
        for index in range(self.config.integer("num_hidden_layers")):
            target, source = f"blk.{index}", f"backbone.layers.{index}"
            yield self.tensor(f"{target}.attn_norm.weight", f"{source}.norm.weight", (width,))
            yield from self.mixer(target, f"{source}.mixer")
            yield self.tensor(f"{target}.ssm_out.weight", f"{source}.mixer.out_proj.weight", (width, self.inner))
        yield self.tensor("output_norm.weight", "backbone.norm_f.weight", (width,))
        if not self.config.flag("tie_word_embeddings") or "lm_head.weight" in self.sources:
            yield self.tensor("output.weight", "lm_head.weight", vocabulary)

    def mixer(self, target: str, source: str) -> Iterator[TargetTensor]:
        inner, state, rank = self.inner, self.state, self.time_step_rank
        yield self.tensor(f"{target}.ssm_in.weight", f"{source}.in_proj.weight", (2 * inner, self.embedding_length))
        yield from self.convolution(target, source)
        yield self.tensor(f"{target}.ssm_x.weight", f"{source}.x_proj.weight", (rank + 2 * state, inner))
        yield from self.linear(f"{target}.ssm_dt", f"{source}.dt_proj", (inner, rank), bias=True)
        decay = Operation("negated exponential")
        yield self.tensor(f"{target}.ssm_a", f"{source}.A_log", (inner, state), operation=decay)
        yield self.tensor(f"{target}.ssm_d", f"{source}.D", (inner,))

    def convolution(self, target: str, source: str) -> Iterator[TargetTensor]:
        """One kernel for each channel, in the source with a dimension of length 1; llama.cpp always adds a bias."""
        channels, kernel = self.convolved, self.config.integer("conv_kernel")
        weight, bias = f"{source}.conv1d.weight", f"{target}.ssm_conv1d.bias"
        self.source(weight, (channels, 1, kernel))
        yield TargetTensor(f"{target}.ssm_conv1d.weight", (channels, kernel), (Piece(weight),))
        if self.config.flag("use_conv_bias"):
            yield self.tensor(bias, f"{source}.conv1d.bias", (channels,))
        else:
            yield TargetTensor(bias, (channels,), values=(0.0,) * channels)


class FalconMamba(Mamba):
    """Falcon-Mamba: Mamba with norms on the time step and on the state's input and output."""

    classes = ("FalconMambaForCausalLM",)
    defaults: ClassVar = {**Mamba.defaults, "mixer_rms_eps": 1e-6}
    norms_inputs = True

    def warnings(self) -> list[str]:
        own, others = self.config.number("mixer_rms_eps"), self.config.number("layer_norm_epsilon")
        return [] if own == others else [f"the mixers' norms have an epsilon of {own:g}, in llama.cpp {others:g}"]


class Mamba2(Mamba):
    """Mamba 2: one decay for each head, inputs shared by groups of heads, a norm on each group."""

    classes = ("Mamba2ForCausalLM",)
    arch = "mamba2"
    defaults: ClassVar = {
        **Mamba.defaults,
        "num_heads": 128,
        "head_dim": 64,
        "state_size": 128,
        "n_groups": 8,
        "tie_word_embeddings": False,
    }

    @property
    def heads(self) -> int:
        heads, head_dim = self.config.integer("num_heads"), self.config.integer("head_dim")
        if heads * head_dim != self.inner:
            raise ArchitectureError(
                f"config.json: num_heads {heads} of head_dim {head_dim} are not expand × hidden_size = {self.inner}"
            )
        return heads

    @property
    def groups(self) -> int:
        groups = self.config.integer("n_groups")
        if self.heads % groups:
            raise ArchitectureError(f"config.json: num_heads {self.heads} is not a multiple of n_groups {groups}")
        return groups

    @property
    def convolved(self) -> int:
        return self.inner + 2 * self.groups * self.state

    def mixer_key_values(self) -> list[KeyValue]:
        # The step is a softplus and so never negative; transformers 5 has a way of its own to write infinity.
        self.config.one_of("time_step_limit", None, [0.0, math.inf], [0.0, {"__float__": "Infinity"}])
        return [
            uint32(f"{self.arch}.ssm.time_step_rank", self.heads),
            uint32(f"{self.arch}.ssm.group_count", self.groups),
        ]

    def mixer(self, target: str, source: str) -> Iterator[TargetTensor]:
        heads, rows = self.heads, self.inner + self.convolved + self.heads
        yield self.tensor(f"{target}.ssm_in.weight", f"{source}.in_proj.weight", (rows, self.embedding_length))
        yield from self.convolution(target, source)
        yield self.tensor(f"{target}.ssm_dt.bias", f"{source}.dt_bias", (heads,))
        yield self.reshaped(f"{target}.ssm_a", f"{source}.A_log", (heads, 1), Operation("negated exponential"))
        yield self.reshaped(f"{target}.ssm_d", f"{source}.D", (heads, 1))
        groups = (self.groups, self.inner // self.groups)
        yield self.reshaped(f"{target}.ssm_norm.weight", f"{source}.norm.weight", groups)

    def reshaped(
        self, target: str, source: str, shape: tuple[int, int], operation: Operation | None = None
    ) -> TargetTensor:
        """A vector in rows."""
        self.source(source, (shape[0] * shape[1],))
        return TargetTensor(target, shape, (Piece(source, operation=operation),))
