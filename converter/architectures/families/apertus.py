"""Apertus: Llama with norms on each query and key head and an activation, xIELU, whose parameters are learned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from gguf import GGUFValueType

from converter.architectures.family import COMPUTED_BUFFERS
from converter.architectures.hyperparameters import Hyperparameters
from converter.architectures.parts.decoder import Llama
from converter.architectures.parts.rope import Rope
from converter.architectures.target import TargetTensor
from converter.gguf.key_values import KeyValue, array

#: transformers' rope where config.json has none.
USUAL_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 12000000.0,
    "factor": 8.0,
    "original_max_position_embeddings": 8192,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}


class Apertus(Llama):
    classes = ("ApertusForCausalLM",)
    arch = "apertus"
    defaults: ClassVar = {
        "hidden_act": "xielu",
        "max_position_embeddings": 65536,
        "rms_norm_eps": 1e-5,
        "rope_theta": 12000000.0,
    }
    # The activation's parameters become key-values.
    skipped: ClassVar[tuple[str, ...]] = (*COMPUTED_BUFFERS, r".*\.mlp\.act_fn\.(alpha_[np]|beta|eps)")
    activations = ("xielu",)
    norms_heads = True
    rotates_neighbours = False
    needs_output = True

    @property
    def rope(self) -> Rope:
        if "rope_parameters" in self.config or "rope_scaling" in self.config:
            return super().rope
        return Rope.of(self.config, Hyperparameters(USUAL_ROPE))

    def key_values(self) -> list[KeyValue]:
        names = ("alpha_n", "alpha_p", "beta", "eps")
        return [
            *super().key_values(),
            *(array(f"xielu.{name}", self.of_activations(name), GGUFValueType.FLOAT32) for name in names),
        ]

    def of_activations(self, name: str) -> list[float]:
        """A parameter of the activation, as the source holds it, in each layer (arXiv:2411.13010)."""
        values = []
        for layer in range(self.config.integer("num_hidden_layers")):
            parameter = f"model.layers.{layer}.mlp.act_fn.{name}"
            shape = (1,) if name.startswith("alpha") else ()
            values.append(float(self.source(parameter, shape).read_rows(0, 1)[0, 0]))
        return values

    def block(self, target: str, source: str) -> Iterator[TargetTensor]:
        width = (self.embedding_length,)
        yield self.tensor(f"{target}.attn_norm.weight", f"{source}.attention_layernorm.weight", width)
        yield from self.attention(target, f"{source}.self_attn")
        yield self.tensor(f"{target}.ffn_norm.weight", f"{source}.feedforward_layernorm.weight", width)
        yield from self.feed_forward(target, f"{source}.mlp")

    def feed_forward(self, target: str, source: str) -> Iterator[TargetTensor]:
        width, inner = self.embedding_length, self.config.integer("intermediate_size")
        yield from self.linear(f"{target}.ffn_up", f"{source}.up_proj", (inner, width))
        yield from self.linear(f"{target}.ffn_down", f"{source}.down_proj", (width, inner))
