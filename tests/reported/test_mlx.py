"""Checkpoints and adapters of MLX.

``fixtures/mlx/quantized.safetensors`` was made by MLX 0.32 itself: random matrices through ``mlx.core.quantize``, each
``KIND.weight``, ``.scales`` and ``.biases`` with what ``mlx.core.dequantize`` makes of them as ``KIND.expected``. KIND
is the mode, the bits of a code, the size of a group and the type of the scales.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import convert, refusal
from reported_weights import WEIGHTS, State, assert_holds, configure, rewrite, saved, values
from safetensors.torch import load_file, save_file

from converter.checkpoints import open_checkpoint

FIXTURE = Path(__file__).parents[1] / "fixtures/mlx/quantized.safetensors"
MADE = load_file(FIXTURE)
KINDS = [name.removesuffix(".expected") for name in MADE if name.endswith(".expected")]


def settings(kind: str) -> dict[str, Any]:
    mode, bits, size, _ = kind.split("-")
    return {"mode": mode, "bits": int(bits), "group_size": int(size)}


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_those_of_mlx(tmp_path: Path, kind: str) -> None:
    parts = {f"m.{part}": MADE[f"{kind}.{part}"] for part in ("weight", "scales", "biases") if f"{kind}.{part}" in MADE}
    (tmp_path / "config.json").write_text(json.dumps({"quantization": settings(kind)}))
    save_file({**parts, "norm.weight": torch.ones(3)}, tmp_path / WEIGHTS, {"format": "mlx"})
    expected = MADE[f"{kind}.expected"].float()
    with open_checkpoint(tmp_path) as checkpoint:
        assert set(checkpoint.tensors) == {"m.weight", "norm.weight"}
        assert torch.equal(values(checkpoint, "m.weight"), expected)
        rows = expected.reshape(-1, expected.shape[-1]).numpy()
        for start, stop, columns in ((0, 3, slice(5, 50)), (1, 2, slice(33, 64)), (2, 3, slice(0, 1))):
            found = checkpoint.tensors["m.weight"].read_rows(start, stop, columns)
            np.testing.assert_array_equal(found, rows[start:stop, columns])


def quantized(weight: torch.Tensor, bits: int, size: int) -> State:
    """A matrix quantized as MLX does it, in NumPy's own integers: codes from the lowest bit of a row on."""
    groups = weight.reshape(len(weight), -1, size).numpy()
    low = groups.min(2, keepdims=True)
    step = (groups.max(2, keepdims=True) - low) / (2**bits - 1)
    codes = np.round((groups - low) / step).astype(np.uint8).reshape(len(weight), -1)
    stored = np.unpackbits(codes[..., None], axis=2, bitorder="little")[..., :bits].reshape(len(weight), -1)
    words = np.packbits(stored, axis=1, bitorder="little").view(np.uint32)
    return {
        "weight": torch.from_numpy(words),
        "scales": torch.from_numpy(step[..., 0]), "biases": torch.from_numpy(low[..., 0]),
        "expected": torch.from_numpy((codes.reshape(groups.shape) * step + low).reshape(weight.shape)),
    }  # fmt: skip


def mlx_model(directory: Path, choose: Any, **config: Any) -> State:
    """A model of MLX: ``choose(module)`` gives bits and group size, or None; what its weights are."""
    expected = saved(directory)

    def change(state: State) -> State:
        changed: State = {}
        for name, tensor in state.items():
            module = name.removesuffix(".weight")
            if tensor.ndim == 2 and choose(module) is not None:
                parts = quantized(tensor, *choose(module))
                expected[name] = parts.pop("expected")
                changed.update({f"{module}.{part}": value for part, value in parts.items()})
            else:
                changed[name] = tensor
        return changed

    rewrite(directory, change)
    configure(directory, **config)
    return expected


def assert_near(directory: Path, expected: State) -> None:
    with open_checkpoint(directory) as checkpoint:
        assert set(checkpoint.tensors) == set(expected)
        for name, value in expected.items():
            assert torch.allclose(values(checkpoint, name), value, rtol=0, atol=1e-6), name


@pytest.mark.parametrize(
    "config",
    [
        {"quantization": {"group_size": 64, "bits": 4}},
        {"quantization": {"group_size": 64, "bits": 4}, "quantization_config": {"group_size": 64, "bits": 4}},
        {"quantization_config": {"group_size": 64, "bits": 4, "mode": "affine"}},
    ],
    ids=["its own name", "both", "transformers' name"],
)
def test_a_whole_model(tmp_path: Path, config: dict[str, Any]) -> None:
    expected = mlx_model(tmp_path / "model", lambda _: (4, 64), **config)
    assert_near(tmp_path / "model", expected)
    outcome = convert(
        "--model", tmp_path / "model", "--method", "q4_0", "--output", tmp_path / "x.gguf", "--verify", "load"
    )
    assert outcome.code == 0, outcome.err
    outcome = convert("--model", tmp_path / "model", "--method", "bf16", "--format", "safetensors", "--verify", "none",
                      "--output", tmp_path / "plain")  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "quantization" not in json.loads((tmp_path / "plain/config.json").read_text())


def test_modules_with_settings_of_their_own(tmp_path: Path) -> None:
    def choose(module: str) -> tuple[int, int] | None:
        if module == "lm_head":
            return 8, 32
        return None if "embed" in module or "layers.1.mlp" in module else (3, 128) if "q_proj" in module else (4, 64)

    own = {f"model.layers.{layer}.self_attn.q_proj": {"bits": 3, "group_size": 128} for layer in range(2)}
    expected = mlx_model(
        tmp_path / "model",
        choose,
        quantization={"group_size": 64, "bits": 4, "lm_head": {"bits": 8, "group_size": 32},
                      "model.embed_tokens": False, "model.layers.1.mlp.gate_proj": False, **own},
    )  # fmt: skip
    assert_near(tmp_path / "model", expected)


def test_names_with_a_prefix(tmp_path: Path) -> None:
    """Settings of modules go by the names that are in the files."""
    expected = mlx_model(
        tmp_path / "model",
        lambda module: (8, 32) if module == "lm_head" else (4, 64),
        quantization={"group_size": 64, "bits": 4, "language_model.lm_head": {"bits": 8, "group_size": 32}},
    )
    rewrite(tmp_path / "model", lambda state: {f"language_model.{name}": tensor for name, tensor in state.items()})
    assert_near(tmp_path / "model", expected)


def test_weights_that_are_not_quantized(tmp_path: Path) -> None:
    expected = saved(tmp_path / "model", dtype="bfloat16")
    state = load_file(tmp_path / "model" / WEIGHTS)
    save_file(state, tmp_path / "model" / WEIGHTS, {"format": "mlx"})
    assert_holds(tmp_path / "model", expected)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "is of a checkpoint quantized with mlx, but config.json does not say how"),
        ({"quantization": {"group_size": 64, "bits": 4, "mode": "trellis"}}, "mode in quantization"),
        ({"quantization": {"group_size": 64, "bits": 7}}, "bits in quantization"),
        ({"quantization": {"group_size": 48, "bits": 4}}, "group_size in quantization"),
        ({"quantization": {"group_size": 64, "bits": 8}}, "has shape (512, 2), expected (512, 1)"),
        ({"quantization": {"group_size": 32, "bits": 4}}, "has shape (512, 2), expected (512, 4)"),
        ({"quantization": {"group_size": 64, "bits": 4, "lm_head": False}}, "lm_head in quantization is False, but"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    mlx_model(tmp_path / "model", lambda module: (4, 64) if module == "lm_head" else None, **config)
    assert message in refusal("--model", tmp_path / "model", "--method", "f32", "--output", tmp_path / "x.gguf")


def test_a_part_that_is_missing(tmp_path: Path) -> None:
    mlx_model(tmp_path / "model", lambda _: (4, 64), quantization={"group_size": 64, "bits": 4})
    for part in ("scales", "biases"):
        rewrite(tmp_path / "model", lambda state, part=part: {k: v for k, v in state.items() if k != f"lm_head.{part}"})
        message = refusal("--model", tmp_path / "model", "--method", "f32", "--output", tmp_path / "x.gguf")
        assert message.endswith("download the checkpoint again") or message.endswith("download it again")
        assert "lm_head" in message


# Adapters.

SCALE = 10.0


def mlx_adapter(directory: Path, tensors: State, **fields: Any) -> Path:
    directory.mkdir()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, directory / "adapters.safetensors",
              {"format": "mlx"})  # fmt: skip
    config = {"model": "model", "fine_tune_type": "lora", "num_layers": 2,
              "lora_parameters": {"rank": 4, "scale": SCALE, "dropout": 0.0}}  # fmt: skip
    (directory / "adapter_config.json").write_text(json.dumps({**config, **fields}))
    return directory


def lora(modules: dict[str, tuple[int, int]], rank: int = 4) -> State:
    """Random matrices for modules of these inputs and outputs."""
    generator = torch.Generator().manual_seed(3)
    return {
        f"{module}.lora_{side}": torch.randn(shape, generator=generator) * 0.1
        for module, (inputs, outputs) in modules.items()
        for side, shape in (("a", (inputs, rank)), ("b", (rank, outputs)))
    }


PROJECTIONS = {
    f"model.layers.{layer}.{name}": shape
    for layer in range(2)
    for name, shape in (
        ("self_attn.q_proj", (128, 128)),
        ("self_attn.v_proj", (128, 64)),
        ("mlp.down_proj", (192, 128)),
    )
}


def fused(state: State, tensors: State, scale: float) -> State:
    """What ``fuse`` of mlx-lm makes of a model, in float64."""
    result = dict(state)
    for name in (name for name in tensors if name.endswith(".lora_a")):
        module = name.removesuffix(".lora_a")
        a, b = tensors[name].double(), tensors[f"{module}.lora_b"].double()
        weight = state[f"{module}.weight"].double()
        delta = scale * a @ b if "embed" in module else (scale * b.T) @ a.T
        weight = weight + delta
        if f"{module}.m" in tensors:
            weight = (tensors[f"{module}.m"].double() / torch.linalg.norm(weight, dim=1))[:, None] * weight
        result[f"{module}.weight"] = weight.float()
    return result


def merged_values(base: Path, adapter: Path) -> State:
    from converter.adapters import adapt

    with open_checkpoint(base) as checkpoint:
        merged = adapt(checkpoint, [adapter])
        return {name: values(merged, name) for name in merged.tensors}


def assert_merges(base: Path, adapter: Path, expected: State) -> None:
    found = merged_values(base, adapter)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.allclose(found[name], value, rtol=1e-5, atol=1e-6), name


def test_lora(tmp_path: Path) -> None:
    state, tensors = saved(tmp_path / "model"), lora(PROJECTIONS)
    adapter = mlx_adapter(tmp_path / "adapter", tensors)
    assert_merges(tmp_path / "model", adapter, fused(state, tensors, SCALE))


def test_dora(tmp_path: Path) -> None:
    state, tensors = saved(tmp_path / "model"), lora(PROJECTIONS)
    lengths = {f"{module}.m": torch.rand(shape[1]) + 0.5 for module, shape in PROJECTIONS.items()}
    adapter = mlx_adapter(tmp_path / "adapter", {**tensors, **lengths}, fine_tune_type="dora")
    assert_merges(tmp_path / "model", adapter, fused(state, {**tensors, **lengths}, SCALE))


def test_an_embedding_that_is_the_output_too(tmp_path: Path) -> None:
    state = saved(tmp_path / "model", tie_word_embeddings=True)
    tensors = lora({"model.embed_tokens": (512, 128)})
    adapter = mlx_adapter(tmp_path / "adapter", tensors)
    expected = fused(state, tensors, SCALE)
    del expected["lm_head.weight"]
    assert_merges(tmp_path / "model", adapter, expected)


def test_whole_tensors(tmp_path: Path) -> None:
    state = saved(tmp_path / "model")
    new = {"model.layers.1.mlp.up_proj.weight": torch.randn(192, 128), "model.norm.weight": torch.rand(128)}
    adapter = mlx_adapter(tmp_path / "adapter", new, fine_tune_type="full", lora_parameters=None)
    assert_merges(tmp_path / "model", adapter, {**state, **new})


def test_on_a_quantized_base(tmp_path: Path) -> None:
    state = mlx_model(tmp_path / "model", lambda _: (4, 64), quantization={"group_size": 64, "bits": 4})
    tensors = lora(PROJECTIONS)
    assert_merges(tmp_path / "model", mlx_adapter(tmp_path / "adapter", tensors), fused(state, tensors, SCALE))


def test_strength_as_it_was_told_at_first(tmp_path: Path) -> None:
    """While the field was ``lora_layers``, alpha / rank counted beside the scale."""
    state, tensors = saved(tmp_path / "model"), lora(PROJECTIONS)
    adapter = mlx_adapter(tmp_path / "adapter", tensors, num_layers=None, lora_layers=2,
                          lora_parameters={"rank": 4, "alpha": 8.0, "scale": 5.0, "dropout": 0.0})  # fmt: skip
    assert_merges(tmp_path / "model", adapter, fused(state, tensors, 10.0))


def test_an_adapter_of_its_own_file(tmp_path: Path) -> None:
    """Beside its base in llama.cpp it does what it does merged, by transformers' logits."""
    from lora_builder import TOKENS, llama_logits
    from transformers import AutoModelForCausalLM

    state, tensors = saved(tmp_path / "model"), lora(PROJECTIONS)
    adapter = mlx_adapter(tmp_path / "adapter", tensors)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    model.load_state_dict(fused(state, tensors, SCALE))
    with torch.no_grad():
        expected = model(torch.tensor([TOKENS])).logits[0].numpy()
    assert convert("--model", tmp_path / "model", "--method", "f32", "--verify", "none",
                   "--output", tmp_path / "base.gguf").code == 0  # fmt: skip
    outcome = convert("adapter", adapter, "--base", tmp_path / "model", "--output", tmp_path / "lora.gguf")
    assert outcome.code == 0, outcome.err
    found = llama_logits(tmp_path / "base.gguf", tmp_path / "lora.gguf")[:, : expected.shape[1]]
    assert np.abs(found - expected).max() / np.abs(expected).max() < 3e-3


def test_full_verification_runs_the_source_with_it(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    adapter = mlx_adapter(tmp_path / "adapter", lora(PROJECTIONS))
    outcome = convert("--model", tmp_path / "model", "--adapter", adapter, "--method", "f32", "--verify", "full",
                      "--output", tmp_path / "x.gguf")  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "faithful" in outcome.out


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"fine_tune_type": "prefix"}, "'fine_tune_type' is 'prefix', one of lora, dora, full expected"),
        ({"lora_parameters": None}, "'lora_parameters' is None, an object with rank and scale expected"),
        ({"lora_parameters": {"scale": 1.0}}, "'rank' in lora_parameters is None"),
        ({"lora_parameters": {"rank": 4, "scale": "x"}}, "'scale' in lora_parameters is 'x'"),
        ({"lora_parameters": {"rank": 4, "scale": math.inf}}, "'scale' in lora_parameters is inf"),
        ({"lora_parameters": {"rank": 8, "scale": 1.0}}, "rank 8 expected"),
    ],
    ids=str,
)
def test_configurations_that_do_not_fit(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    saved(tmp_path / "model")
    adapter = mlx_adapter(tmp_path / "adapter", lora(PROJECTIONS), **fields)
    assert message in refusal("--model", tmp_path / "model", "--adapter", adapter, "--method", "f32", "--output",
                              tmp_path / "x.gguf")  # fmt: skip


@pytest.mark.parametrize(
    ("name", "shape"),
    [("model.layers.0.mlp.switch_mlp.up_proj.lora_a", (2, 4, 128)), ("model.embed_tokens.m", (512,))],
    ids=["experts", "an embedding's DoRA"],
)
def test_parts_that_are_not_merged(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    saved(tmp_path / "model")
    adapter = mlx_adapter(tmp_path / "adapter", {**lora(PROJECTIONS), name: torch.ones(shape)})
    message = refusal(
        "--model", tmp_path / "model", "--adapter", adapter, "--method", "f32", "--output", tmp_path / "x"
    )
    assert name in message
    assert message.endswith("merge the adapter with MLX (mlx_lm.fuse)")


def test_an_adapter_without_its_model(tmp_path: Path) -> None:
    adapter = mlx_adapter(tmp_path / "adapter", lora(PROJECTIONS))
    message = refusal("--model", adapter, "--method", "f32", "--output", tmp_path / "x.gguf")
    assert "adapters.safetensors is an adapter without its model; pass the model it was trained on" in message


@pytest.mark.parametrize(
    ("variation", "names"),
    [
        ("qwen3moe", {"gate_proj": "gate_proj", "up_proj": "up_proj", "down_proj": "down_proj"}),
        ("mixtral", {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}),
    ],
)
def test_experts_that_mlx_stacks(tmp_path: Path, variation: str, names: dict[str, str]) -> None:
    """The file is the one of the checkpoint with its experts one by one."""
    from checkpoint_builder import write_model

    write_model(tmp_path / "model", variation)
    before = load_file(tmp_path / "model" / WEIGHTS)
    layers = sorted({name.partition(".experts.")[0] for name in before if ".experts." in name})

    def change(state: State) -> State:
        changed = {name: tensor for name, tensor in state.items() if ".experts." not in name}
        for layer in layers:
            for mlx, own in names.items():
                count = sum(name.startswith(f"{layer}.experts.") and name.endswith(f".{own}.weight") for name in state)
                experts = [state[f"{layer}.experts.{number}.{own}.weight"] for number in range(count)]
                changed[f"{layer}.switch_mlp.{mlx}.weight"] = torch.stack(experts)
        return changed

    rewrite(tmp_path / "model", change)
    assert_holds(tmp_path / "model", {name: tensor.float() for name, tensor in before.items()})
    outcome = convert("--model", tmp_path / "model", "--method", "q8_0", "--output", tmp_path / "x.gguf", "--verify",
                      "load")  # fmt: skip
    assert outcome.code == 0, outcome.err
