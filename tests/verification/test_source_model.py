"""The source as a model of transformers, filled with our tensors where transformers cannot read them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import lora_builder
import numpy as np
import pytest
import torch
from checkpoint_builder import write_model
from command_line import convert
from encoder_builder import write_encoder
from safetensors.torch import load_file, save_file

from converter.checkpoints import open_checkpoint
from converter.errors import EnvironmentFailure, VerificationError
from converter.verification import run_source, source_model
from converter.verification.run_source import REFERENCES
from converter.verification.source_model import READ_BY_US, load_source

SAMPLE = Path(__file__).parents[1] / "fixtures" / "sample"
IDS = torch.tensor([[3, 17, 200, 45, 99, 310, 7, 8, 9, 10, 11, 420]])


def results(model: Any, kind: str = "causal") -> torch.Tensor:
    with torch.inference_mode():
        return REFERENCES[kind].run(model, IDS)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("causal", "llama"),
        ("causal", "gpt2"),  # names without transformers' prefix
        ("causal", "qwen3moe-tied"),  # experts that transformers stacks, a head that it ties
        ("causal", "qwen25vl-published-untied"),  # the text part of names that transformers renames
        ("encoder", "bert-masked"),
        ("encoder-decoder", "umt5"),
    ],
)
def test_our_tensors_make_the_model_that_transformers_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str
) -> None:
    source = (write_model if kind == "causal" else write_encoder)(tmp_path / "source", name)
    reference = REFERENCES[kind]
    theirs = load_source(str(source), reference.classes, unread=reference.unread)
    assert theirs.note == ""

    def refuse(*_: object, **__: object) -> None:
        raise VerificationError("transformers cannot load it: because")

    monkeypatch.setattr(source_model, "_read_by_transformers", refuse)
    ours = load_source(str(source), reference.classes, unread=reference.unread)
    assert ours.note == READ_BY_US
    assert torch.equal(results(ours.model, kind), results(theirs.model, kind))


def fp8(directory: Path) -> tuple[Path, Path]:
    """The sample in fbgemm's FP8, which transformers reads on some GPUs only; and the same numbers in float32."""
    quantized, plain = {}, {}
    for name, tensor in load_file(SAMPLE / "model.safetensors").items():
        if not name.endswith("_proj.weight"):
            quantized[name] = plain[name] = tensor.float()
            continue
        scale = tensor.float().abs().amax(1, keepdim=True) / 448
        quantized[name] = (tensor.float() / scale).to(torch.float8_e4m3fn)
        quantized[f"{name}_scale"] = scale
        plain[name] = quantized[name].float() * scale
    config = json.loads((SAMPLE / "config.json").read_text()) | {"dtype": "float32"}
    for label, tensors, settings in (
        ("quantized", quantized, {"quantization_config": {"quant_method": "fbgemm_fp8"}}),
        ("plain", plain, {}),
    ):
        shutil.copytree(SAMPLE, directory / label)
        save_file(tensors, directory / label / "model.safetensors", metadata={"format": "pt"})
        (directory / label / "config.json").write_text(json.dumps(config | settings))
    return directory / "quantized", directory / "plain"


def test_a_quantization_that_transformers_does_not_read_here(tmp_path: Path) -> None:
    """Its reference is the model of the same numbers, and the file is compared with that."""
    quantized, plain = fp8(tmp_path)
    classes = REFERENCES["causal"].classes
    ours, theirs = (load_source(str(path), classes) for path in (quantized, plain))
    assert (ours.note, theirs.note) == (READ_BY_US, "")
    torch.testing.assert_close(results(ours.model), results(theirs.model), rtol=1e-5, atol=1e-5)
    outcome = convert(
        "--model", quantized, "--method", "q8_0", "--output", tmp_path / "out.gguf", "--verify", "full",
        "--no-catalogue",
    )  # fmt: skip
    assert outcome.code == 0, outcome
    assert READ_BY_US in outcome.out


def test_without_its_packages_a_quantization_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantized, _ = fp8(tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise EnvironmentFailure("gptqmodel is not installed; run pip install gptqmodel")

    monkeypatch.setattr(source_model, "_read_by_transformers", refuse)
    assert load_source(str(quantized), REFERENCES["causal"].classes).note == READ_BY_US
    (quantized / "model.safetensors").unlink()
    with pytest.raises(EnvironmentFailure, match="gptqmodel is not installed"):  # what was met first
        load_source(str(quantized), REFERENCES["causal"].classes)


def test_outputs_are_read_by_transformers_only(tmp_path: Path) -> None:
    quantized, _ = fp8(tmp_path)
    with pytest.raises(EnvironmentFailure, match="requires a GPU"):
        load_source(str(quantized), REFERENCES["causal"].classes, stock=True)


def test_one_copy_is_held(tmp_path: Path) -> None:
    """A tensor is read when its place in the model is filled, and not before."""
    source = write_model(tmp_path / "source", "llama", dtype="bfloat16")
    with open_checkpoint(source) as checkpoint:
        lazily = source_model.Lazily(checkpoint.tensors["model.norm.weight"])
        assert lazily.get_shape() == [256]
        expected = load_file(source / "model.safetensors")["model.norm.weight"].float()
        assert torch.equal(lazily[...], expected)


def test_an_adapter_in_the_models_own_directory_is_left_alone(tmp_path: Path) -> None:
    """transformers would load it unasked; the converter does not, so the reference must not."""
    source = write_model(tmp_path / "source", "llama")
    classes = REFERENCES["causal"].classes
    expected = results(load_source(str(source), classes).model)
    lora_builder.write_adapter(source, tmp_path / "adapter", target_modules=["q_proj", "down_proj"])
    for path in (tmp_path / "adapter").glob("adapter_*"):
        shutil.copy(path, source)
    assert torch.equal(results(load_source(str(source), classes).model), expected)
    adapted = load_source(str(source), classes, adapters=[str(tmp_path / "adapter")]).model
    assert not torch.allclose(results(adapted), expected, rtol=1e-3)


def test_the_results_say_who_read_the_source(tmp_path: Path) -> None:
    quantized, _ = fp8(tmp_path)
    (tmp_path / "results").mkdir()
    answer = run_source.write_results(
        kind="causal", source=str(quantized), tokenizer=str(SAMPLE), folder=str(tmp_path / "results"),
        context_length=256, row_length=1024, batch_size=8, threads=1, trust_remote_code=False, load_dtype=None,
    )  # fmt: skip
    assert answer == {"windows": 6, "note": READ_BY_US}
    assert np.load(tmp_path / "results" / "results.npy").shape == (6, 256, 1024)
