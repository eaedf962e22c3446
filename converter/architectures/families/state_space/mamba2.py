"""Mamba 2: state spaces with one decay for each head, inputs shared by groups of heads, a norm on each group."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from converter.architectures.families.state_space.mamba import Mamba, convolution
from converter.architectures.family import Family
from converter.architectures.hyperparameters import Hyperparameters
from converter.architectures.layer import Layer
from converter.architectures.target import Operation, Piece, TargetTensor
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, uint32


@dataclass(frozen=True)
class Mamba2Mixer:
    """A layer's state space, alone in Mamba 2 or beside attention in hybrids (arXiv:2405.21060, section 7).

    Attributes:
        width: elements of the hidden state.
        inner: elements of the mixer's own state, heads times their length.
        heads, groups: heads, and groups of them that share the state's input and output.
        state: elements of each head's state.
        kernel: taps of the convolution.
        convolution_bias: whether the source has one.
        normed: whether the groups' norm is there.
    """

    width: int
    inner: int
    heads: int
    groups: int
    state: int
    kernel: int
    convolution_bias: bool
    normed: bool = True

    @classmethod
    def of(
        cls, config: Hyperparameters, width: int, inner: int, names: tuple[str, str, str, str, str], *, bias: bool
    ) -> Mamba2Mixer:
        """Read from the fields of these names: heads, head length, groups, state, kernel.

        Raises:
            ArchitectureError: they do not fit together, or the time step is limited.
        """
        heads, head_dim, groups, state, kernel = (config.integer(name) for name in names)
        if heads * head_dim != inner:
            raise ArchitectureError(
                f"config.json: {names[0]} {heads} of {names[1]} {head_dim} are not the mixer's length {inner}"
            )
        if heads % groups:
            raise ArchitectureError(f"config.json: {names[0]} {heads} is not a multiple of {names[2]} {groups}")
        # The step is a softplus and so never negative; transformers 5 has a way of its own to write infinity.
        config.one_of("time_step_limit", None, [0.0, math.inf], [0.0, {"__float__": "Infinity"}])
        return cls(width, inner, heads, groups, state, kernel, bias)

    @property
    def convolved(self) -> int:
        """Channels of the convolution: the mixer's own, and each group's input and output."""
        return self.inner + 2 * self.groups * self.state

    def key_values(self, arch: str) -> list[KeyValue]:
        return [
            uint32(f"{arch}.ssm.conv_kernel", self.kernel),
            uint32(f"{arch}.ssm.inner_size", self.inner),
            uint32(f"{arch}.ssm.state_size", self.state),
            uint32(f"{arch}.ssm.time_step_rank", self.heads),
            uint32(f"{arch}.ssm.group_count", self.groups),
        ]

    def tensors(self, family: Family, layer: Layer, place: str) -> Iterator[TargetTensor]:
        """A layer's tensors; ``place`` is the mixer's name in it."""
        width, inner, heads = self.width, self.inner, self.heads
        target, source = layer.target, f"{layer.source}.{place}"
        rows = inner + self.convolved + heads
        yield family.tensor(f"{target}.ssm_in.weight", f"{source}.in_proj.weight", (rows, width))
        yield from convolution(family, target, source, (self.convolved, self.kernel), bias=self.convolution_bias)
        yield family.tensor(f"{target}.ssm_dt.bias", f"{source}.dt_bias", (heads,))
        decay = Operation("negated exponential")
        yield in_rows(family, f"{target}.ssm_a", f"{source}.A_log", (heads, 1), decay)
        yield in_rows(family, f"{target}.ssm_d", f"{source}.D", (heads, 1))
        if self.normed:
            groups = (self.groups, inner // self.groups)
            yield in_rows(family, f"{target}.ssm_norm.weight", f"{source}.norm.weight", groups)
        yield family.tensor(f"{target}.ssm_out.weight", f"{source}.out_proj.weight", (width, inner))


def in_rows(
    family: Family, target: str, source: str, shape: tuple[int, int], operation: Operation | None = None
) -> TargetTensor:
    """A vector in rows."""
    family.source(source, (shape[0] * shape[1],))
    return TargetTensor(target, shape, (Piece(source, operation=operation),))


class Mamba2(Mamba):
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
    def mamba2(self) -> Mamba2Mixer:
        names = ("num_heads", "head_dim", "n_groups", "state_size", "conv_kernel")
        bias = self.config.flag("use_conv_bias")
        return Mamba2Mixer.of(self.config, self.embedding_length, self.inner, names, bias=bias)

    def mixer_key_values(self) -> list[KeyValue]:
        return self.mamba2.key_values(self.arch)

    def mixer(self, layer: Layer) -> Iterator[TargetTensor]:
        yield from self.mamba2.tensors(self, layer, self.place)
