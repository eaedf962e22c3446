"""Each encoder against transformers: the embedding of each token, and that of a text as sentence-transformers pools."""

from __future__ import annotations

import json
from pathlib import Path

import llama_cpp_embeddings
import llama_cpp_oracle
import numpy as np
import pytest
from encoder_builder import ENCODER_DECODERS, ENCODERS, write_encoder
from numpy.typing import NDArray

from converter import convert
from converter.recipes import METHODS

TOKENS = [6, *np.random.default_rng(7).integers(6, 500, 95).tolist()]

#: What sentence-transformers calls the modes, with what they do to embeddings of shape (tokens, embedding length).
POOLING = {
    "mean": lambda embeddings: embeddings.mean(0),
    "cls": lambda embeddings: embeddings[0],
    "lasttoken": lambda embeddings: embeddings[-1],
}
OLD_FLAGS = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token", "lasttoken": "pooling_mode_lasttoken"}


def transformers_embeddings(directory: Path, model_class: str = "AutoModel") -> NDArray[np.float32]:
    import torch
    import transformers

    chosen = getattr(transformers, model_class)
    model = chosen.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    model = model.get_encoder() if model_class == "AutoModelForSeq2SeqLM" else model
    with torch.no_grad():
        return model(torch.tensor([TOKENS])).last_hidden_state[0].numpy()


def transformers_logits(directory: Path, decoded: list[int]) -> NDArray[np.float32]:
    """Logits of a decoder whose encoder has read ``TOKENS``."""
    import torch
    from transformers import AutoModelForSeq2SeqLM

    model = AutoModelForSeq2SeqLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        return model(input_ids=torch.tensor([TOKENS]), decoder_input_ids=torch.tensor([decoded])).logits[0].numpy()


def assert_near(found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    """Within 5e-3 of the largest value, and each row in the same direction."""
    assert np.std(expected) > 0.1, "embeddings too flat to prove anything"
    assert np.abs(found - expected).max() / np.abs(expected).max() < 5e-3
    products = (found * expected).sum(-1)
    assert (products / np.linalg.norm(found, axis=-1) / np.linalg.norm(expected, axis=-1)).min() > 0.99999


def write_pooling(model: Path, config: dict[str, object]) -> None:
    """What a sentence-transformers checkpoint has beside the model."""
    names = {"0": ("", "Transformer"), "1": ("1_Pooling", "Pooling"), "2": ("2_Normalize", "Normalize")}
    modules = [
        {"idx": int(index), "name": index, "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (path, kind) in names.items()
    ]
    (model / "modules.json").write_text(json.dumps(modules))
    (model / "1_Pooling").mkdir()
    (model / "1_Pooling" / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("name", ENCODERS)
def test_embeddings(name: str, tmp_path: Path) -> None:
    model = write_encoder(tmp_path / "model", name)
    file = convert(model, "f32", tmp_path / "f32.gguf", verify="none").output
    auto = "AutoModelForTextEncoding" if ENCODERS[name].model == "AutoModelForTextEncoding" else "AutoModel"
    assert_near(llama_cpp_embeddings.token_embeddings(file, TOKENS), transformers_embeddings(model, auto))


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_encoder_and_decoder(name: str, tmp_path: Path) -> None:
    model = write_encoder(tmp_path / "model", name)
    file = convert(model, "f32", tmp_path / "f32.gguf", verify="none").output
    read = transformers_embeddings(model, "AutoModelForSeq2SeqLM")
    assert_near(llama_cpp_embeddings.token_embeddings(file, TOKENS), read)
    decoded = [0, *reversed(TOKENS[:70])]
    expected, found = transformers_logits(model, decoded), llama_cpp_embeddings.decoder_logits(file, TOKENS, decoded)
    assert_near(found, expected)
    logs = [np.log(np.exp(x) / np.exp(x).sum(-1, keepdims=True)) for x in (expected.astype(float), found.astype(float))]
    assert (np.exp(logs[0]) * (logs[0] - logs[1])).sum(-1).mean() < 1e-5


def test_fields_of_the_published_nomic_bert(tmp_path: Path) -> None:
    """transformers' own class cannot read them, so it reads the same weights with its own fields."""
    model = write_encoder(tmp_path / "model", "nomic-bert")
    expected = transformers_embeddings(model)
    config = {
        "architectures": ["NomicBertModel"],
        "activation_function": "swiglu",
        "causal": False,
        "layer_norm_epsilon": 1e-5,
        "max_trained_positions": 128,
        "mlp_fc1_bias": False,
        "n_embd": 256,
        "n_head": 4,
        "n_inner": 320,
        "n_layer": 2,
        "n_positions": 512,
        "prenorm": False,
        "qkv_proj_bias": False,
        "rotary_emb_fraction": 1.0,
        "type_vocab_size": 2,
        "vocab_size": 512,
    }
    (model / "config.json").write_text(json.dumps(config))
    file = convert(model, "f32", tmp_path / "f32.gguf", verify="none").output
    assert_near(llama_cpp_embeddings.token_embeddings(file, TOKENS), expected)


def test_pooling_of_pytorch_files(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    model = write_encoder(tmp_path / "model", "bert")
    write_pooling(model, {"word_embedding_dimension": 256, "pooling_mode": "mean"})
    safetensors = convert(model, "f32", tmp_path / "safetensors.gguf", verify="none").output
    weights = model / "model.safetensors"
    torch.save(load_file(weights), model / "pytorch_model.bin")
    weights.unlink()
    pytorch = convert(model, "f32", tmp_path / "pytorch.gguf", verify="none").output
    assert pytorch.read_bytes() == safetensors.read_bytes()
    assert_near(llama_cpp_embeddings.text_embedding(pytorch, TOKENS), POOLING["mean"](transformers_embeddings(model)))


@pytest.mark.parametrize("mode", POOLING)
@pytest.mark.parametrize("old", [True, False])
def test_pooling(mode: str, old: bool, tmp_path: Path) -> None:
    model = write_encoder(tmp_path / "model", "bert")
    flags = {flag: flag == OLD_FLAGS[mode] for flag in (*OLD_FLAGS.values(), "pooling_mode_max_tokens")}
    write_pooling(model, {"word_embedding_dimension": 256, **(flags if old else {"pooling_mode": mode})})
    file = convert(model, "f32", tmp_path / "f32.gguf", verify="none").output
    expected = POOLING[mode](transformers_embeddings(model))
    assert_near(llama_cpp_embeddings.text_embedding(file, TOKENS), expected)


@pytest.mark.parametrize(
    "name", ["bert", "distilbert", "xlm-roberta", "modern-bert", "nomic-bert", "t5-1.1", "umt5-encoder"]
)
def test_bytes(name: str, tmp_path: Path) -> None:
    """Against llama.cpp's two steps."""
    model = write_encoder(tmp_path / "model", name)
    file = convert(model, "f32", tmp_path / "reference.gguf", verify="none").output
    for method in (METHODS[name] for name in ("f16", "bf16", "q8_0", "q5_0", "q4_0")):
        ours = convert(model, method.name, tmp_path / f"{method.name}.gguf", verify="none").output
        llama_cpp_oracle.quantize(file, tmp_path / "two-step.gguf", method.file_type)
        assert llama_cpp_oracle.tensors(ours) == llama_cpp_oracle.tensors(tmp_path / "two-step.gguf"), method.name
