"""Checkpoints in Meta's and Mistral's own layouts, made here of transformers' by the documented inverse mapping."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llama_cpp_oracle
import numpy as np
import pytest
import torch
from checkpoint_builder import write_model
from command_line import convert
from safetensors.torch import load_file, save_file

from converter.checkpoints import open_checkpoint

State = dict[str, torch.Tensor]
Refusal = Callable[..., str]
AssertReads = Callable[..., None]
NAMES = {
    "model.embed_tokens": "tok_embeddings", "model.norm": "norm", "lm_head": "output", "model.layers": "layers",
    "self_attn.q_proj": "attention.wq", "self_attn.k_proj": "attention.wk", "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo", "mlp.gate_proj": "feed_forward.w1", "mlp.down_proj": "feed_forward.w2",
    "mlp.up_proj": "feed_forward.w3", "input_layernorm": "attention_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip
COLUMN_PARALLEL = ("wq", "wk", "wv", "w1", "w3", "output")
ROW_PARALLEL = ("wo", "w2")
TOKENS = [3, 17, 200, 45, 99, 310, 7, 8, 9, 10, 11, 420]


def original(state: State, config: dict[str, Any]) -> State:
    """The authors' names, and a head's rotated pairs side by side."""
    found = {}
    for name, tensor in state.items():
        renamed = name
        for ours, theirs in NAMES.items():
            renamed = renamed.replace(ours, theirs)
        if renamed.endswith(("wq.weight", "wk.weight")):
            head = config["head_dim"]
            pairs = tensor.reshape(-1, 2, head // 2, tensor.shape[1]).transpose(1, 2)
            found[renamed] = pairs.reshape(tensor.shape)
        else:
            found[renamed] = tensor
    return found


def ranks(state: State, count: int, *, embedding: int, kv_heads: int) -> list[State]:
    """What each of ``count`` model-parallel processes holds; ``embedding`` is the axis that the embedding is cut at."""
    parts: list[State] = [{} for _ in range(count)]
    for name, tensor in state.items():
        layer = name.removesuffix(".weight").split(".")[-1]
        axis = 0 if layer in COLUMN_PARALLEL else 1 if layer in ROW_PARALLEL else None
        axis = embedding if layer == "tok_embeddings" else axis
        if layer in ("wk", "wv") and count > kv_heads:
            pieces = [piece for piece in tensor.chunk(kv_heads) for _ in range(count // kv_heads)]
        else:
            pieces = [tensor] * count if axis is None else list(tensor.chunk(count, axis))
        for part, piece in zip(parts, pieces, strict=True):
            part[name] = piece.clone()
    return parts


def parameters(config: dict[str, Any], **others: object) -> dict[str, object]:
    return {
        "dim": config["hidden_size"], "n_layers": config["num_hidden_layers"], "n_heads": config["num_attention_heads"],
        "n_kv_heads": config["num_key_value_heads"], "norm_eps": config["rms_norm_eps"], "multiple_of": 256,
        "vocab_size": -1, **others,
    }  # fmt: skip


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grouped queries: four heads, two of keys."""
    return write_model(tmp_path_factory.mktemp("llama") / "model", "llama", rms_norm_eps=1e-5, head_dim=64)


@pytest.fixture(scope="module")
def expected(llama: Path) -> Path:
    output = llama.with_name("expected.gguf")
    outcome = convert("--model", llama, "--method", "f32", "--output", output, "--quiet")
    assert outcome.code == 0, outcome
    return output


def rewritten(source: Path, directory: Path) -> tuple[Path, State, dict[str, Any]]:
    """A directory with nothing but the tokenizer, and the state and configuration that go into it."""
    directory.mkdir()
    for path in source.glob("tokenizer*"):
        shutil.copy(path, directory)
    config = json.loads((source / "config.json").read_text())
    return directory, original(load_file(source / "model.safetensors"), config), config


@pytest.fixture
def meta(llama: Path, tmp_path: Path) -> Callable[..., Path]:
    """``meta(count)``: the model as so many ranks, with ``params.json``."""

    def write(count: int = 1, *, embedding: int = 0, **others: object) -> Path:
        directory, state, config = rewritten(llama, tmp_path / "meta")
        state["rope.freqs"] = torch.ones(32)
        parts = ranks(state, count, embedding=embedding, kv_heads=config["num_key_value_heads"])
        for number, part in enumerate(parts):
            torch.save(part, directory / f"consolidated.{number:02}.pth")
        (directory / "params.json").write_text(json.dumps(parameters(config, **others)))
        return directory

    return write


@pytest.mark.parametrize(("count", "embedding"), [(1, 0), (2, 0), (2, 1), (4, 1)])
def test_logits(
    llama: Path, expected: Path, meta: Callable[..., Path], tmp_path: Path, count: int, embedding: int
) -> None:
    """llama.cpp's logits are those of transformers' model, and the file is the one that its checkpoint gives."""
    import transformers

    directory, output = meta(count, embedding=embedding), tmp_path / "x.gguf"
    outcome = convert("--model", directory, "--method", "f32", "--output", output, "--quiet")
    assert outcome.code == 0, outcome
    assert llama_cpp_oracle.tensors(output) == llama_cpp_oracle.tensors(expected)
    model = transformers.AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float32)
    with torch.inference_mode():
        reference = model(torch.tensor([TOKENS])).logits[0].numpy()
    np.testing.assert_allclose(llama_cpp_oracle.logits(output, TOKENS), reference, atol=2e-3)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_tensors(llama: Path, meta: Callable[..., Path], assert_reads: AssertReads, count: int) -> None:
    """Every tensor in whole and in odd pieces."""
    state = load_file(llama / "model.safetensors")
    with open_checkpoint(meta(count, embedding=1)) as checkpoint:
        assert checkpoint.tensors.keys() == state.keys()
        for name, tensor in state.items():
            assert_reads(checkpoint.tensors[name], tensor)
        assert [file.path.name for file in checkpoint.files] == [
            "params.json", *(f"consolidated.{number:02}.pth" for number in range(count))
        ]  # fmt: skip


def read_config(directory: Path) -> dict[str, Any]:
    return open_checkpoint(directory).config


def test_the_configuration(llama: Path, meta: Callable[..., Path]) -> None:
    """Sizes as transformers' own configuration has them; the rest as transformers' for this generation."""
    import transformers

    wanted = json.loads((llama / "config.json").read_text())
    found = read_config(meta(2, rope_theta=500000.0, use_scaled_rope=True))
    for name in (
        "architectures", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
        "intermediate_size", "vocab_size", "rms_norm_eps", "tie_word_embeddings", "hidden_act",
    ):  # fmt: skip
        assert found[name] == wanted[name]
    assert found["rope_scaling"] == {
        "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }  # fmt: skip
    assert found["max_position_embeddings"] == 131072
    understood = transformers.LlamaConfig(**found)
    assert understood.rope_parameters["rope_theta"] == 500000.0
    assert understood.rope_parameters["rope_type"] == "llama3"


@pytest.mark.parametrize(
    ("others", "length"),
    [
        ({}, 4096),
        ({"norm_eps": 1e-6}, 2048),
        ({"rope_theta": 500000.0}, 8192),
        ({"rope_theta": 1000000.0}, 16384),
        ({"max_seq_len": 1234}, 1234),
        ({"rope_theta": 1000000.0, "hidden_dim": 512}, 32768),
    ],
)
def test_the_length_of_the_context(meta: Callable[..., Path], others: dict[str, object], length: int) -> None:
    assert read_config(meta(**others))["max_position_embeddings"] == length


def test_a_configuration_beside_the_parameters(llama: Path, meta: Callable[..., Path]) -> None:
    directory = meta()
    shutil.copy(llama / "config.json", directory)
    assert read_config(directory) == json.loads((llama / "config.json").read_text())


@pytest.mark.parametrize("shards", [1, 2])
def test_mistral(tmp_path: Path, shards: int) -> None:
    source = write_model(tmp_path / "source", "mistral", sliding_window=None, max_position_embeddings=32768)
    directory, state, config = rewritten(source, tmp_path / "mistral")
    config = {**config, "head_dim": config.get("head_dim") or 64}
    state = original(load_file(source / "model.safetensors"), config)
    names = [f"consolidated-{number + 1:05}-of-00002.safetensors" for number in range(2)]
    placed = {name: names[number % 2] for number, name in enumerate(state)} if shards == 2 else {}
    for shard in set(placed.values()):
        save_file({name: state[name].contiguous() for name in state if placed[name] == shard}, directory / shard)
    if placed:
        (directory / "consolidated.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))
    else:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, directory / "consolidated.safetensors")
    others = {"head_dim": config["head_dim"], "hidden_dim": config["intermediate_size"], "use_biases": False}
    (directory / "params.json").write_text(json.dumps(parameters(config, **others)))
    outputs = []
    for model in (source, directory):
        outputs.append(tmp_path / f"{model.name}.gguf")
        outcome = convert("--model", model, "--method", "q4_0", "--output", outputs[-1], "--quiet")
        assert outcome.code == 0, outcome
    assert llama_cpp_oracle.tensors(outputs[0]) == llama_cpp_oracle.tensors(outputs[1])


def edited(directory: Path, change: Callable[[State], object], number: int = 0) -> Path:
    """One of the files with other tensors."""
    path = directory / f"consolidated.{number:02}.pth"
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)
    return directory


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ({"dim": "256"}, "dim is '256', a positive integer expected"),
        ({"n_heads": None}, "n_heads is None, a positive integer expected"),
        ({"norm_eps": 0}, "norm_eps is 0, a positive number expected"),
        ({"use_scaled_rope": 1}, "use_scaled_rope is 1, true or false expected"),
        ({"moe": {"num_experts": 8}}, "moe is {'num_experts': 8}, which is not understood; put the config.json that"),
        ({"n_heads": 2}, "tensor layers.0.attention.wk.weight has 128 rows in 1 files, expected 256 in heads of 128;"),
        ({"n_kv_heads": 4}, "tensor layers.0.attention.wk.weight has 128 rows in 1 files, expected 256 in heads of 64"),
    ],
)
def test_parameters_that_do_not_fit(
    meta: Callable[..., Path], refusal: Refusal, others: dict[str, object], expected: str
) -> None:
    directory = meta(**others)
    assert refusal(open_checkpoint, directory).startswith(f"{directory}/params.json: {expected}")


@pytest.mark.parametrize(
    ("change", "number", "expected"),
    [
        (lambda state: state.pop("norm.weight"), 1, "00.pth: tensor norm.weight is F32 [256] here and missing in file"),
        (lambda state: state.update(x=torch.ones(2)), 1, "01.pth: tensor x is not in file 0; download files 0 and 1"),
        (lambda state: state.update(x=torch.ones(2)), 0, "00.pth: tensor x does not belong to a Llama or Mistral; put"),
        (
            lambda state: state.update({"norm.weight": torch.ones(256).half()}),
            1,
            "00.pth: tensor norm.weight is F32 [256] here and F16 [256] in file 1; download both",
        ),
        (
            lambda state: state.pop("layers.0.feed_forward.w1.weight"),
            0,
            "01.pth: tensor layers.0.feed_forward.w1.weight is not in file 0; download files 0 and 1",
        ),
    ],
)  # fmt: skip
def test_ranks_that_do_not_fit(
    meta: Callable[..., Path], refusal: Refusal, change: Callable[[State], object], number: int, expected: str
) -> None:
    directory = edited(meta(2), change, number)
    assert refusal(open_checkpoint, directory).startswith(f"{directory}/consolidated.{expected}")


@pytest.mark.parametrize("name", ["tok_embeddings", "layers.0.feed_forward.w1"])
def test_tensors_that_tell_sizes(meta: Callable[..., Path], refusal: Refusal, name: str) -> None:
    directory = edited(meta(), lambda state: state.pop(f"{name}.weight"))
    assert refusal(open_checkpoint, directory).startswith(f"{directory}/params.json: no tensor for model.")


def test_files_that_are_missing(meta: Callable[..., Path], refusal: Refusal) -> None:
    directory = meta(4)
    (directory / "consolidated.02.pth").unlink()
    assert refusal(open_checkpoint, directory).startswith(
        f"{directory}: holds consolidated.00.pth, consolidated.01.pth"
    )
    (directory / "consolidated.03.pth").unlink()
    assert "has 128 rows in 2 files, expected 256 in heads of 64; are all files of the model here?" in refusal(
        open_checkpoint, directory
    )
    (directory / "params.json").unlink()
    assert refusal(open_checkpoint, directory).startswith(f"{directory}: has no params.json; expected a checkpoint")


def test_a_full_verification_runs_transformers_model_with_our_tensors(
    llama: Path, meta: Callable[..., Path], tmp_path: Path
) -> None:
    from converter.verification import verify

    directory, output = meta(2), tmp_path / "x.gguf"
    assert convert("--model", directory, "--method", "q8_0", "--output", output, "--quiet").code == 0
    theirs, ours = (
        verify(output, level="full", source=source, tokenizer=llama, method="q8_0", threads=1)
        for source in (llama, directory)
    )
    assert ours.passed, ours
    assert "the source's weights were read by convert" in ours.verdict
    assert ours.mean_kl == pytest.approx(theirs.mean_kl, rel=1e-4)
