"""What a family takes for a field that config.json leaves out is what transformers' own configuration class takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from converter.architectures import FAMILIES, Family
from converter.architectures.parts.text_part import TextModel, TextPart
from converter.errors import ArchitectureError

#: Classes that the model's own code has, and no configuration of transformers.
OF_REMOTE_CODE = {
    "BaichuanForCausalLM",
    "BaiChuanForCausalLM",
    "BailingMoeForCausalLM",
    "BailingMoeV2ForCausalLM",
    "ChatGLMForConditionalGeneration",
    "ChatGLMModel",
    "ExaoneForCausalLM",
    "ExaoneMoEForCausalLM",
    "InternLM2ForCausalLM",
    "LFM2ForCausalLM",
    "LLaMAForCausalLM",
    "MPTForCausalLM",
    "MiniCPMForCausalLM",
    "OrionForCausalLM",
    "RWForCausalLM",
    "T5WithLMHeadModel",
}

#: Fields that transformers keeps in another form, by the family's value.
WORKED_OUT = {
    ("time_step_rank", "auto"),  # a number made of others
    ("mamba_dt_rank", "auto"),
    ("mamba_d_head", "auto"),
    ("full_attention_interval", "4"),  # the layers' kinds made of it, see below
    ("moe_layer_end_index", "-1"),  # the last layer's number
    ("global_head_dim", "512"),  # per_layer_config, see below
}

#: Fields of the families' own: an activation or a choice that transformers' class has built in.
BUILT_IN = {
    ("Bamba", "position_embedding_type"),
    ("Dbrx", "hidden_act"),
    ("Dbrx", "rms_norm_eps"),
    ("Lfm2", "hidden_act"),
    ("Lfm2Moe", "hidden_act"),
    ("Qwen3VLMoeText", "norm_topk_prob"),
}


def configurations() -> Iterator[tuple[str, type[Family], Mapping[str, Any], Any]]:
    """Name, family, its defaults and transformers' configuration without arguments."""
    for name, family in FAMILIES.items():
        # InternLM 3 has a configuration there, and Llama's class.
        usual = getattr(transformers, name.replace("ForCausalLM", "Config"), None)
        kind = getattr(getattr(transformers, name, None), "config_class", usual)
        if kind is None:
            continue
        if not issubclass(family, TextPart):
            yield name, family, family.defaults, kind()
            continue
        texts = {"": family.text} if isinstance(family.text, TextModel) else family.text
        for model_type, text in texts.items():
            if model_type in CONFIG_MAPPING or not model_type:
                own = CONFIG_MAPPING[model_type]() if model_type else kind().get_text_config()
                yield f"{name}-{model_type}", text.family, {**text.family.defaults, **text.defaults}, own


CASES = {name: case for name, *case in configurations()}


def test_all_classes_of_transformers_are_compared() -> None:
    compared = {name.partition("-")[0] for name in CASES}
    missing = FAMILIES.keys() - compared
    assert missing <= OF_REMOTE_CODE


@pytest.mark.parametrize("name", CASES)
def test_defaults(name: str) -> None:
    family, defaults, theirs = CASES[name]
    for field, ours in defaults.items():
        if (field, str(ours)) in WORKED_OUT or (family.__name__, field) in BUILT_IN:
            continue
        assert ours == of_transformers(theirs, field), field


def of_transformers(config: Any, field: str) -> Any:
    """A field of a configuration, where transformers keeps it."""
    if field == "rope_theta":
        return theta_of(config)
    if field == "sliding_window" and getattr(config, "use_sliding_window", True) is False:
        return 4096  # cleared where it is not used
    if field == "head_dim" and getattr(config, "per_layer_config", None) is not None:
        return config.per_layer_config[0].head_dim
    value = getattr(config, field)
    # One length for each layer.
    return value[0] if field == "intermediate_size" and isinstance(value, list) else value


def theta_of(config: Any) -> float:
    """Base of the rope, of layers without a window where there are two."""
    ropes = config.rope_parameters
    return float(ropes.get("full_attention", ropes)["rope_theta"])


@pytest.mark.parametrize("name", CASES)
def test_a_rope_that_config_json_does_not_mention(name: str) -> None:
    family, _, theirs = CASES[name]
    if getattr(theirs, "rope_parameters", None) is None or not hasattr(family, "rope"):
        return
    config = {name: value for name, value in theirs.to_dict().items() if not name.startswith("rope_")}
    made = family({**config, "attn_layer_indices": [0]}, {})
    if theirs.rope_parameters.get("llama_4_scaling_beta"):
        with pytest.raises(ArchitectureError, match=r"no 'rope_parameters\.llama_4_scaling_beta'"):
            made.key_values()
        return
    assert made.rope.theta == theta_of(theirs)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["Qwen3_5ForCausalLM", "Qwen3_5MoeForCausalLM", "Qwen3NextForCausalLM"])
def test_kinds_of_layers(name: str) -> None:
    family, _, theirs = CASES[name]
    made = family({"num_hidden_layers": theirs.num_hidden_layers}, {})
    assert made.kinds == theirs.layer_types  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["Gemma4ForCausalLM", "Gemma4UnifiedForCausalLM"])
def test_heads_of_layers_without_a_window(name: str) -> None:
    _, defaults, theirs = CASES[name]
    assert defaults["global_head_dim"] == theirs.per_layer_config[theirs.num_hidden_layers - 1].head_dim
