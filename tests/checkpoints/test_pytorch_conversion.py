"""From PyTorch files to GGUF: the very bytes that the same model's safetensors give."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llama_cpp_oracle
import pytest
import torch
from checkpoint_builder import write_model
from command_line import convert, refusal
from safetensors.torch import load_file

SAMPLE = Path(__file__).parent.parent / "fixtures" / "sample"
State = dict[str, torch.Tensor]


def converted(model: Path, output: Path, *options: object) -> Path:
    outcome = convert("--model", model, "--output", output, "--quiet", *(options or ("--method", "q4_0")))
    assert outcome.code == 0, outcome
    return output


def single(directory: Path, state: State) -> None:
    torch.save(state, directory / "pytorch_model.bin")


def legacy(directory: Path, state: State) -> None:
    torch.save(state, directory / "pytorch_model.bin", _use_new_zipfile_serialization=False)


def lone(directory: Path, state: State) -> None:
    torch.save(
        {"model": {f"module.{name}": tensor for name, tensor in state.items()}, "step": 7}, directory / "best.pt"
    )
    torch.save({"state": {}}, directory / "optimizer.pt")


def strided(directory: Path, state: State) -> None:
    """Every matrix the transpose of a contiguous one, every vector a column of a matrix."""
    apart = {
        name: tensor.t().contiguous().t() if tensor.ndim == 2 else torch.stack([tensor, -tensor], 1)[:, 0]
        for name, tensor in state.items()
    }
    assert not any(tensor.is_contiguous() for tensor in apart.values())
    torch.save(apart, directory / "pytorch_model.bin")


def sharded(directory: Path, state: State, *, indexed: bool = True) -> None:
    placed = {name: f"pytorch_model-{1 + number % 3:05}-of-00003.bin" for number, name in enumerate(state)}
    for shard in set(placed.values()):
        torch.save({name: state[name] for name in state if placed[name] == shard}, directory / shard)
    if indexed:
        (directory / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": placed}))


def numbered(directory: Path, state: State) -> None:
    sharded(directory, state, indexed=False)


LAYOUTS: list[Callable[[Path, State], None]] = [single, legacy, lone, strided, sharded, numbered]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the sample's safetensors give."""
    return converted(
        SAMPLE, tmp_path_factory.mktemp("expected") / "sample.gguf", "--method", "q4_0", "--verify", "none"
    )


def rewritten(directory: Path, source: Path, layout: Callable[[Path, State], None]) -> Path:
    """The checkpoint with PyTorch files in the place of safetensors."""
    shutil.copytree(source, directory)
    state: dict[str, Any] = {}
    for shard in sorted(directory.glob("*.safetensors*")):
        state |= load_file(shard) if shard.suffix == ".safetensors" else {}
        shard.unlink()
    layout(directory, state)
    return directory


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_bytes(tmp_path: Path, expected: Path, layout: Callable[[Path, State], None]) -> None:
    model = rewritten(tmp_path / "sample", SAMPLE, layout)
    output = converted(model, tmp_path / "x.gguf", "--method", "q4_0", "--verify", "none")
    assert output.read_bytes() == expected.read_bytes()


@pytest.mark.parametrize("variation", ["llama-tied-biased", "gpt2", "falcon", "gpt-neox-tied-unbiased", "mamba"])
def test_tied_models(tmp_path: Path, variation: str) -> None:
    """save_pretrained leaves a tied matrix out of safetensors, torch.save keeps it under both names."""
    import transformers

    source = write_model(tmp_path / "model", variation)
    model = transformers.AutoModelForCausalLM.from_pretrained(source)
    before = converted(source, tmp_path / "before.gguf", "--method", "q8_0", "--verify", "none")
    rewritten(source.with_name("again"), source, lambda directory, _: single(directory, model.state_dict()))
    again = converted(source.with_name("again"), tmp_path / "again.gguf", "--method", "q8_0", "--verify", "none")
    assert llama_cpp_oracle.tensors(again) == llama_cpp_oracle.tensors(before)


def test_the_fullest_verification(tmp_path: Path) -> None:
    """transformers runs the PyTorch files themselves."""
    model = rewritten(tmp_path / "sample", SAMPLE, single)
    outcome = convert("--model", model, "--method", "q8_0", "--output", tmp_path / "x.gguf", "--verify", "full")
    assert outcome.code == 0, outcome
    assert "faithful over" in outcome.out


def test_an_importance_matrix(tmp_path: Path) -> None:
    model = rewritten(tmp_path / "sample", SAMPLE, single)
    outputs = []
    for number, source in enumerate((SAMPLE, model)):
        outputs.append(tmp_path / f"{number}.gguf")
        outcome = convert(
            "imatrix",
            "--model",
            source,
            "--text",
            SAMPLE / "heldout.txt",
            "--output",
            outputs[-1],
            "--chunks",
            2,
            "--quiet",
        )
        assert outcome.code == 0, outcome
    assert llama_cpp_oracle.tensors(outputs[0]) == llama_cpp_oracle.tensors(outputs[1])


def test_safetensors_come_first(tmp_path: Path, expected: Path) -> None:
    model = Path(shutil.copytree(SAMPLE, tmp_path / "sample"))
    single(model, {"other": torch.ones(3)})
    output = converted(model, tmp_path / "x.gguf", "--method", "q4_0", "--verify", "none")
    assert output.read_bytes() == expected.read_bytes()


def test_a_pickle_that_runs_a_command(tmp_path: Path) -> None:
    import os

    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path}/trace",)

    model = rewritten(tmp_path / "sample", SAMPLE, lambda directory, state: single(directory, {**state, "x": Attack()}))
    message = refusal("--model", model, "--method", "q4_0", "--output", tmp_path / "x.gguf")
    assert message.startswith(f"{model}/pytorch_model.bin: its pickle wants 'posix.system', which no weights need;")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sample"]


def test_weights_of_a_type_that_is_not_converted(tmp_path: Path) -> None:
    model = rewritten(tmp_path / "sample", SAMPLE, lambda directory, state: single(directory, whole(state)))
    message = refusal("--model", model, "--method", "q4_0", "--output", tmp_path / "x.gguf")
    assert "pytorch_model.bin: tensor model.norm.weight is of type I64, expected one of F32, F16, BF16" in message


def whole(state: State) -> State:
    return {name: tensor.long() if name == "model.norm.weight" else tensor for name, tensor in state.items()}
