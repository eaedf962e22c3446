"""Verification of model directories: what stock transformers makes of sound and of damaged ones."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_builder import write_model, write_tokenizer
from command_line import convert, refusal
from safetensors.torch import load_file, save_file

from converter import convert as convert_model
from converter.errors import EnvironmentFailure
from converter.verification.directory import verify_directory
from converter.verification.run_output_transformers import kind_of, try_out

SAMPLE = Path(__file__).parents[1] / "fixtures" / "sample"
FORMAT = {"output_format": "safetensors", "catalogue": ""}

Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample in q4_0."""
    return convert_model(SAMPLE, "q4_0", tmp_path_factory.mktemp("made") / "q4_0", verify="none", **FORMAT).output


@pytest.fixture
def damaged(made: Path, tmp_path: Path) -> Callable[[Callable[[Weights], Any]], Path]:
    """A copy whose tensors were changed."""

    def damage(change: Callable[[Weights], Any]) -> Path:
        copy = tmp_path / "damaged"
        shutil.copytree(made, copy)
        tensors = load_file(copy / "model.safetensors")
        change(tensors)
        save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
        return copy

    return damage


def tried(directory: Path) -> dict[str, Any]:
    return try_out(path=str(directory), threads=1, trust_remote_code=False)


def test_full_on_the_command_line(tmp_path: Path) -> None:
    outcome = convert(
        "--model", SAMPLE, "--method", "q4_0", "--format", "safetensors", "--output", tmp_path / "out",
        "--verify", "full", "--no-catalogue",
    )  # fmt: skip
    assert outcome.code == 0, outcome
    assert "faithful over 1,536 tokens: the source's most likely token at 9" in outcome.err + outcome.out
    assert "it holds the source's tokenizer" in outcome.err + outcome.out


def test_a_damaged_model_is_not_faithful(damaged: Callable[..., Path]) -> None:
    directory = damaged(lambda tensors: tensors["model.layers.1.mlp.down_proj.weight_scale"].zero_())
    found = verify_directory(directory, level="full", source=SAMPLE, tokenizer=SAMPLE, copied={}, method="q8_0")
    assert not found.passed
    assert found.verdict.startswith("the directory is not faithful over 1,536 tokens, for q8_0: mean KL divergence ")
    assert found.mean_kl is not None
    assert found.mean_kl > 4.5e-3


def test_what_is_loaded_is_tried(made: Path) -> None:
    found = tried(made)
    assert (found["kind"], found["context_length"], found["row_length"]) == ("causal", 256, 1024)
    assert found["generated"]


def test_numbers_that_are_not_finite(damaged: Callable[..., Path]) -> None:
    directory = damaged(lambda tensors: tensors["model.norm.weight"].fill_(float("nan")))
    assert tried(directory) == {
        "failure": "its results are not finite in torch.bfloat16, the type that its config.json names"
    }


def test_weights_that_are_missing(damaged: Callable[..., Path]) -> None:
    directory = damaged(lambda tensors: tensors.pop("model.layers.0.mlp.up_proj.weight_packed"))
    assert tried(directory) == {"failure": "transformers finds no weights for model.layers.0.mlp.up_proj.weight_packed"}


def test_a_model_that_predicts_nothing(damaged: Callable[..., Path]) -> None:
    directory = damaged(lambda tensors: tensors["lm_head.weight"].zero_())
    assert tried(directory) == {"failure": "all 1024 elements of a result are the same"}


def test_a_file_that_is_cut_short_is_refused_in_one_line(made: Path, tmp_path: Path) -> None:
    copy = tmp_path / "cut"
    shutil.copytree(made, copy)
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-64])
    said = tried(copy)["failure"]
    assert said.startswith("transformers cannot load it: ")
    assert "\n" not in said


def test_a_tokenizer_that_differs(made: Path, tmp_path: Path) -> None:
    copy = tmp_path / "other"
    shutil.copytree(made, copy)
    (copy / "tokenizer.json").write_text("{}")
    copied = {"tokenizer.json": SAMPLE / "tokenizer.json"}
    found = verify_directory(copy, level="load", source=SAMPLE, tokenizer=SAMPLE, copied=copied, method="q4_0")
    assert (found.passed, found.verdict) == (
        False,
        "the directory is not usable: its tokenizer.json is not the source's",
    )


def test_a_rejected_directory_is_kept(tmp_path: Path) -> None:
    source = write_model(tmp_path / "source", "llama")
    tensors = load_file(source / "model.safetensors")
    tensors.pop("model.norm.weight")
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    said = refusal(
        "--model", source, "--method", "bf16", "--format", "safetensors", "--output", tmp_path / "out", "--no-catalogue"
    )  # fmt: skip
    assert said.startswith("the directory is not usable: transformers finds no weights for model.norm.weight; ")
    assert (tmp_path / "out.rejected" / "model.safetensors").is_file()
    assert not (tmp_path / "out").exists()


def test_a_source_that_cannot_be_run(made: Path, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    with pytest.raises(
        EnvironmentFailure, match=r"source: its predictions cannot be compared: .*; verify with level load"
    ):
        verify_directory(
            made, level="full", source=tmp_path / "source", tokenizer=SAMPLE, copied={}, method="q4_0", threads=1
        )


def test_encoders_and_encoder_decoders(tmp_path: Path) -> None:
    import transformers

    config = transformers.BertConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    transformers.BertModel(config).save_pretrained(tmp_path / "bert")
    found = tried(tmp_path / "bert")
    assert (found["kind"], found["row_length"], found["generated"]) == ("encoder", 32, "")
    t5 = transformers.T5Config(
        vocab_size=64, d_model=32, d_kv=16, num_heads=2, d_ff=64, num_layers=2, decoder_start_token_id=0
    )
    transformers.T5ForConditionalGeneration(t5).save_pretrained(tmp_path / "t5")
    found = tried(tmp_path / "t5")
    assert (found["kind"], found["row_length"]) == ("encoder-decoder", 64)
    assert kind_of(transformers.GPT2Config(architectures=["GPT2LMHeadModel"])) == "causal"


@pytest.mark.parametrize("method", ["bnb_8bit", "bnb_4bit"])
def test_a_reranker_is_loaded_by_the_class_that_it_names(tmp_path: Path, method: str) -> None:
    """What a quantization leaves alone is named as in that class, and keeps its own type."""
    import transformers

    torch.manual_seed(5)
    config = transformers.BertConfig(
        vocab_size=512, hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=256, num_labels=1
    )
    source = tmp_path / "source"
    transformers.BertForSequenceClassification(config).to(torch.bfloat16).save_pretrained(source)
    write_tokenizer(source)
    result = convert_model(source, method, tmp_path / "out", verify="full", **FORMAT)
    assert result.verification.passed
    assert result.verification.cosine > 0.9
