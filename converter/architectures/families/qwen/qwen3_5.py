"""Qwen3.5 and 3.6, dense and with experts: Qwen3-Next's layers, with a delta net's projections apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from gguf import GGUFValueType

from converter.architectures.families.qwen.delta_nets import GatedDeltaNets
from converter.architectures.families.qwen.qwen_moe import Qwen2Moe
from converter.architectures.family import AS_SPELLED
from converter.architectures.layer import Layer, Names
from converter.architectures.target import Operation, Piece, RowMap, TargetTensor, row_run
from converter.checkpoints.tensor import SourceTensor
from converter.gguf.key_values import KeyValue, array

#: What config.json leaves out of both.
DEFAULTS: Mapping[str, Any] = {
    "vocab_size": 248320,
    "num_attention_heads": 16,
    "hidden_act": "silu",
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "head_dim": 256,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "full_attention_interval": 4,
}

#: Pairs of a head that rotate by a picture's time, height and width, where config.json does not say it.
SECTIONS = [11, 11, 10]


class Qwen35(GatedDeltaNets):
    classes = ("Qwen3_5ForCausalLM",)
    arch = "qwen35"
    defaults: ClassVar = {
        **DEFAULTS,
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_hidden_layers": 32,
        "num_key_value_heads": 4,
    }
    names: ClassVar[Names] = {**Qwen2Moe.names, "post_attention_norm": "post_attention_layernorm"}
    skipped = (*GatedDeltaNets.skipped, r"(model\.)?visual\..*")

    def __init__(
        self,
        config: Mapping[str, Any],
        sources: Mapping[str, SourceTensor],
        *,
        renamed: Mapping[str, str] = AS_SPELLED,
        within: str = "",
    ) -> None:
        # The text model alone may still be named as a part of the multimodal one; transformers takes both.
        part = "model.language_model."
        if not renamed and f"{part}embed_tokens.weight" in sources:
            renamed = {"model.": part}
        super().__init__(config, sources, renamed=renamed, within=within)

    @property
    def sections(self) -> list[int]:
        """``mrope_section``: how many pairs rotate by each of time, height and width.

        All three are a text token's position, but llama.cpp rotates a pair that falls to none of them by a fourth,
        which is 0 in a text.

        Raises:
            ArchitectureError: it is no list of three counts, or leaves a rotated pair to none.
        """
        parameters, field = self.rope.parameters, "mrope_section"
        sections = parameters.integers(field, 3) if field in parameters else SECTIONS
        if not 0 < sum(sections) <= self.head_dim:
            raise parameters.refusal(
                field, f"a list of three counts expected, together at most the {self.head_dim} elements of a head"
            )
        places = [pair % sum(sections) for pair in range(self.rotary_dim // 2)]
        if any(place // 3 >= sections[place % 3] for place in places):
            raise parameters.with_fields(mrope_section=sections).refusal(
                field,
                f"but llama.cpp runs {self.arch} only with sections that cover all {self.rotary_dim // 2} rotated "
                "pairs of a head in turns",
            )
        return sections

    def key_values(self) -> list[KeyValue]:
        sections = array(f"{self.arch}.rope.dimension_sections", [*self.sections, 0], GGUFValueType.INT32)
        return [*super().key_values(), sections]

    def in_turns(self, length: int = 1, first: int = 0) -> RowMap:
        """The value heads of ``length`` rows each, the first of which is row ``first``, in llama.cpp's order.

        Each key head has a group of them. In the source they follow one another; in llama.cpp the first of all groups
        come before the second of all: [k0v0, k0v1, k1v0, k1v1] → [k0v0, k1v0, k0v1, k1v1].
        """
        keys, values, _ = self.delta_heads
        group = values // keys
        return RowMap(first, ((group, length), (keys, group * length), (length, 1)))

    def delta_net(self, layer: Layer) -> Iterator[TargetTensor]:
        width, taps = self.embedding_length, self.config.integer("linear_conv_kernel_dim")
        target, source = layer.target, f"{layer.source}.linear_attn"
        keys, values, length = self.delta_heads
        channels, gates = (2 * keys + values) * length, (values * length, width)
        yield self.mixed(f"{target}.attn_qkv.weight", f"{source}.in_proj_qkv.weight", (channels, width))
        rows = self.in_turns(length)
        yield self.tensor(f"{target}.attn_gate.weight", f"{source}.in_proj_z.weight", gates, rows=rows)
        for end, name in (("ssm_beta", "in_proj_b"), ("ssm_alpha", "in_proj_a")):
            rows = self.in_turns()
            yield self.tensor(f"{target}.{end}.weight", f"{source}.{name}.weight", (values, width), rows=rows)
        yield self.mixed(f"{target}.ssm_conv1d.weight", f"{source}.conv1d.weight", (channels, 1, taps))
        yield self.vector(f"{target}.ssm_dt.bias", f"{source}.dt_bias")
        yield self.vector(f"{target}.ssm_a", f"{source}.A_log", Operation("negated exponential"))
        yield self.tensor(f"{target}.ssm_norm.weight", f"{source}.norm.weight", (length,))
        # Its columns are the value heads; where each key head has but one, they stay where they are.
        order = Operation("reordered", columns=self.in_turns(length)) if values > keys else None
        yield self.tensor(f"{target}.ssm_out.weight", f"{source}.out_proj.weight", gates[::-1], operation=order)

    def mixed(self, target: str, source: str, shape: tuple[int, ...]) -> TargetTensor:
        """Rows of queries, keys and values, of which the values change places; written as a matrix."""
        keys, _, length = self.delta_heads
        before = 2 * keys * length
        self.source(source, shape)
        pieces = (Piece(source, row_run(0, before)), Piece(source, self.in_turns(length, before)))
        return TargetTensor(target, (shape[0], shape[-1]), pieces)

    def vector(self, target: str, source: str, operation: Operation | None = None) -> TargetTensor:
        """One number for each value head."""
        heads = (self.delta_heads[1],)
        self.source(source, heads)
        return TargetTensor(target, heads, (Piece(source, self.in_turns(), operation=operation),))


class Qwen35Moe(Qwen35, Qwen2Moe):
    """Experts in every layer, with one that every token uses."""

    classes = ("Qwen3_5MoeForCausalLM",)
    arch = "qwen35moe"
    defaults: ClassVar = {
        **DEFAULTS,
        "hidden_size": 2048,
        "num_hidden_layers": 40,
        "num_key_value_heads": 2,
        "num_experts": 256,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 512,
        "shared_expert_intermediate_size": 512,
    }

    @property
    def feed_forward_length(self) -> int:
        return self.config.integer("moe_intermediate_size")

    def check_experts(self) -> None:
        """Nothing to refuse: transformers reads no field of this family that would change how experts are used."""
