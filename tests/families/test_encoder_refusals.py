"""What llama.cpp cannot run of encoders is refused before anything is written, naming the field and its value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from encoder_builder import write_encoder

from converter import convert
from converter.errors import ArchitectureError, CheckpointError

#: Variation, changes of its config.json, what the message must say.
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("bert", {"hidden_act": "relu"}, "'hidden_act' is 'relu'"),
    ("bert", {"position_embedding_type": "relative_key"}, "'position_embedding_type' is 'relative_key'"),
    ("bert", {"is_decoder": True}, "'is_decoder' is True"),
    ("bert", {"add_cross_attention": True}, "'add_cross_attention' is True"),
    ("bert", {"num_attention_heads": 5}, "hidden_size 256 is not a multiple of num_attention_heads 5"),
    ("distilbert", {"activation": "relu"}, "'activation' is 'relu'"),
    ("roberta", {"pad_token_id": 300}, "'max_position_embeddings' is 256, more than 301 expected"),
    ("t5", {"feed_forward_proj": "gated-silu"}, "'feed_forward_proj' is 'gated-silu'"),
    ("t5", {"feed_forward_proj": "gelu"}, "'feed_forward_proj' is 'gelu'"),
    ("t5", {"relative_attention_max_distance": 64}, "'relative_attention_max_distance' is 64"),
    ("t5", {"num_decoder_layers": 3}, "'num_decoder_layers' is 3, .* at most as many as the encoder's 2"),
    ("nomic-bert", {"moe_every_n_layers": 2}, "'moe_every_n_layers' is 2"),
    ("nomic-bert", {"qkv_proj_bias": True}, "'qkv_proj_bias' is True"),
    ("nomic-bert", {"prenorm": True}, "'prenorm' is True"),
    ("nomic-bert", {"rotary_emb_fraction": 0.5}, "'rotary_emb_fraction' is 0.5"),
    ("nomic-bert", {"hidden_act": "gelu"}, "'hidden_act' is 'gelu'"),
    ("nomic-bert", {"head_dim": 32}, "'head_dim' is 32, .* num_attention_heads = 64"),
    ("nomic-bert", {"rope_parameters": {"rope_type": "yarn"}}, "rope scaling is 'yarn'"),
    ("modern-bert", {"norm_bias": True}, "'norm_bias' is True"),
    ("modern-bert", {"mlp_bias": True}, "'mlp_bias' is True"),
    ("modern-bert", {"attention_bias": True}, "'attention_bias' is True"),
    ("modern-bert", {"hidden_activation": "relu"}, "'hidden_activation' is 'relu'"),
    ("modern-bert", {"layer_types": ["full_attention"]}, "'layer_types' is .*, a list of 4"),
    ("modern-bert", {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "of full_attention is 'yarn'"),
    ("modern-bert", {"rope_parameters": 7}, "'rope_parameters' is 7, an object expected"),
    ("modern-bert", {"rope_scaling": {"rope_type": "linear"}}, "rope scaling of full_attention is 'linear'"),
    ("modern-bert", {"rope_parameters": None, "local_rope_theta": 0}, "'local_rope_theta' is 0, a positive"),
]

#: Modules behind the transformer or configurations of the pooling, and what the message must say.
MODULES: list[tuple[Any, dict[str, Any] | None, type[Exception], str]] = [
    (["Dense"], {}, ArchitectureError, r"module '1_Dense' is 'a\.Dense', .* only Transformer, Pooling, Normalize"),
    (["Pooling"], None, CheckpointError, r"1_Pooling/config\.json: missing"),
    (["Pooling"], {}, ArchitectureError, "the pooling mode is None, .* only one of mean, cls, lasttoken"),
    (["Pooling"], {"pooling_mode": "weightedmean"}, ArchitectureError, "the pooling mode is 'weightedmean'"),
    (["Pooling"], {"pooling_mode": ["mean", "cls"]}, ArchitectureError, r"mode is \['mean', 'cls'\]"),
    (["Pooling"], {"pooling_mode_max_tokens": True}, ArchitectureError, "mode is 'pooling_mode_max_tokens'"),
    (
        ["Pooling"],
        {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
        ArchitectureError,
        r"mode is \['pooling_mode_cls_token', 'pooling_mode_mean_tokens'\]",
    ),
    ([{"path": "../elsewhere", "type": "a.Pooling"}], {}, CheckpointError, "path is '../elsewhere', expected a folder"),
    ([{"path": 1, "type": "a.Pooling"}], {}, CheckpointError, "path is 1, expected a folder"),
    (["Pooling", 1], {}, CheckpointError, "expected a list of modules"),
    ("[", {}, CheckpointError, r"modules\.json: is not valid JSON"),
]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One checkpoint of each variation that is converted after a change."""
    names = dict.fromkeys(["bert", *(name for name, _, _ in REFUSED)])
    return {name: write_encoder(tmp_path_factory.mktemp(name), name) for name in names}


def linked(original: Path, model: Path, **changes: Any) -> Path:
    """The checkpoint with other values in its config.json."""
    model.mkdir()
    for file in original.iterdir():
        (model / file.name).symlink_to(file)
    config = json.loads((model / "config.json").read_text()) | changes
    (model / "config.json").unlink()
    (model / "config.json").write_text(json.dumps(config))
    return model


def assert_refused(model: Path, error: type[Exception], message: str) -> None:
    output = model.parent / "f32.gguf"
    with pytest.raises(error, match=message) as refusal:
        convert(model, "f32", output, verify="none")
    assert len(str(refusal.value).splitlines()) == 1
    assert not list(model.parent.glob("*.gguf*"))


@pytest.mark.parametrize(("name", "changes", "message"), REFUSED)
def test_refused(
    name: str, changes: dict[str, Any], message: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    assert_refused(linked(checkpoints[name], tmp_path / "model", **changes), ArchitectureError, message)


@pytest.mark.parametrize(("modules", "pooling", "error", "message"), MODULES)
def test_modules_are_refused(
    modules: Any,
    pooling: dict[str, Any] | None,
    error: type[Exception],
    message: str,
    checkpoints: dict[str, Path],
    tmp_path: Path,
) -> None:
    model = linked(checkpoints["bert"], tmp_path / "model")
    whole = [
        {"path": f"1_{kind}", "type": f"a.{kind}"} if isinstance(kind, str) else kind
        for kind in ["Transformer", *modules]
    ]
    (model / "modules.json").write_text(modules if isinstance(modules, str) else json.dumps(whole))
    if pooling is not None:
        (model / "1_Pooling").mkdir()
        (model / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    assert_refused(model, error, message)
