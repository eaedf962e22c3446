"""Which weights are linear: the rule by names against transformers' own classes."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers
from checkpoint_builder import write_model
from variation import VARIATIONS

from converter.architectures import model_types
from converter.checkpoints import open_checkpoint
from converter.errors import ArchitectureError
from converter.formats.safetensors_modules import by_name, find, linear_modules

#: Kinds of models of which a tensor's name tells whether it is linear.
BY_NAME = {kind for kind, facts in model_types().items() if facts.linear_by_name}

#: One model of each kind.
KINDS = {getattr(transformers, one.config).model_type: name for name, one in reversed(VARIATIONS.items())}


def test_every_kind_is_built_here() -> None:
    assert KINDS.keys() >= BY_NAME


@pytest.mark.parametrize("kind", sorted(BY_NAME))
def test_names_tell_what_transformers_does(kind: str, tmp_path: Path) -> None:
    source = write_model(tmp_path, KINDS[kind], num_hidden_layers=2)
    with open_checkpoint(source) as checkpoint:
        config, weights = checkpoint.config, list(checkpoint.tensors)
    found = find(str(source), config, weights, trust_remote_code=False)
    named = by_name(found["model"], weights)
    assert dict(named.blocks) == found["blocks"] != {}
    assert named.experts.keys() == found["experts"].keys()
    assert set(named.others) >= set(found["others"])
    assert not found["dense"]
    assert not found["derived"]


def test_other_kinds_are_built_in_a_process_of_their_own(tmp_path: Path) -> None:
    source = write_model(tmp_path, "gemma3-multimodal")
    with open_checkpoint(source) as checkpoint:
        modules = linear_modules(source, checkpoint.config, checkpoint.tensors, trust_remote_code=False)
    assert modules.model == "Gemma3ForConditionalGeneration"
    name = "language_model.model.layers.0.mlp.down_proj.weight"
    assert modules.blocks[name] == "model.language_model.layers.0.mlp.down_proj"
    assert not any("vision" in name for name in modules.blocks)
    both = {"vision_tower.encoder.layers.0.mlp.fc1", "model.vision_tower.encoder.layers.0.mlp.fc1"}
    assert {"lm_head", *both} <= set(modules.others)


def test_an_unknown_model_is_refused(tmp_path: Path) -> None:
    config = {"model_type": "unheard-of", "auto_map": {"AutoModelForCausalLM": "modeling.Model"}}
    with pytest.raises(ArchitectureError) as refused:
        linear_modules(tmp_path, config, ["model.layers.0.x.weight"], trust_remote_code=False)
    said = str(refused.value)
    assert said.startswith(f"{tmp_path}: transformers cannot build the model to tell which weights are linear: ")
    assert said.endswith(", or pass --trust-remote-code")
    assert "\n" not in said
