"""What llama.cpp cannot run of these families is refused before anything is written, naming the field and its value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoint_builder import write_model

from converter import convert
from converter.errors import ArchitectureError

#: Variation, changes of its config.json, what the message must say.
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("gpt2", {"activation_function": "quick_gelu"}, "'activation_function' is 'quick_gelu'"),
    ("gpt2", {"scale_attn_weights": False}, "'scale_attn_weights' is False"),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "'scale_attn_by_inverse_layer_idx' is True"),
    ("gpt2", {"add_cross_attention": True}, "'add_cross_attention' is True"),
    ("gpt-neox", {"hidden_act": "relu"}, "'hidden_act' is 'relu'"),
    ("gpt-neox", {"head_dim": 16}, "'head_dim' is 16, but llama.cpp runs gptneox only with .* = 32"),
    ("gpt-neox", {"rope_parameters": {"partial_rotary_factor": 0.1}}, "'partial_rotary_factor' is 0.1"),
    ("gpt-neox", {"rope_parameters": {"partial_rotary_factor": "all"}}, "'partial_rotary_factor' is 'all'"),
    ("gpt-neox", {"rope_parameters": {"rope_type": "dynamic"}}, "rope scaling 'dynamic' cannot be represented"),
    (
        "gpt-neox",
        {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "beta_fast": 8.0}},
        "'yarn' with these parameters needs frequency factors, which llama.cpp does not read for gptneox",
    ),
]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One checkpoint of each variation that is refused after a change of its config.json."""
    names = dict.fromkeys(name for name, _, _ in REFUSED)
    return {name: write_model(tmp_path_factory.mktemp(name), name) for name in names}


@pytest.mark.parametrize(("name", "changes", "message"), REFUSED)
def test_refused(
    name: str, changes: dict[str, Any], message: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for file in checkpoints[name].iterdir():
        (model / file.name).symlink_to(file)
    config = json.loads((model / "config.json").read_text()) | changes
    (model / "config.json").unlink()
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(ArchitectureError, match=message):
        convert(model, "f32", tmp_path / "f32.gguf", verify="none")
    assert not list(tmp_path.glob("*.gguf*"))
