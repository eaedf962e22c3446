"""What a user with a broken checkpoint or a wrong command reads: one line, the right exit code, no file."""

from __future__ import annotations

import fcntl
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_builder import write_model
from command_line import refusal
from safetensors.numpy import load_file, save_file


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("pristine") / "tiny", "llama", shard="3MB")


@pytest.fixture
def model(pristine: Path, tmp_path: Path) -> Path:
    """A sharded checkpoint that a test may break."""
    return Path(shutil.copytree(pristine, tmp_path / "tiny"))


def refused(model: Path, *options: object, code: int = 1) -> str:
    """The refusal of a conversion of ``model``, which must leave nothing behind."""
    output = model.parent / "out.gguf"
    method = () if "--method" in options else ("--method", "q4_0")
    message = refusal("--model", model, *method, "--output", output, *options, code=code)
    assert not list(model.parent.glob("out.gguf*"))
    return message.replace(str(model), "MODEL")


def shards(model: Path) -> list[Path]:
    found = sorted(model.glob("model-*.safetensors"))
    assert len(found) == 2
    return found


def edit_tensors(shard: Path, change: Callable[[dict[str, Any]], None]) -> None:
    tensors = load_file(shard)
    change(tensors)
    save_file(tensors, shard, metadata={"format": "pt"})


def edit_header(shard: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = shard.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    shard.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_missing_shard(model: Path) -> None:
    shards(model)[1].unlink()
    assert refused(model).startswith(
        "MODEL: model.safetensors.index.json names 2 shards, 1 of them missing: model-00002-of-00002.safetensors; "
    )


def test_truncated_shard(model: Path) -> None:
    shard = shards(model)[0]
    shard.write_bytes(shard.read_bytes()[:-100])
    assert "model-00001-of-00002.safetensors: is truncated: tensor " in refused(model)


def test_tensor_in_the_index_but_not_in_its_shard(model: Path) -> None:
    edit_tensors(shards(model)[1], lambda tensors: tensors.pop("model.norm.weight"))
    assert "tensor 'model.norm.weight' should be in model-00002-of-00002.safetensors" in refused(model)


def test_the_same_tensor_twice(model: Path) -> None:
    first, second = shards(model)
    extra = load_file(second)["model.norm.weight"]
    edit_tensors(first, lambda tensors: tensors.update({"model.norm.weight": extra}))
    assert "tensor model.norm.weight is also in model-0000" in refused(model)


def test_overlapping_offsets(model: Path) -> None:
    def overlap(header: dict[str, Any]) -> None:
        name = max((name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"])
        begin, end = header[name]["data_offsets"]
        header[name]["data_offsets"] = [begin - 4, end - 4]

    edit_header(shards(model)[0], overlap)
    assert " of the data and overlaps " in refused(model)


def test_offsets_out_of_range(model: Path) -> None:
    def move(header: dict[str, Any]) -> None:
        name = max((name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"])
        header[name]["data_offsets"] = [offset + 10**12 for offset in header[name]["data_offsets"]]

    edit_header(shards(model)[0], move)
    assert " of the data, of which there are " in refused(model)


def test_header_larger_than_the_file(model: Path) -> None:
    shard = shards(model)[0]
    shard.write_bytes(struct.pack("<Q", 10**8) + shard.read_bytes()[8:])
    assert "announces a header of 100000000 bytes but has only " in refused(model)


@pytest.mark.parametrize(("value", "counts"), [(np.nan, "3 NaN and 0 infinite"), (np.inf, "0 NaN and 3 infinite")])
def test_weights_that_are_not_finite(model: Path, value: float, counts: str) -> None:
    name = "model.layers.1.mlp.down_proj.weight"
    shard = next(shard for shard in shards(model) if name in load_file(shard))

    def damage(tensors: dict[str, Any]) -> None:
        tensors[name][[0, 100, 200], 7] = value

    edit_tensors(shard, damage)
    assert refused(model) == (
        f"{name}: {counts} weights of 131072; the checkpoint is damaged, download or export it again"
    )


def test_a_weight_too_large_for_the_method(model: Path) -> None:
    name = "model.layers.1.mlp.down_proj.weight"
    shard = next(shard for shard in shards(model) if name in load_file(shard))
    edit_tensors(shard, lambda tensors: tensors[name].__setitem__((3, 5), 1e6))
    assert refused(model, "--method", "f16") == (
        "blk.1.ffn_down.weight: 1 weights or scales exceed float16's largest number 65504, on which f16 relies; "
        "use --method bf16 or f32"
    )


def test_no_config(model: Path) -> None:
    (model / "config.json").unlink()
    assert refused(model).startswith("MODEL: has no config.json; expected a checkpoint directory")


def test_unsupported_architecture(model: Path) -> None:
    edit_json(model / "config.json", architectures=["Qwen2NextForCausalLM"])
    assert refused(model) == (
        "config.json: architecture Qwen2NextForCausalLM is not supported; nearest: Qwen3NextForCausalLM; "
        "`convert families` lists those that are"
    )


def test_missing_tensor(model: Path) -> None:
    edit_json(model / "config.json", num_hidden_layers=3)
    assert refused(model) == (
        "missing tensor model.layers.2.input_layernorm.weight; the checkpoint is incomplete or not what config.json "
        "says"
    )


def test_unexpected_tensor(model: Path) -> None:
    edit_json(model / "config.json", num_hidden_layers=1)
    assert refused(model) == (
        "unexpected tensor model.layers.1.input_layernorm.weight (and 8 more); Llama has no place for it: is "
        "config.json the one of this checkpoint? --leave-out REGEX goes on without those that you name"
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"architectures": "x"}, "config.json: 'architectures' is 'x', a list with the model's class name expected"),
        ({"hidden_size": "256"}, "config.json: 'hidden_size' is '256', an integer of at least 1 expected"),
        ({"hidden_size": None}, "config.json: no 'hidden_size', an integer of at least 1 expected; the file is"),
        (
            {"hidden_size": 512},
            "model.embed_tokens.weight: shape [512, 256] found, [512, 512] expected from config.json",
        ),
        ({"rms_norm_eps": float("inf")}, "config.json: 'rms_norm_eps' is inf, a finite number expected"),
        ({"tie_word_embeddings": "yes"}, "config.json: 'tie_word_embeddings' is 'yes', true or false expected"),
        ({"num_key_value_heads": 3}, "config.json: num_attention_heads 4 is not a multiple of num_key_value_heads 3"),
        ({"num_attention_heads": 3, "head_dim": None, "num_key_value_heads": 1}, "do not give heads of an even length"),
        (
            {"hidden_act": "relu"},
            "config.json: 'hidden_act' is 'relu', but llama.cpp runs this family only with 'silu'",
        ),
        ({"rope_parameters": {"rope_type": "longrope"}}, "config.json: rope scaling 'longrope' cannot be represented"),
        (
            {"rope_parameters": {"rope_type": "linear"}},
            "config.json: no 'rope_parameters.factor', a positive number expected",
        ),
        ({"rope_parameters": [1]}, "config.json: 'rope_parameters' is [1], an object expected"),
    ],
)
def test_wrong_hyperparameters(model: Path, changes: dict[str, Any], expected: str) -> None:
    edit_json(model / "config.json", **changes)
    assert expected in refused(model)


def test_wrong_paths(tmp_path: Path) -> None:
    assert refused(tmp_path / "nowhere").startswith("MODEL: no such directory; ")


def test_outputs_that_must_not_be_written(model: Path, tmp_path: Path) -> None:
    run = ("--model", model, "--method", "q8_0", "--verify", "none")
    existing = tmp_path / "existing.gguf"
    existing.write_text("precious")
    assert refusal(*run, "--output", existing) == (
        f"{existing}: exists already; pass --overwrite to replace it or choose another --output"
    )
    assert existing.read_text() == "precious"
    shard = shards(model)[0]
    before = shard.read_bytes()
    linked = tmp_path / "linked.gguf"
    linked.symlink_to(shard)
    assert refusal(*run, "--output", linked, "--overwrite") == (
        f"{linked}: is a file of the source; choose another --output"
    )
    assert shard.read_bytes() == before
    assert refusal(*run, "--output", tmp_path / "x.safetensors", code=2) == (
        f"{tmp_path}/x.safetensors: the name says safetensors but the format is gguf; rename it or set --format"
    )


def test_a_full_disk_is_refused_before_it_is_written_to(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000))
    message = refused(model, "--verify", "none")
    assert message.endswith("MB needed, 0.0 MB free on its disk; free some space or choose another --output")


def test_two_conversions_of_one_file_do_not_mix(model: Path, tmp_path: Path) -> None:
    output = tmp_path / "locked.gguf"
    with (tmp_path / "locked.gguf.part").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert refusal("--model", model, "--method", "q4_0", "--output", output, "--verify", "none") == (
            f"{output}.part: another conversion is writing this file; wait for it to end"
        )
    assert not output.exists()


def test_wrong_usage() -> None:
    assert refusal("--method", "q4_0", code=2).startswith("--model is missing; convert --help shows an example")


def test_unknown_method_names_the_nearest(model: Path) -> None:
    assert refused(model, "--method", "q4-0", code=2) == "method 'q4-0' does not exist; did you mean q4_0?"
    assert refused(model, "--method", "zip", code=2).startswith("method 'zip' does not exist; methods are f32, ")
