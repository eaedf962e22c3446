"""GLM-5: DeepSeek V3.2's layers, some of which see the tokens that the indexer of a layer before them picked.

Its indexer's rope rotates neighbours, in the model and in llama.cpp. Which layers have an indexer of their own,
config.json says by name, by letters, or by how often.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from gguf import GGUFValueType

from converter.architectures.families.deepseek.deepseek32 import DeepseekV32
from converter.architectures.layer import Layer
from converter.architectures.parts.rope import Rope
from converter.architectures.target import TargetTensor
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, array

LETTERS = {"F": "full", "S": "shared"}


class GlmMoeDsa(DeepseekV32):
    classes = ("GlmMoeDsaForCausalLM",)
    arch = "glm-dsa"
    defaults: ClassVar[dict[str, Any]] = {
        **DeepseekV32.defaults,
        "max_position_embeddings": 202752,
        "rms_norm_eps": 1e-5,
        "q_lora_rank": 2048,
        "qk_nope_head_dim": 192,
        "v_head_dim": 256,
        "n_group": 1,
        "topk_group": 1,
        "index_n_heads": 32,
    }
    indexer_interleaved = True

    @property
    def rope(self) -> Rope:
        rope = super().rope
        # llama.cpp does not read here what yarn multiplies the scores by.
        if rope.scaling != "default":
            raise ArchitectureError(
                f"config.json: rope scaling {rope.scaling!r} cannot be represented; llama.cpp runs {self.arch} only "
                "with 'default'"
            )
        return rope

    @property
    def with_indexer(self) -> list[bool]:
        """Which layers pick the tokens they see; the others see those of the last such layer.

        Raises:
            ArchitectureError: a kind for each layer is not given, or the first layer has none before it.
        """
        config, layers = self.config, self.config.integer("num_hidden_layers")
        field = "indexer_types" if "indexer_types" in config else "index_topk_pattern"
        if field not in config:
            every = config.integer("index_topk_freq", 0) if "index_topk_freq" in config else 1
            offset = config.integer("index_skip_topk_offset", 0) if "index_skip_topk_offset" in config else 2
            return [max(index - offset + 1, 0) % max(every, 1) == 0 for index in range(layers)]
        kinds = config.kinds(field, {**LETTERS, **{kind: kind for kind in LETTERS.values()}})
        if len(kinds) != layers or kinds[0] != "full":
            raise config.refusal(
                field, f"'full' or 'shared' for each of {layers} layers and 'full' for the first expected"
            )
        return [kind == "full" for kind in kinds]

    def key_values(self) -> list[KeyValue]:
        types = array(f"{self.arch}.attention.indexer.types", self.with_indexer, GGUFValueType.BOOL)
        return [*super().key_values(), types]

    def indexer(self, layer: Layer) -> Iterator[TargetTensor]:
        if self.with_indexer[layer.number]:
            yield from super().indexer(layer)
