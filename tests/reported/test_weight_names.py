"""Names of tensors that people meet, against the names and values of transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from command_line import convert, refusal
from reported_weights import WEIGHTS, State, assert_holds, configure, loaded, rewrite, saved
from safetensors.torch import load_file

from converter.checkpoints import open_checkpoint
from converter.errors import UsageError

RENAMED: dict[str, Callable[[str], str]] = {
    "torch.compile": lambda name: f"_orig_mod.{name}",
    "torch.compile of each layer": lambda name: name.replace("layers.0.", "layers.0._orig_mod."),
    "torch.compile inside DDP": lambda name: f"module._orig_mod.{name}",
    "DistributedDataParallel": lambda name: f"module.{name}",
    "FSDP": lambda name: "_fsdp_wrapped_module." + name.replace("layers.1.", "layers.1._fsdp_wrapped_module."),
    "activation checkpointing": lambda name: name.replace("layers.1.", "layers.1._checkpoint_wrapped_module."),
    "PEFT": lambda name: f"base_model.model.{name}",
    "PEFT around DDP": lambda name: f"base_model.model.module.{name}",
    "a value head's model": lambda name: f"pretrained_model.{name}",
    "a doubled model": lambda name: f"model.{name}",
    "a doubled model beside its head": lambda name: name if name.startswith("lm_head") else f"model.{name}",
    "a class of one's own": lambda name: f"policy.actor.{name}",
    "a text part": lambda name: f"language_model.{name}",
    "a text part as it is saved since": lambda name: name.replace("model.", "model.language_model."),
    "a text part without its model": lambda name: name.replace("model.", "language_model."),
    "the model below the head": lambda name: name.removeprefix("model."),
    "transformer": lambda name: name.replace("model.", "transformer."),
}


@pytest.mark.parametrize("wrapper", RENAMED)
def test_what_stands_before_and_inside_names(tmp_path: Path, wrapper: str) -> None:
    expected = saved(tmp_path / "model")
    rewrite(tmp_path / "model", lambda state: {RENAMED[wrapper](name): tensor for name, tensor in state.items()})
    checkpoint = assert_holds(tmp_path / "model", expected)
    assert len(checkpoint.notices) in (1, 2)
    assert all(notice.startswith("names of tensors are read with") for notice in checkpoint.notices)


@pytest.mark.parametrize("wrapper", ["DistributedDataParallel", "torch.compile", "a doubled model", "PEFT"])
def test_the_same_in_files_of_pytorch(tmp_path: Path, wrapper: str) -> None:
    expected = saved(tmp_path / "model")
    state = load_file(tmp_path / "model" / WEIGHTS)
    (tmp_path / "model" / WEIGHTS).unlink()
    torch.save({RENAMED[wrapper](name): tensor for name, tensor in state.items()}, tmp_path / "model/pytorch_model.bin")
    assert assert_holds(tmp_path / "model", expected).notices


@pytest.mark.parametrize("variation", ["llama", "gpt2", "gpt-neox", "bloom", "qwen2", "gemma3", "mamba"])
def test_names_as_transformers_saves_them_are_left_alone(tmp_path: Path, variation: str) -> None:
    saved(tmp_path / "model", variation)
    names = set(load_file(tmp_path / "model" / WEIGHTS))
    with open_checkpoint(tmp_path / "model") as checkpoint:
        assert set(checkpoint.tensors) == names
        assert checkpoint.notices == ()


@pytest.mark.parametrize(("variation", "wrapper"), [("gpt2", "module."), ("gpt-neox", "model."), ("mamba", "net.")])
def test_wrappers_of_other_families(tmp_path: Path, variation: str, wrapper: str) -> None:
    saved(tmp_path / "model", variation)
    before = load_file(tmp_path / "model" / WEIGHTS)
    rewrite(tmp_path / "model", lambda state: {f"{wrapper}{name}": tensor for name, tensor in state.items()})
    assert_holds(tmp_path / "model", before)


LEFT_OUT: dict[str, torch.Tensor] = {
    "v_head.summary.weight": torch.ones(1, 128),
    "v_head.summary.bias": torch.zeros(1),
    "value_head.weight": torch.ones(1, 128),
    "reward_head.weight": torch.ones(1, 128),
    "model.layers.0.self_attn._extra_state": torch.zeros(8, dtype=torch.uint8),
    "lm_head._extra_state": torch.zeros(0, dtype=torch.uint8),
    "model.layers.0.mlp.bn.num_batches_tracked": torch.tensor(3),
    "model.position_ids": torch.arange(8)[None],
    "model.embeddings.position_ids": torch.arange(8)[None],
    "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(16),
    "model.rotary_emb.original_inv_freq": torch.ones(16),
    "model.layers.1.self_attn.rotary_emb.cos_cached": torch.ones(1, 1, 8, 16),
    "model.layers.0.attn.masked_bias": torch.tensor(-1e9),
    "model.layers.0.attn.bias": torch.ones(1, 1, 8, 8, dtype=torch.bool),
    "model.layers.1.attention.bias": torch.ones(1, 1, 8, 8),
    "visual.patch_embed.proj.weight": torch.ones(4, 3, 2, 2),
    "model.vision_tower.embeddings.weight": torch.ones(4, 4),
    "multi_modal_projector.linear_1.weight": torch.ones(4, 4),
}


def test_heads_and_buffers_that_transformers_ignores(tmp_path: Path) -> None:
    expected = saved(tmp_path / "model")
    rewrite(tmp_path / "model", lambda state: {**LEFT_OUT, **state})
    assert loaded(tmp_path / "model").keys() == expected.keys()  # transformers ignores them
    told = " ".join(assert_holds(tmp_path / "model", expected).notices)
    for kind in (
        "heads of reinforcement learning",
        "_extra_state",
        "num_batches_tracked",
        "attention masks",
        "parts of a multimodal model",
    ):
        assert kind in told


@pytest.mark.parametrize("name", LEFT_OUT)
def test_each_of_them_beside_a_wrapper(tmp_path: Path, name: str) -> None:
    expected = saved(tmp_path / "model", num_hidden_layers=2)
    rewrite(
        tmp_path / "model",
        lambda state: {name: LEFT_OUT[name], **{f"pretrained_model.{key}": tensor for key, tensor in state.items()}},
    )
    assert_holds(tmp_path / "model", expected)


def test_a_bias_is_no_mask(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    rewrite(tmp_path / "model", lambda state: {**state, "model.layers.0.attn.bias": torch.ones(128)})
    message = refusal("--model", tmp_path / "model", "--method", "f32", "--output", tmp_path / "x.gguf")
    assert "unexpected tensor model.layers.0.attn.bias" in message


def test_the_notice_is_a_warning_of_the_conversion(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    rewrite(tmp_path / "model", lambda state: {**state, "v_head.summary.weight": torch.ones(1, 128)})
    for form in ("gguf", "safetensors"):
        outcome = convert("--model", tmp_path / "model", "--method", "f32", "--format", form, "--verify", "none",
                          "--output", tmp_path / f"x.{form}" if form == "gguf" else tmp_path / "x")  # fmt: skip
        assert outcome.code == 0
        assert "heads of reinforcement learning are left out" in outcome.err
        assert "v_head.summary.weight" in outcome.err


def test_two_tensors_that_would_be_one(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    rewrite(
        tmp_path / "model",
        lambda state: {**state, "model._orig_mod.norm.weight": torch.ones(128)},
    )
    message = refusal("--model", tmp_path / "model", "--method", "f32", "--output", tmp_path / "x.gguf")
    assert "would both be model.norm.weight; keep one of them" in message


def test_tensors_left_out_by_the_user(tmp_path: Path) -> None:
    expected = saved(tmp_path / "model")
    extra = {"aux.0.weight": torch.ones(4), "aux.1.weight": torch.ones(4)}
    rewrite(tmp_path / "model", lambda state: {**state, **extra})
    with open_checkpoint(tmp_path / "model", leave_out=[r"aux\..*"]) as checkpoint:
        assert set(checkpoint.tensors) == set(expected)
        assert checkpoint.notices == ("left out as asked: aux.0.weight, aux.1.weight",)
    with pytest.raises(UsageError, match="matches the whole name of no tensor"):
        open_checkpoint(tmp_path / "model", leave_out=["aux"])
    with pytest.raises(UsageError, match="is no regular expression"):
        open_checkpoint(tmp_path / "model", leave_out=["("])


# The index.


def sharded(directory: Path, **overrides: object) -> tuple[State, Path]:
    expected = saved(directory, shard="200KB", **overrides)
    return expected, directory / f"{WEIGHTS}.index.json"


def listed(index: Path, name: str) -> None:
    """Let the index list a tensor in its last shard."""
    content = json.loads(index.read_text())
    content["weight_map"][name] = sorted(set(content["weight_map"].values()))[-1]
    index.write_text(json.dumps(content))


@pytest.mark.parametrize("said", [True, None])
def test_a_tied_head_that_only_the_index_lists(tmp_path: Path, said: bool | None) -> None:
    expected, index = sharded(tmp_path / "model", tie_word_embeddings=True)
    listed(index, "lm_head.weight")
    assert loaded(tmp_path / "model").keys() == expected.keys()
    configure(tmp_path / "model", tie_word_embeddings=said)
    assert_holds(tmp_path / "model", {name: value for name, value in expected.items() if name != "lm_head.weight"})


def test_a_buffer_that_only_the_index_lists(tmp_path: Path) -> None:
    expected, index = sharded(tmp_path / "model")
    listed(index, "model.layers.0.self_attn.rotary_emb.inv_freq")
    assert_holds(tmp_path / "model", expected)


@pytest.mark.parametrize(("name", "tied"), [("lm_head.weight", False), ("model.layers.9.mlp.up_proj.weight", True)])
def test_other_tensors_that_only_the_index_lists(tmp_path: Path, name: str, tied: bool) -> None:
    _, index = sharded(tmp_path / "model", tie_word_embeddings=True)
    listed(index, name)
    configure(tmp_path / "model", tie_word_embeddings=tied)
    message = refusal("--model", tmp_path / "model", "--method", "f32", "--output", tmp_path / "x.gguf")
    assert f"tensor '{name}' should be in" in message
    assert message.endswith("download the index and the shards again")


def test_a_byte_order_mark(tmp_path: Path) -> None:
    expected, index = sharded(tmp_path / "model")
    for path in (index, tmp_path / "model/config.json"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert_holds(tmp_path / "model", expected)


# Types of numbers.


@pytest.mark.parametrize("form", ["safetensors", "bin"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
def test_types_that_transformers_reads(tmp_path: Path, dtype: torch.dtype, form: str) -> None:
    saved(tmp_path / "model")

    def change(state: State) -> State:
        # Beyond float32: what a conversion rounds, and what it makes infinite, is PyTorch's to say.
        return {name: (tensor.double() * (1 + 1e-12)).to(dtype) for name, tensor in state.items()}

    rewrite(tmp_path / "model", change)
    if form == "bin":
        torch.save(load_file(tmp_path / "model" / WEIGHTS), tmp_path / "model/pytorch_model.bin")
        (tmp_path / "model" / WEIGHTS).rename(tmp_path / "kept.safetensors")
    state = load_file(tmp_path / ("model/" + WEIGHTS if form == "safetensors" else "kept.safetensors"))
    assert_holds(tmp_path / "model", {name: tensor.float() for name, tensor in state.items()})
    outcome = convert(
        "--model", tmp_path / "model", "--method", "f32", "--verify", "none", "--output", tmp_path / "x.gguf"
    )
    assert outcome.code == 0


def test_columns_of_wide_numbers(tmp_path: Path) -> None:
    """Of tensors wider and narrower than what is read at a time."""
    state = {"wide": torch.randn(3, 300_000).double(), "narrow": torch.randn(5000, 33).double()}
    (tmp_path / "config.json").write_text("{}")
    from safetensors.torch import save_file

    save_file(state, tmp_path / WEIGHTS)
    with open_checkpoint(tmp_path) as checkpoint:
        for name, columns in (("wide", slice(5, 299_000)), ("narrow", slice(2, 30)), ("wide", slice(7, 9))):
            tensor = checkpoint.tensors[name]
            found = tensor.read_rows(1, tensor.rows, columns)
            assert torch.equal(torch.from_numpy(found), state[name].float()[1:, columns])


# Names that no class has, explained.


@pytest.mark.parametrize(
    ("rename", "told"),
    [
        (lambda name: name.replace("self_attn.o_proj", "self_attention.linear_proj"), "has a name of Megatron"),
        (lambda name: name.replace("model.embed_tokens", "token_embd"), "has the name of a GGUF file"),
        (lambda name: name.replace("model.", "").replace("self_attn.q_proj", "attention.wq"), "its author's own name"),
        (lambda name: name.replace("self_attn.q_proj", "self_attn.qkv_proj"), "joins matrices that this model's class"),
        (lambda name: name.replace("lm_head", "score"), "score.weight is the head of a classifier"),
    ],
    ids=["Megatron", "GGUF", "Meta", "fused", "classifier"],
)  # fmt: skip
def test_names_of_other_programs(tmp_path: Path, rename: Callable[[str], str], told: str) -> None:
    saved(tmp_path / "model")
    rewrite(tmp_path / "model", lambda state: {rename(name): tensor for name, tensor in state.items()})
    message = refusal("--model", tmp_path / "model", "--method", "f32", "--output", tmp_path / "x.gguf")
    assert told in message


def test_the_option_that_leaves_tensors_out(tmp_path: Path) -> None:
    expected = saved(tmp_path / "model")
    rewrite(tmp_path / "model", lambda state: {**state, "aux.0.weight": torch.ones(4), "aux.1.weight": torch.ones(4)})
    asked = ("--model", tmp_path / "model", "--method", "f32", "--output", tmp_path / "x.gguf", "--verify", "none")
    assert refusal(*asked).endswith("? --leave-out REGEX goes on without those that you name")
    outcome = convert(*asked, "--leave-out", r"aux\.\d\.weight")
    assert outcome.code == 0, outcome.err
    assert "left out as asked: aux.0.weight, aux.1.weight" in outcome.err
    assert expected
    message = refusal(*asked, "--overwrite", "--leave-out", r"lm_head\.weight", "--leave-out", "aux.*")
    assert "missing tensor lm_head.weight" in message
