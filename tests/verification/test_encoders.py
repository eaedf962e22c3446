"""Encoders: embeddings instead of logits, against transformers as the test runs it; faithful and damaged files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from encoder_builder import write_encoder
from gguf import GGUFReader

from converter import convert
from converter.recipes import METHODS
from converter.verification import Verification, verify
from converter.verification.similarity import similarity
from converter.verification.thresholds import EMBEDDING_THRESHOLDS, embedding_thresholds_for
from converter.verification.windows import EMBEDDED


def write_pooled(directory: Path, name: str, mode: str | None) -> Path:
    model = write_encoder(directory, name)
    if mode is not None:
        (model / "modules.json").write_text(json.dumps([{"path": "1_Pooling", "type": "a.Pooling"}]))
        (model / "1_Pooling").mkdir()
        (model / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": mode}))
    return model


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str | None], Path]:
    """A random encoder with a pooling mode or without, built once."""
    made: dict[tuple[str, str | None], Path] = {}

    def build(name: str, mode: str | None) -> Path:
        if (name, mode) not in made:
            made[name, mode] = write_pooled(tmp_path_factory.mktemp(name) / "model", name, mode)
        return made[name, mode]

    return build


def check(path: Path, model: Path, level: str = "full", method: str = "f32") -> Verification:
    return verify(path, level=level, source=model, tokenizer=model, method=method, threads=1)


@pytest.mark.parametrize(("name", "mode"), [("bert-masked", "cls"), ("modern-bert", None), ("umt5-encoder", "mean")])
def test_faithful_file_passes(
    encoders: Callable[[str, str | None], Path], tmp_path: Path, name: str, mode: str | None
) -> None:
    model = encoders(name, mode)
    result = check(convert(model, "f32", tmp_path / "f32.gguf", verify="none").output, model)
    assert result.passed
    assert result.cosine > 0.99999
    assert result.centred_cosine > 0.999
    assert result.generated == ""
    assert result.mean_kl is None
    rows = 2048 if mode is None else 32
    assert result.verdict.startswith(
        f"faithful over {rows:,} embeddings: a mean cosine of 1.000000 with the source's embeddings, "
    )


def test_figures_are_those_of_transformers(encoders: Callable[[str, str | None], Path], tmp_path: Path) -> None:
    """The same comparison, by the test's own run of both models and torch's own cosine."""
    import llama_cpp_embeddings
    import torch
    from tokenizers import Tokenizer
    from torch.nn.functional import cosine_similarity
    from transformers import AutoModel

    from converter.verification.passage import PASSAGE

    model = encoders("bert", "mean")
    file = convert(model, "q4_0", tmp_path / "q4_0.gguf", verify="none").output
    ids = Tokenizer.from_file(str(model / "tokenizer.json")).encode(PASSAGE).ids
    windows = torch.tensor(ids)[: 32 * EMBEDDED].reshape(32, EMBEDDED)
    with torch.inference_mode():
        source = AutoModel.from_pretrained(model, dtype=torch.float32)(windows).last_hidden_state.mean(1)
    found = torch.from_numpy(
        np.stack([llama_cpp_embeddings.text_embedding(file, window) for window in windows.tolist()])
    )
    result = check(file, model, method="q4_0")
    assert result.cosine == pytest.approx(cosine_similarity(source, found).mean().item(), abs=1e-4)
    centre = source.mean(0)
    centred = cosine_similarity(source - centre, found - centre).mean().item()
    assert result.centred_cosine == pytest.approx(centred, abs=1e-3)


def test_loading_is_enough_for_level_load(encoders: Callable[[str, str | None], Path], tmp_path: Path) -> None:
    model = encoders("bert", "mean")
    result = check(convert(model, "q8_0", tmp_path / "q8_0.gguf", verify="none").output, model, "load", "q8_0")
    assert result.passed
    assert result.verdict.endswith("difficult strings as the source does and embeds text, every element finite")
    assert result.cosine is None


def turn(data: np.ndarray) -> None:
    data[...] = data[::-1].copy()


@pytest.mark.parametrize(
    ("method", "tensor"),
    [
        ("f32", "token_embd_norm.weight"),
        ("q8_0", "blk.1.attn_v.weight"),
        ("q4_0", "blk.0.ffn_down.weight"),
    ],
)
def test_damaged_tensor_is_noticed(
    encoders: Callable[[str, str | None], Path], tmp_path: Path, method: str, tensor: str
) -> None:
    model = encoders("bert", "mean")
    path = convert(model, method, tmp_path / "file.gguf", verify="none").output
    data = next(found.data for found in GGUFReader(path, "r+").tensors if found.name == tensor)
    turn(data)
    data.flush()
    result = check(path, model, method=method)
    assert not result.passed
    assert f"the file is not faithful over 32 embeddings, for {method}: " in result.verdict


def spoiled(model: Path, tmp_path: Path, change: dict[str, float]) -> Path:
    path = Path(shutil.copy(convert(model, "f32", tmp_path / "f32.gguf", verify="none").output, tmp_path / "bad.gguf"))
    for found in GGUFReader(path, "r+").tensors:
        if found.name in change:
            found.data.fill(change[found.name])
            found.data.flush()
    return path


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"blk.1.layer_output_norm.weight": 0.0}, "it makes the same embedding of different texts"),
        (
            {"blk.1.layer_output_norm.weight": 0.0, "blk.1.layer_output_norm.bias": 2.0},
            "all 256 elements of an embedding are the same (2)",
        ),
        ({"blk.1.layer_output_norm.weight": 3e38}, "256 elements of a text's embeddings are not finite"),
    ],
)
def test_useless_embeddings_fail(
    encoders: Callable[[str, str | None], Path], tmp_path: Path, change: dict[str, float], reason: str
) -> None:
    model = encoders("bert", "mean")
    result = check(spoiled(model, tmp_path, change), model, "load")
    assert not result.passed
    assert reason in result.verdict


def test_encoder_with_a_decoder_is_compared_by_its_answers(tmp_path: Path) -> None:
    model = write_encoder(tmp_path / "model", "umt5")
    result = check(convert(model, "f32", tmp_path / "f32.gguf", verify="none").output, model)
    assert result.passed
    assert result.mean_kl < 1e-5
    assert result.generated
    assert result.top1_agreement > 0.995


def test_another_start_of_the_decoder_is_noticed(tmp_path: Path) -> None:
    model = write_encoder(tmp_path / "model", "t5")
    path = convert(model, "f32", tmp_path / "f32.gguf", verify="none").output
    config = json.loads((model / "config.json").read_text()) | {"decoder_start_token_id": 77}
    (model / "config.json").write_text(json.dumps(config))
    result = check(path, model)
    assert not result.passed
    assert "not faithful" in result.verdict


def test_similarity_is_that_of_its_definition() -> None:
    import torch
    from torch.nn.functional import cosine_similarity

    random = np.random.default_rng(3)
    source = random.normal(2, 1, (20, 33)).astype(np.float32)
    file = source + random.normal(0, 0.5, source.shape).astype(np.float32)
    found = similarity(np.split(source, 4), np.split(file, 4))
    x, y = (torch.from_numpy(values).double() for values in (source, file))
    assert found["rows"] == 20
    assert found["cosine"] == pytest.approx(cosine_similarity(x, y).mean().item(), rel=1e-9)
    expected = cosine_similarity(x - x.mean(0), y - x.mean(0)).mean().item()
    assert found["centred_cosine"] == pytest.approx(expected, rel=1e-6)


def test_every_method_has_thresholds() -> None:
    for method in METHODS:
        limits: Any = embedding_thresholds_for(method)
        assert 0 <= limits.cosine < 1
        assert 0 < limits.centred_cosine < 1
    assert embedding_thresholds_for("q8_0") == EMBEDDING_THRESHOLDS["q8_0"]
