"""Apertus: Llama with norms on each query and key head and an activation, xIELU, whose parameters are learned."""

from __future__ import annotations

from typing import ClassVar

from gguf import GGUFValueType

from converter.architectures.facts import LINEAR_BY_NAME
from converter.architectures.family import COMPUTED_BUFFERS
from converter.architectures.hyperparameters import Hyperparameters
from converter.architectures.parts.decoder import Decoder, Gate
from converter.architectures.parts.rope import Rope
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


class Apertus(Decoder):
    classes = ("ApertusForCausalLM",)
    arch = "apertus"
    in_transformers: ClassVar = {"apertus": LINEAR_BY_NAME}
    defaults: ClassVar = {
        "hidden_act": "xielu",
        "max_position_embeddings": 65536,
        "rms_norm_eps": 1e-5,
        "rope_theta": 12000000.0,
    }
    # The activation's parameters become key-values.
    skipped: ClassVar[tuple[str, ...]] = (*COMPUTED_BUFFERS, r".*\.mlp\.act_fn\.(alpha_[np]|beta|eps)")
    names: ClassVar = {
        **Decoder.names,
        "attn_norm": "attention_layernorm",
        "ffn_norm": "feedforward_layernorm",
    }
    activations = ("xielu",)
    gate = Gate.NONE
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
        for layer in self.layers:
            parameter = f"{layer.source}.mlp.act_fn.{name}"
            shape = (1,) if name.startswith("alpha") else ()
            values.append(float(self.source(parameter, shape).read_rows(0, 1)[0, 0]))
        return values
