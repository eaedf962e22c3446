"""``convert adapter``: llama.cpp with base and adapter against the model that PEFT runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import llama_cpp_oracle
import lora_builder
import numpy as np
import pytest
from command_line import convert as command
from numpy.typing import NDArray
from safetensors.numpy import load_file

from converter import convert

STACKED = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {"target_modules": "all-linear"}),
    "llama-embeddings": ("llama", {"target_modules": ["embed_tokens", "lm_head", "q_proj"]}),
    "llama-patterns": (
        "llama",
        {
            "target_modules": ["q_proj", "k_proj", "up_proj", "down_proj"],
            "rank_pattern": {"q_proj": 2, r"layers\.1\..*up_proj": 6},
            "alpha_pattern": {"layers.0.self_attn.k_proj": 3, "down_proj": 32},
            "use_rslora": True,
        },
    ),
    "qwen2-tied": ("qwen2-tied", {"target_modules": "all-linear"}),
    "phi3": ("phi3", {"target_modules": ["qkv_proj", "gate_up_proj", "o_proj"]}),
    "gpt2": ("gpt2", {"target_modules": ["c_attn", "c_proj", "c_fc"]}),
    "gpt-neox": ("gpt-neox", {"target_modules": ["query_key_value", "dense_h_to_4h", "lm_head"]}),
    "mixtral": ("mixtral", {"target_modules": ["q_proj"], "target_parameters": STACKED}),
    "mixtral-router": ("mixtral", {"target_modules": [], "target_parameters": ["mlp.gate.weight"]}),
    "mixtral-fused": ("mixtral-fused", {"target_modules": [], "target_parameters": STACKED}),
    "qwen2moe": ("qwen2moe", {"target_modules": ["up_proj", "shared_expert_gate"], "target_parameters": STACKED}),
    "qwen3.5": ("qwen3.5", {"target_modules": ["in_proj_qkv", "in_proj_z", "in_proj_b", "out_proj", "o_proj"]}),
    "qwen3moe": ("qwen3moe", {"target_modules": ["o_proj"], "target_parameters": STACKED[1:]}),
}


@pytest.fixture(scope="session")
def files(bases: Callable[[str], Path]) -> Callable[[str], Path]:
    """GGUFs of the bases in f32."""

    def file(variation: str) -> Path:
        path = bases(variation).with_suffix(".gguf")
        return path if path.exists() else convert(bases(variation), "f32", path, verify="none").output

    return file


def error(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """The largest difference, as a part of the largest number."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("case", CASES)
def test_llama_cpp_computes_what_peft_computes(
    case: str, bases: Callable[[str], Path], files: Callable[[str], Path], tmp_path: Path
) -> None:
    variation, config = CASES[case]
    base = bases(variation)
    adapter = lora_builder.write_adapter(base, tmp_path / "adapter", **config)
    outcome = command("adapter", adapter, "--base", base, "--output", tmp_path / "adapter.gguf")
    assert outcome.code == 0, outcome
    expected = lora_builder.logits(lora_builder.with_adapters(base, adapter))
    found = lora_builder.llama_logits(files(variation), tmp_path / "adapter.gguf")[:, : expected.shape[1]]
    plain = llama_cpp_oracle.logits(files(variation), lora_builder.TOKENS)[:, : expected.shape[1]]
    assert error(expected, plain) > 0.02, "the adapter changes nothing"
    assert error(expected, found) < 3e-3


def test_key_values_and_matrices(bases: Callable[[str], Path], tmp_path: Path) -> None:
    base, output = bases("llama"), tmp_path / "adapter.gguf"
    adapter = lora_builder.write_adapter(base, tmp_path / "adapter", target_modules=["v_proj"])
    outcome = command("adapter", adapter, "--base", base, "--output", output)
    assert outcome.out == (
        f"{output} is {output.stat().st_size / 1e6:.2f} MB: a LoRA in f32 for 2 tensors of a base of architecture "
        "llama\n"
    )
    reader = gguf.GGUFReader(output)
    assert {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")} == {
        "general.architecture": "llama",
        "general.type": "adapter",
        "general.name": "adapter",
        "general.base_model.count": 1,
        "general.base_model.0.name": "model",
        "general.file_type": 0,
        "general.quantization_version": 2,
        "adapter.type": "lora",
        "adapter.lora.alpha": 8.0,
    }
    source = load_file(adapter / "adapter_model.safetensors")
    for tensor in reader.tensors:
        block, side = tensor.name.split(".")[1], tensor.name[-1].upper()
        assert tensor.name.startswith(f"blk.{block}.attn_v.weight.lora_")
        key = f"base_model.model.model.layers.{block}.self_attn.v_proj.lora_{side}.weight"
        assert np.array_equal(tensor.data, source[key])


@pytest.mark.parametrize(("kind", "limit"), [("f16", 1e-3), ("bf16", 5e-3), ("q8_0", 3e-2)])
def test_smaller_types(
    kind: str, limit: float, bases: Callable[[str], Path], files: Callable[[str], Path], tmp_path: Path
) -> None:
    base = bases("llama")
    adapter = lora_builder.write_adapter(base, tmp_path / "adapter", target_modules="all-linear", r=32, lora_alpha=1)
    exact, smaller = tmp_path / "f32.gguf", tmp_path / f"{kind}.gguf"
    assert command("adapter", adapter, "--base", base, "--output", exact).code == 0
    assert command("--quiet", "adapter", adapter, "--base", base, "--output", smaller, "--type", kind).out == ""
    for ours, full in zip(gguf.GGUFReader(smaller).tensors, gguf.GGUFReader(exact).tensors, strict=True):
        assert ours.tensor_type.name == kind.upper()
        expected = gguf.quants.quantize(full.data, ours.tensor_type)
        assert np.array_equal(ours.data.view(np.uint8), expected.view(np.uint8)), ours.name
    full_logits = lora_builder.llama_logits(files("llama"), exact)
    assert 0 < error(full_logits, lora_builder.llama_logits(files("llama"), smaller)) < limit


def test_rows_that_fill_no_blocks_are_float16(bases: Callable[[str], Path], tmp_path: Path) -> None:
    base, output = bases("llama"), tmp_path / "adapter.gguf"
    adapter = lora_builder.write_adapter(base, tmp_path / "adapter", target_modules=["v_proj"])
    assert command("adapter", adapter, "--base", base, "--output", output, "--type", "q8_0").code == 0
    kinds = {tensor.name[-1]: tensor.tensor_type.name for tensor in gguf.GGUFReader(output).tensors}
    assert kinds == {"a": "Q8_0", "b": "F16"}


def test_invocation_tokens(bases: Callable[[str], Path], tmp_path: Path) -> None:
    base, output = bases("llama"), tmp_path / "adapter.gguf"
    config = {"target_modules": ["v_proj"], "alora_invocation_tokens": [7, 9]}
    adapter = lora_builder.write_adapter(base, tmp_path / "adapter", **config)
    assert command("adapter", adapter, "--base", base, "--output", output).code == 0
    assert gguf.GGUFReader(output).fields["adapter.alora.invocation_tokens"].contents() == [7, 9]
