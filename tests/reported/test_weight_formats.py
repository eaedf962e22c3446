"""What lies where weights should be: read where everything that it takes is there, else named, with what to do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import convert
from reported_weights import (
    State,
    configure,
    gptq,
    packed_down,
    projections,
    refused,
    rewrite,
    saved,
    values,
)

from converter.checkpoints import open_checkpoint

# Adapters that nobody merged.


def test_a_peft_model_saved_whole(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    saved(tmp_path / "model")
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tmp_path / "model"), LoraConfig(r=4, target_modules=["q_proj", "v_proj"])
    )
    rewrite(tmp_path / "model", lambda _: model.state_dict())
    message = refused(tmp_path / "model")
    assert "is of a LoRA adapter that was not merged" in message
    assert "merge_and_unload()" in message
    assert "--adapter" in message


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("model.layers.0.self_attn.q_proj.lora_A.default.weight", "is of a LoRA adapter that was not merged"),
        ("model.layers.0.self_attn.q_proj.lora_A.weight", "is of a LoRA adapter that was not merged"),
        ("model.embed_tokens.lora_embedding_A.default", "is of a LoRA adapter that was not merged"),
        ("model.layers.0.self_attn.q_proj.lora_magnitude_vector.default.weight", "is of a LoRA adapter that was not"),
        ("model.layers.0.self_attn.q_proj.lora_a", "is of a LoRA adapter of MLX that was not merged"),
        ("model.layers.0.self_attn.q_proj.hada_w1_a.default", "is of an adapter that was not merged"),
        ("unet.down.lora_down.weight", "is of an adapter of a diffusion model"),
        ("model.layers.0.self_attn.q_proj.W_q", "is quantized with HQQ"),
        ("model.layers.0.self_attn.q_proj.q_weight", "is quantized for ExLlamaV2 (EXL2)"),
        ("model.layers.0.self_attn.q_proj.trellis", "is quantized for ExLlamaV3 (EXL3)"),
        ("model.layers.0.self_attn.q_proj.codebooks", "is quantized with AQLM"),
        ("model.layers.0.self_attn.q_proj.Qidxs", "is quantized with QuIP#"),
        ("model.layers.0.self_attn.q_proj.weight_scales", "is quantized with EETQ"),
        ("model.layers.0.self_attn.q_proj.weight._data._data", "is quantized by quanto to less than 8 bits"),
        ("model.layers.0._flat_param", "is what FSDP makes of a module's weights"),
    ],
)
def test_tensors_of_known_forms(tmp_path: Path, name: str, told: str) -> None:
    saved(tmp_path / "model")
    rewrite(tmp_path / "model", lambda state: {**state, name: torch.ones(4, 4)})
    message = refused(tmp_path / "model")
    assert f"tensor {name} {told}" in message


def test_weights_of_zero_3_that_nobody_gathered(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    empty = dict.fromkeys(("lm_head.weight", "model.embed_tokens.weight"), torch.zeros(0))
    rewrite(tmp_path / "model", lambda state: {**state, **empty})
    message = refused(tmp_path / "model")
    assert "tensor lm_head.weight (and 1 more) is empty, shape [0]: saved from DeepSpeed's ZeRO-3" in message
    assert "zero_to_fp32.py" in message


# Weights whose configuration lost what quantized them.


def assert_near(directory: Path, expected: State, told: str) -> None:
    with open_checkpoint(directory) as checkpoint:
        assert set(checkpoint.tensors) == set(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(values(checkpoint, name), value, rtol=1e-6, atol=1e-7, err_msg=name)
        assert any(told in notice for notice in checkpoint.notices)
    output = directory.parent / "x.gguf"
    outcome = convert("--model", directory, "--method", "q8_0", "--output", output, "--verify", "none", "--overwrite")
    assert outcome.code == 0, outcome.err
    assert told in outcome.err


def test_bitsandbytes_in_8_bits(tmp_path: Path) -> None:
    expected = saved(tmp_path / "model")

    def change(module: str, weight: torch.Tensor) -> State:
        absmax = weight.abs().amax(1)
        codes = (weight / absmax[:, None] * 127).round().to(torch.int8)
        expected[f"{module}.weight"] = codes * absmax[:, None] / 127
        return {
            f"{module}.weight": codes,
            f"{module}.SCB": absmax,
            f"{module}.weight_format": torch.zeros((), dtype=torch.uint8),
        }

    rewrite(tmp_path / "model", lambda state: projections(state, change))
    assert_near(tmp_path / "model", expected, "weights are read as bitsandbytes's")


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_bitsandbytes_in_4_bits(tmp_path: Path, kind: str) -> None:
    from bitsandbytes import functional

    expected = saved(tmp_path / "model")

    def change(module: str, weight: torch.Tensor) -> State:
        codes, state = functional.quantize_4bit(weight, quant_type=kind, compress_statistics=True)
        expected[f"{module}.weight"] = functional.dequantize_4bit(codes, state).reshape(weight.shape)
        packed = {f"{module}.weight.{name}": tensor for name, tensor in state.as_dict(packed=True).items()}
        return {f"{module}.weight": codes, **packed}

    rewrite(tmp_path / "model", lambda state: projections(state, change))
    assert_near(tmp_path / "model", expected, "weights are read as bitsandbytes's")
    rewrite(tmp_path / "model", lambda state: {k: v for k, v in state.items() if ".quant_state." not in k})
    assert "is of a checkpoint quantized with bitsandbytes, but config.json does not say how" in refused(
        tmp_path / "model"
    )


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn], ids=str)
def test_quanto(tmp_path: Path, dtype: torch.dtype) -> None:
    expected = saved(tmp_path / "model")
    largest = 127 if dtype == torch.int8 else 448

    def change(module: str, weight: torch.Tensor) -> State:
        scale = weight.abs().amax(1, keepdim=True) / largest
        codes = weight / scale
        codes = (codes.round() if dtype == torch.int8 else codes).to(dtype)
        expected[f"{module}.weight"] = codes.float() * scale
        name = f"{module}.weight"
        ones = {f"{module}.{side}_scale": torch.ones(()) for side in ("input", "output")}
        return {f"{name}._data": codes, f"{name}._scale": scale, **ones}

    rewrite(tmp_path / "model", lambda state: projections(state, change))
    (tmp_path / "model/quanto_qmap.json").write_text("{}")
    assert_near(tmp_path / "model", expected, "weights are read as quanto's")


AUTOGPTQ = {"bits": 4, "group_size": 32, "desc_act": False, "sym": True, "true_sequential": True}


@pytest.mark.parametrize("beside", [AUTOGPTQ, None], ids=["quantize_config.json", "nothing"])
def test_gptq(tmp_path: Path, beside: dict[str, object] | None) -> None:
    expected = saved(tmp_path / "model")

    def change(module: str, weight: torch.Tensor) -> State:
        tensors, expected[f"{module}.weight"] = gptq(module, weight)
        return tensors

    rewrite(tmp_path / "model", lambda state: projections(state, change))
    if beside is not None:
        (tmp_path / "model/quantize_config.json").write_text(json.dumps(beside))
    told = "quantize_config.json says" if beside else "the names and shapes of the tensors tell"
    assert_near(tmp_path / "model", expected, f"weights are read as gptq's, as {told}")


AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


@pytest.mark.parametrize(
    "beside", [{"zero_point": True, "q_group_size": 32, "w_bit": 4, "version": "GEMM"}, None], ids=str
)
def test_awq(tmp_path: Path, beside: dict[str, object] | None) -> None:
    expected = saved(tmp_path / "model")

    def across(codes: torch.Tensor) -> torch.Tensor:
        turned = codes.reshape(len(codes), -1, 8)[:, :, AWQ_ORDER].reshape(codes.shape)
        return packed_down(turned.T.contiguous()).T

    def change(module: str, weight: torch.Tensor) -> State:
        groups = weight.T.reshape(-1, 32, len(weight))
        low, high = groups.amin(1, keepdim=True), groups.amax(1, keepdim=True)
        scale = ((high - low) / 15).half().float()
        zeros = (-low / scale).round().clamp(0, 15)
        codes = (groups / scale + zeros).round().clamp(0, 15)
        expected[f"{module}.weight"] = ((codes - zeros) * scale).reshape(weight.shape[1], -1).T
        return {
            f"{module}.qweight": across(codes.reshape(-1, len(weight))),
            f"{module}.qzeros": across(zeros[:, 0]),
            f"{module}.scales": scale[:, 0].half(),
        }

    rewrite(tmp_path / "model", lambda state: projections(state, change))
    if beside is not None:
        (tmp_path / "model/quant_config.json").write_text(json.dumps(beside))
    assert_near(tmp_path / "model", expected, "weights are read as awq's")


def test_fp8(tmp_path: Path) -> None:
    expected = saved(tmp_path / "model")

    def change(module: str, weight: torch.Tensor) -> State:
        scale = weight.abs().amax() / 448
        codes = (weight / scale).to(torch.float8_e4m3fn)
        expected[f"{module}.weight"] = codes.float() * scale
        return {f"{module}.weight": codes, f"{module}.weight_scale": scale}

    rewrite(tmp_path / "model", lambda state: projections(state, change))
    assert_near(tmp_path / "model", expected, "weights are read as fp8's")


def test_compressed_tensors(tmp_path: Path) -> None:
    expected = saved(tmp_path / "model")

    def change(module: str, weight: torch.Tensor) -> State:
        groups = weight.reshape(len(weight), -1, 32)
        scale = groups.abs().amax(2) / 7
        codes = (groups / scale[..., None]).round().clamp(-8, 7)
        expected[f"{module}.weight"] = (codes * scale[..., None]).reshape(weight.shape)
        return {
            f"{module}.weight_packed": packed_down((codes + 8).reshape(weight.shape).T.contiguous()).T,
            f"{module}.weight_scale": scale,
            f"{module}.weight_shape": torch.tensor(weight.shape),
        }

    rewrite(tmp_path / "model", lambda state: projections(state, change))
    assert_near(tmp_path / "model", expected, "weights are read as compressed-tensors's")


def test_a_configuration_of_another_method(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    rewrite(tmp_path / "model", lambda state: projections(state, lambda module, weight: gptq(module, weight)[0]))
    configure(tmp_path / "model", quantization_config={"load_in_4bit": True, "quant_method": "bitsandbytes"})
    assert "quantization_config says bitsandbytes, but there are tensors as gptq stores them" in refused(
        tmp_path / "model"
    )
