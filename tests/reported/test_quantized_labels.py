"""What a quantized checkpoint says of itself, against what its tensors hold: the tensors are believed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import convert, refusal
from reported_weights import State, configure, gptq, loaded, packed_down, projections, rewrite, saved, values

from converter.checkpoints import open_checkpoint


def refused(model: Path) -> str:
    return refusal("--model", model, "--method", "f32", "--output", model.parent / "x.gguf")


def quantized(
    directory: Path, change: Callable[[str, torch.Tensor], tuple[State, torch.Tensor]], **settings: Any
) -> State:
    """A model whose projections are quantized, with these settings; what its weights are."""
    expected = saved(directory)

    def each(module: str, weight: torch.Tensor) -> State:
        tensors, expected[f"{module}.weight"] = change(module, weight)
        return tensors

    rewrite(directory, lambda state: projections(state, each))
    configure(directory, quantization_config=settings)
    return expected


def assert_reads(directory: Path, expected: State) -> tuple[str, ...]:
    with open_checkpoint(directory) as checkpoint:
        assert set(checkpoint.tensors) == set(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(values(checkpoint, name), value, rtol=1e-6, atol=1e-7, err_msg=name)
        return checkpoint.notices


def of_gptq(**settings: Any) -> dict[str, Any]:
    return {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False, "sym": True, **settings}


@pytest.mark.parametrize(("stored", "version"), [(7, "gptq"), (8, "gptq_v2"), (7, None)])
def test_zero_points_stored_as_it_is_said(tmp_path: Path, stored: int, version: str | None) -> None:
    settings = of_gptq() if version is None else of_gptq(checkpoint_format=version)
    expected = quantized(tmp_path / "model", lambda name, weight: gptq(name, weight, stored=stored), **settings)
    assert assert_reads(tmp_path / "model", expected) == ()


@pytest.mark.parametrize(
    ("stored", "settings"),
    [
        (8, {"checkpoint_format": "gptq", "meta": {"quantizer": ["gptqmodel:5.0.0"]}}),
        (8, {"format": "gptq"}),
        (8, {}),
        (8, {"sym": None}),
        (7, {"checkpoint_format": "gptq_v2"}),
    ],
    ids=str,
)
def test_symmetric_zero_points_tell_how_they_are_stored(tmp_path: Path, stored: int, settings: dict[str, Any]) -> None:
    expected = quantized(
        tmp_path / "model", lambda name, weight: gptq(name, weight, stored=stored), **of_gptq(**settings)
    )
    (told,) = assert_reads(tmp_path / "model", expected)
    assert f"but the zero points are stored as {stored}, as {'gptq_v2' if stored == 8 else 'gptq'!r} does" in told
    outcome = convert(
        "--model", tmp_path / "model", "--method", "f32", "--output", tmp_path / "x.gguf", "--verify", "none"
    )
    assert outcome.code == 0
    assert told in outcome.err


def test_the_same_by_logits(tmp_path: Path) -> None:
    """llama.cpp's logits of the file against transformers' with the weights that were meant."""
    import llama_cpp_oracle
    from lora_builder import TOKENS
    from transformers import AutoModelForCausalLM

    expected = quantized(
        tmp_path / "model", lambda name, weight: gptq(name, weight, stored=8), **of_gptq(checkpoint_format="gptq")
    )
    saved(tmp_path / "plain")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "plain", dtype=torch.float32)
    model.load_state_dict(expected)
    with torch.no_grad():
        wanted = model(torch.tensor([TOKENS])).logits[0].numpy()
    assert convert("--model", tmp_path / "model", "--method", "f32", "--verify", "none",
                   "--output", tmp_path / "x.gguf").code == 0  # fmt: skip
    found = llama_cpp_oracle.logits(tmp_path / "x.gguf", TOKENS)[:, : wanted.shape[1]]
    assert np.abs(found - wanted).max() / np.abs(wanted).max() < 3e-3


def test_zero_points_that_are_not_symmetric(tmp_path: Path) -> None:
    quantized(tmp_path / "model", lambda name, weight: gptq(name, weight, stored=5), **of_gptq())
    message = refused(tmp_path / "model")
    assert "qzeros holds the zero point 6, but sym in quantization_config is true, which means 8 for all" in message


def test_one_tensor_that_is_stored_otherwise(tmp_path: Path) -> None:
    def change(name: str, weight: torch.Tensor) -> tuple[State, torch.Tensor]:
        return gptq(name, weight, stored=8 if name.endswith("layers.1.mlp.down_proj") else 7)

    quantized(tmp_path / "model", change, **of_gptq())
    message = refused(tmp_path / "model")
    assert "tensor model.layers.1.mlp.down_proj.qzeros holds the zero point 9, but sym" in message


def asymmetric(module: str, weight: torch.Tensor, *, less: int) -> tuple[State, torch.Tensor]:
    """GPTQ with zero points of each group's own, stored less so much."""
    groups = weight.T.reshape(-1, 32, len(weight))
    low, high = groups.amin(1, keepdim=True), groups.amax(1, keepdim=True)
    scale = ((high - low) / 15).half().float()
    zeros = (-low / scale).round().clamp(1, 15)
    codes = (groups / scale + zeros).round().clamp(0, 15)
    tensors = {
        "qweight": packed_down(codes.reshape(-1, len(weight))),
        "qzeros": packed_down((zeros[:, 0] - less).T.contiguous()).T,
        "scales": scale[:, 0].half(),
    }
    found = ((codes - zeros) * scale).reshape(weight.shape[1], -1).T
    return {f"{module}.{name}": tensor for name, tensor in tensors.items()}, found


@pytest.mark.parametrize(("less", "said"), [(1, "gptq"), (0, "gptq_v2"), (0, "gptq"), (1, "gptq_v2")])
def test_zero_points_of_each_group(tmp_path: Path, less: int, said: str) -> None:
    """Read the wrong way, every weight would be off by one step: their mean tells."""
    settings = of_gptq(sym=False, checkpoint_format=said)
    expected = quantized(tmp_path / "model", lambda name, weight: asymmetric(name, weight, less=less), **settings)
    if said == ("gptq" if less else "gptq_v2"):
        assert assert_reads(tmp_path / "model", expected) == ()
    else:
        message = refused(tmp_path / "model")
        assert f"checkpoint_format in quantization_config says {said!r}, but" in message
        assert message.endswith("every weight would be off by one step; correct checkpoint_format")


@pytest.mark.parametrize(
    ("settings", "packing"),
    [({"quant_method": "awq", "bits": 4, "group_size": 32}, "gptq"), (of_gptq(), "awq, version gemm"),
     ({"quant_method": "awq", "bits": 4, "group_size": 32}, "awq, version gemv")],
    ids=["gptq as awq", "awq as gptq", "gemv as gemm"],
)  # fmt: skip
def test_another_packing_than_is_said(tmp_path: Path, settings: dict[str, Any], packing: str) -> None:
    shapes = {  # of 128 inputs and 64 outputs in groups of 32
        "gptq": ((16, 64), (4, 8), (4, 64)),
        "awq, version gemm": ((128, 8), (4, 8), (4, 64)),
        "awq, version gemv": ((64, 16), (64, 1), (64, 8)),
    }

    def change(module: str, weight: torch.Tensor) -> tuple[State, torch.Tensor]:
        codes, zeros, scales = shapes[packing]
        return {
            f"{module}.qweight": torch.zeros(codes, dtype=torch.int32),
            f"{module}.qzeros": torch.zeros(zeros, dtype=torch.int32),
            f"{module}.scales": torch.ones(scales),
        }, weight

    quantized(tmp_path / "model", change, **settings)
    message = refused(tmp_path / "model")
    assert (
        f"quantization_config says {'gptq' if settings['quant_method'] == 'gptq' else 'awq, version gemm'}" in message
    )
    assert f"is packed as {packing} does it" in message


def of_compressed_tensors(symmetric: bool, **weights: Any) -> dict[str, Any]:
    group = {"num_bits": 4, "type": "int", "symmetric": symmetric, "strategy": "group", "group_size": 32, **weights}
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"g": {"weights": group}},
    }


def compressed(module: str, weight: torch.Tensor, zero: int | None) -> tuple[State, torch.Tensor]:
    groups = weight.reshape(len(weight), -1, 32)
    scale = groups.abs().amax(2) / 7
    codes = (groups / scale[..., None]).round().clamp(-8, 7)
    tensors = {
        "weight_packed": packed_down((codes + 8).reshape(weight.shape).T.contiguous()).T,
        "weight_scale": scale,
        "weight_shape": torch.tensor(weight.shape),
    }
    if zero is not None:
        tensors["weight_zero_point"] = packed_down(torch.full_like(scale, zero))
    return {f"{module}.{name}": tensor for name, tensor in tensors.items()}, (codes * scale[..., None]).reshape(
        weight.shape
    )


@pytest.mark.parametrize("zero", [None, 0, 8])
def test_symmetric_zero_points_that_do_nothing(tmp_path: Path, zero: int | None) -> None:
    settings = of_compressed_tensors(symmetric=True)
    expected = quantized(tmp_path / "model", lambda name, weight: compressed(name, weight, zero), **settings)
    assert_reads(tmp_path / "model", expected)


def test_symmetric_zero_points_that_do_something(tmp_path: Path) -> None:
    settings = of_compressed_tensors(symmetric=True)
    quantized(tmp_path / "model", lambda name, weight: compressed(name, weight, 5), **settings)
    message = refused(tmp_path / "model")
    assert "weight_zero_point holds zero points other than 0 (0x55555555), but symmetric in config_groups" in message


def eight_bits(module: str, weight: torch.Tensor, zero: int) -> tuple[State, torch.Tensor]:
    scale = weight.abs().amax(1, keepdim=True) / 127
    codes = (weight / scale).round()
    return {
        f"{module}.weight": codes.to(torch.int8),
        f"{module}.weight_scale": scale,
        f"{module}.weight_zero_point": torch.full(scale.shape, zero, dtype=torch.int8),
    }, codes * scale


def test_the_same_in_8_bits(tmp_path: Path) -> None:
    settings = of_compressed_tensors(symmetric=True, num_bits=8, strategy="channel", group_size=None)
    expected = quantized(tmp_path / "model", lambda name, weight: eight_bits(name, weight, 0), **settings)
    assert_reads(tmp_path / "model", expected)
    quantized(tmp_path / "other", lambda name, weight: eight_bits(name, weight, 3), **settings)
    assert "holds zero points other than 0 (0x3)" in refused(tmp_path / "other")


def fp8(module: str, weight: torch.Tensor, *, inverse: bool, name: str, blocks: bool) -> tuple[State, torch.Tensor]:
    if blocks:
        cut = weight.reshape(len(weight) // 32, 32, -1, 32)
        scale = cut.abs().amax((1, 3), keepdim=True) / 448
        codes = (cut / scale).to(torch.float8_e4m3fn)
        found = (codes.float() * scale).reshape(weight.shape)
        codes, scale = codes.reshape(weight.shape), scale[:, 0, :, 0]
    else:
        scale = weight.abs().amax() / 448
        codes = (weight / scale).to(torch.float8_e4m3fn)
        found = codes.float() * scale
    return {f"{module}.weight": codes, f"{module}.{name}": 1 / scale if inverse else scale}, found


@pytest.mark.parametrize(("name", "blocks"), [("weight_scale_inv", True), ("weight_scale", False)])
def test_a_scale_and_its_inverse(tmp_path: Path, name: str, blocks: bool) -> None:
    settings = {"quant_method": "fp8", **({"weight_block_size": [32, 32]} if blocks else {})}
    expected = quantized(
        tmp_path / "model",
        lambda module, weight: fp8(module, weight, inverse=False, name=name, blocks=blocks),
        **settings,
    )
    assert_reads(tmp_path / "model", expected)
    quantized(
        tmp_path / "other",
        lambda module, weight: fp8(module, weight, inverse=True, name=name, blocks=blocks),
        **settings,
    )
    message = refused(tmp_path / "other")
    assert f".{name} makes weights of about" in message
    assert message.endswith("it holds the inverse of what its name says; store 1 / scale under it")


def test_plain_weights_under_a_label(tmp_path: Path) -> None:
    """Somebody dequantized them and left quantization_config there."""
    expected = saved(tmp_path / "model")
    configure(tmp_path / "model", quantization_config=of_gptq())
    assert assert_reads(tmp_path / "model", expected) == ()
    configure(tmp_path / "model", quantization_config=None)
    assert loaded(tmp_path / "model").keys() == expected.keys()
