"""A model converted with adapters against the conversion of the model that PEFT merged and saved."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import llama_cpp_oracle
import lora_builder
import numpy as np
import pytest
from checkpoint_builder import write_tokenizer
from safetensors.numpy import load_file, save_file

from converter import convert
from converter.errors import CheckpointError

STACKED = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {"target_modules": "all-linear", "use_rslora": True}),
    "llama-dora": ("llama", {"target_modules": ["q_proj", "embed_tokens"], "use_dora": True}),
    "qwen2-biases": ("qwen2", {"target_modules": ["q_proj"], "bias": "lora_only", "modules_to_save": ["lm_head"]}),
    "gpt2": ("gpt2", {"target_modules": ["c_attn", "c_proj"]}),
    "phi3": ("phi3", {"target_modules": ["qkv_proj", "gate_up_proj"]}),
    "mixtral": ("mixtral", {"target_modules": ["q_proj"], "target_parameters": STACKED}),
}


def values(file: Path) -> dict[str, Any]:
    return {tensor.name: tensor.data for tensor in gguf.GGUFReader(file).tensors}


@pytest.mark.parametrize("case", CASES)
def test_same_file_as_of_the_merged_model(case: str, bases: Callable[[str], Path], tmp_path: Path) -> None:
    variation, config = CASES[case]
    base = bases(variation)
    adapter = lora_builder.write_adapter(base, tmp_path / "adapter", **config)
    model, saved = lora_builder.merged(base, adapter), tmp_path / "merged" / "model"
    model.save_pretrained(saved)
    write_tokenizer(saved)
    ours = convert(base, "f32", tmp_path / "ours.gguf", adapters=[adapter], verify="none").output
    reference = convert(saved, "f32", tmp_path / "reference.gguf", verify="none").output
    found, expected = values(ours), values(reference)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].shape == array.shape
        assert np.abs(found[name] - array).max() <= 1e-6 * np.abs(array).max(), name
    logits = lora_builder.logits(model)
    error = np.abs(llama_cpp_oracle.logits(ours, lora_builder.TOKENS)[:, : logits.shape[1]] - logits).max()
    assert error < 3e-3 * np.abs(logits).max()


def test_quantized_as_llama_cpp_quantizes_the_merged(bases: Callable[[str], Path], tmp_path: Path) -> None:
    from converter.recipes import METHODS

    base = bases("llama")
    adapter = lora_builder.write_adapter(base, tmp_path / "adapter", target_modules="all-linear")
    plain = convert(base, "f32", tmp_path / "f32.gguf", adapters=[adapter], verify="none").output
    for method in ("q8_0", "q4_0", "q4_k_m"):
        ours = convert(base, method, tmp_path / f"{method}.gguf", adapters=[adapter], verify="load").output
        llama_cpp_oracle.quantize(plain, tmp_path / "two-step.gguf", METHODS[method].file_type)
        assert llama_cpp_oracle.tensors(ours) == llama_cpp_oracle.tensors(tmp_path / "two-step.gguf")


def test_more_tokens_take_their_tokenizer(bases: Callable[[str], Path], tmp_path: Path) -> None:
    """A vocabulary that the adapter extends, with the tokenizer that lies beside it."""
    from peft import LoraConfig, get_peft_model

    base, adapter = bases("llama"), tmp_path / "adapter"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        larger = lora_builder.load(base)
        larger.resize_token_embeddings(516)
        model = get_peft_model(larger, LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM"))
        lora_builder.randomize(model, 1)
        model.save_pretrained(adapter)
    write_tokenizer(adapter, 516)
    made = convert(base, "f16", tmp_path / "f16.gguf", adapters=[adapter])
    assert made.tensor_shapes["token_embd.weight"] == made.tensor_shapes["output.weight"] == (516, 256)
    assert made.verification is not None
    assert made.verification.passed


def test_nan_in_the_adapter_is_found(bases: Callable[[str], Path], tmp_path: Path) -> None:
    base = bases("llama")
    adapter = lora_builder.write_adapter(base, tmp_path / "adapter", target_modules=["v_proj"])
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    key = "base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight"
    tensors[key][5, 1] = np.nan
    save_file(tensors, file)
    with pytest.raises(CheckpointError, match=r"layers\.1\.self_attn\.v_proj\.weight: 256 NaN and 0 infinite"):
        convert(base, "q8_0", tmp_path / "out.gguf", adapters=[adapter], verify="none")
    assert not (tmp_path / "out.gguf").exists()
