"""YAML: every shipped example runs, options override, mistakes are answered with their place and a valid name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import convert, refusal
from gguf import GGUFReader

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "configs").glob("*.yaml"))


#: Of each batch: its outputs, and the type of their weights in the blocks.
BATCHES = {
    "batch.yaml": {
        "shelf/sample/sample-q8_0.gguf": "Q8_0",
        "shelf/sample/sample-q4_k_m.gguf": "Q4_K",
        "shelf/sample/sample-q4_0-pure.gguf": "Q4_0",
        "shelf/sample-bf16/sample-bf16-q8_0.gguf": "Q8_0",
        "shelf/sample-bf16/sample-bf16-q4_k_m.gguf": "Q4_K",
        "shelf/sample/sample-f16-safetensors": "F16",
    },
    "edge.yaml": {
        "edge/sample-q4_0.gguf": "Q4_0",
        "edge/sample-q3_k_m.gguf": "Q3_K",
        "edge/sample-iq4_nl-00001-of-00002.gguf": "IQ4_NL",
    },
    "gpu.yaml": {
        "gpu/sample-bf16-safetensors": "BF16",
        "gpu/sample-q8_0-safetensors": "pack-quantized 8",
        "gpu/sample-q4_0-safetensors": "pack-quantized 4",
    },
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory where the examples find the sample model, and one without a tokenizer."""
    sample = ROOT / "tests" / "fixtures" / "sample"
    (tmp_path / "tests" / "fixtures").mkdir(parents=True)
    (tmp_path / "tests" / "fixtures" / "sample").symlink_to(sample)
    (tmp_path / "my-fine-tune").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "my-fine-tune" / name).symlink_to(sample / name)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    return tmp_path


def command_of(example: Path) -> list[str]:
    """The command in an example's first line."""
    return example.read_text().splitlines()[0].split("convert ", 1)[1].split()


@pytest.mark.parametrize("example", [path for path in EXAMPLES if path.name not in BATCHES], ids=lambda path: path.name)
def test_examples_run_as_their_first_line_says(here: Path, example: Path) -> None:
    command = command_of(example)
    outcome = convert(*command)
    assert outcome.code == 0, outcome.err
    configuration = yaml.safe_load(Path(command[command.index("--config") + 1]).read_text())
    output = here / configuration["output_path"]
    assert str(output.name) in outcome.out
    assert "verified in " in outcome.out
    assert len(GGUFReader(output).tensors) == 39
    assert output.with_suffix(".Modelfile").exists() == configuration.get("modelfile", False)


def stored_type(output: Path) -> str:
    """How the first block's weights are stored, as gguf's and safetensors' own readers and config.json say."""
    if output.is_file():
        kinds = {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(output).tensors}
        return kinds["blk.0.ffn_up.weight"]
    from safetensors import safe_open

    config = json.loads((output / "config.json").read_text())
    if "quantization_config" in config:
        (group,) = config["quantization_config"]["config_groups"].values()
        return f"{config['quantization_config']['format']} {group['weights']['num_bits']}"
    with safe_open(output / "model.safetensors", "numpy") as file:
        return str(file.get_slice("model.layers.0.mlp.up_proj.weight").get_dtype())


@pytest.mark.parametrize("name", BATCHES)
def test_batches_run_as_their_first_line_says(here: Path, name: str) -> None:
    outcome = convert(*command_of(ROOT / "configs" / name))
    assert outcome.code == 0, outcome.err
    results = [line.split() for line in outcome.out.splitlines()[1:]]
    assert [row[1] for row in results] == ["done"] * len(BATCHES[name])
    assert [" ".join(row[5:]) for row in results] == ["verified (load)"] * len(BATCHES[name])
    assert {output: stored_type(here / output) for output in BATCHES[name]} == BATCHES[name]
    again = convert(*command_of(ROOT / "configs" / name), "--resume")
    assert again.code == 0, again.err
    assert [line.split()[1] for line in again.out.splitlines()[1:]] == ["kept"] * len(BATCHES[name])


def write(path: Path, **content: Any) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def test_options_override_the_file(here: Path) -> None:
    file = write(here / "run.yaml", model={"model_name": "nowhere"}, method="q8_0", output_path="from-file.gguf")
    options = (
        "--model",
        "tests/fixtures/sample",
        "--method",
        "q5_0",
        "--output",
        "from-option.gguf",
        "--verify",
        "none",
    )
    assert convert("--config", file, *options).code == 0
    assert not (here / "from-file.gguf").exists()
    kinds = {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(here / "from-option.gguf").tensors}
    assert kinds["blk.0.ffn_up.weight"] == "Q5_0"


def test_the_weights_are_rounded_to_torch_dtype_first(here: Path) -> None:
    kwargs = {"torch_dtype": "float16"}
    model = {"model_name": "tests/fixtures/sample", "model_kwargs": kwargs}
    file = write(here / "run.yaml", model=model, method="f32", output_path="rounded.gguf")
    assert convert("--config", file, "--verify", "none").code == 0
    plain = ("--model", "tests/fixtures/sample", "--method", "f32", "--output", "plain.gguf", "--verify", "none")
    assert convert(*plain).code == 0
    rounded, exact = (GGUFReader(here / name).tensors for name in ("rounded.gguf", "plain.gguf"))
    for ours, source in zip(rounded, exact, strict=True):
        assert (ours.data == source.data.astype("float16").astype("float32")).all(), ours.name


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"method": "q4_0"}, "model: missing; it is required"),
        ({"model": {}, "method": "q4_0"}, "model.model_name: missing; it is required"),
        ({"model": {"model_name": "x"}}, "method: missing; it is required"),
        ({"model": {"model_name": "x"}, "methd": "q4_0"}, "method: missing; it is required"),
        ({"model": {"model_name": "x"}, "method": "q4_0", "outputpath": "y"}, "outputpath: unknown key; did you mean "
         "'output_path'?"),
        ({"model": {"model_nam": "x", "model_name": "x"}, "method": "q4_0"}, "model.model_nam: unknown key; did you "
         "mean 'model_name'?"),
        ({"model": {"model_name": "x", "model_kwargs": {"dtype": "float16"}}, "method": "q4_0"},
         "model.model_kwargs.dtype: unknown key; did you mean 'torch_dtype'?"),
        ({"model": {"model_name": "x", "model_kwargs": {"torch_dtype": "fp16"}}, "method": "q4_0"},
         "model.model_kwargs.torch_dtype: 'fp16' is not a value; did you mean 'float16'?"),
        ({"model": {"model_name": "x"}, "method": "q4_0", "output_format": "ggml"},
         "output_format: 'ggml' is not a value; did you mean 'gguf'?"),
        ({"model": {"model_name": "x"}, "method": "q4_0", "batch_size": 0},
         "batch_size: 0 found; input should be greater than 0"),
        ({"model": {"model_name": "x"}, "method": "q8"}, "method: method 'q8' does not exist; did you mean q8_0?"),
        ({"model": {"model_name": "x"}, "method": 4}, "method: 4 found; input should be a valid string"),
        ({"model": "x", "method": "q4_0"}, "model: 'x' found; a mapping of model_name, tokenizer_name, "
         "model_kwargs expected"),
    ],
)  # fmt: skip
def test_mistakes(tmp_path: Path, content: dict[str, Any], expected: str) -> None:
    file = write(tmp_path / "run.yaml", **content)
    assert refusal("--config", file, code=2) == f"{file}: {expected}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "a mapping with model and method expected, NoneType found"),
        ("- a\n", "a mapping with model and method expected, list found"),
        ("a: [", "not YAML: "),
        ("model: !!python/object/apply:os.system ['true']", "not YAML: "),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    assert refusal("--config", file, code=2).startswith(f"{file}: {expected}")


def test_no_such_file(tmp_path: Path) -> None:
    missing = tmp_path / "no.yaml"
    assert refusal("--config", missing, code=2).startswith(f"{missing}: cannot be read: No such file")
    (tmp_path / "latin.yaml").write_bytes("model: é".encode("latin-1"))
    assert "is not UTF-8 text (" in refusal("--config", tmp_path / "latin.yaml", code=2)
