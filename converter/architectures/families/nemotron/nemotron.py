"""Nemotron 3 and 4, Minitron: layer norms that hold their weight minus one, squared ReLU without gate, partial rope."""

from __future__ import annotations

from typing import ClassVar

from converter.architectures.facts import LINEAR_BY_NAME
from converter.architectures.parts.decoder import Gate
from converter.architectures.parts.layer_norm import LayerNormDecoder
from converter.architectures.target import Operation


class Nemotron(LayerNormDecoder):
    classes = ("NemotronForCausalLM",)
    arch = "nemotron"
    in_transformers: ClassVar = {"nemotron": LINEAR_BY_NAME}
    defaults: ClassVar = {"hidden_act": "relu2", "max_position_embeddings": 4096, "norm_eps": 1e-5}
    epsilon = "norm_eps"
    activations = ("relu2",)
    gate = Gate.NONE
    rotary_factor = 0.5
    norm_operation = Operation("add", 1.0)
    needs_output = True
