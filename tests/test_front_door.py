"""The first commands that people type, right and wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from command_line import convert, refusal
from gguf import GGUFReader
from hub_server import HubServer

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "tests" / "fixtures" / "sample"
FAST = ("--verify", "none", "--no-catalogue")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a model in it, and another that is called as a command."""
    shutil.copytree(SAMPLE, tmp_path / "my-model")
    shutil.copytree(SAMPLE, tmp_path / "list")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def kind(file: str | Path) -> str:
    """The type of a block's weights."""
    return {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(file).tensors}["blk.0.ffn_up.weight"]


@pytest.mark.parametrize(
    ("command", "made"),
    [
        ("./my-model", {"my-model-q4_k_m.gguf": "Q4_K"}),
        ("./my-model q8_0", {"my-model-q8_0.gguf": "Q8_0"}),
        ("q8_0 ./my-model", {"my-model-q8_0.gguf": "Q8_0"}),
        ("my-model/ Q4_K --output x", {"x.gguf": "Q4_K"}),
        ("--method q5_0 my-model", {"my-model-q5_0.gguf": "Q5_0"}),
        ("--model my-model fp16", {"my-model-f16.gguf": "F16"}),
        ("quantize --model my-model --method q4_0", {"my-model-q4_0.gguf": "Q4_0"}),
        ("--quiet quantize my-model q4_0", {"my-model-q4_0.gguf": "Q4_0"}),
        ("./list q4_0 -o new/one.gguf", {"new/one.gguf": "Q4_0"}),
        ("--model list --method q4_0 --batch-size 16", {"list-q4_0.gguf": "Q4_0"}),
        ("my-model q4_0,q8_0", {"my-model-q4_0.gguf": "Q4_0", "my-model-q8_0.gguf": "Q8_0"}),
        ("my-model q4_0 q8_0", {"my-model-q4_0.gguf": "Q4_0", "my-model-q8_0.gguf": "Q8_0"}),
        ("my-model --method q4_0 --method Q8_0,q4_0", {"my-model-q4_0.gguf": "Q4_0", "my-model-q8_0.gguf": "Q8_0"}),
        ("my-model q4_0,q8_0 -o new/", {"new/my-model-q4_0.gguf": "Q4_0", "new/my-model-q8_0.gguf": "Q8_0"}),
        ("my-model q4_0,q8_0 -o new/{method}/m.gguf", {"new/q4_0/m.gguf": "Q4_0", "new/q8_0/m.gguf": "Q8_0"}),
        ("my-model q4_0 -o new/", {"new/my-model-q4_0.gguf": "Q4_0"}),
    ],
)
def test_right(here: Path, command: str, made: dict[str, str]) -> None:
    outcome = convert(*command.split(), *FAST)
    assert outcome.code == 0, outcome.err
    assert {str(path.relative_to(here)): kind(path) for path in here.rglob("*.gguf")} == made
    assert all(name in outcome.out for name in made) or "--quiet" in command


def test_the_model_is_read_once_for_several_methods(here: Path) -> None:
    outcome = convert("my-model", "q4_0,q8_0", "--log-json", *FAST)
    assert outcome.code == 0
    assert outcome.err.count('"event": "reading"') == 1
    assert outcome.err.count('"event": "writing"') == 1
    assert outcome.err.count('"event": "finished"') == 2


def test_one_of_several_methods_fails(here: Path) -> None:
    outcome = convert("my-model", "q4_0,iq2_xxs", *FAST)
    assert outcome.code == 1
    assert "convert: error: iq2_xxs: " in outcome.err
    assert [path.name for path in here.glob("*.gguf")] == ["my-model-q4_0.gguf"]


def test_what_was_understood_is_said(here: Path) -> None:
    assert "convert: no method given, using q4_k_m" in convert("my-model", "--dry-run").err
    assert "convert: no method given, using bf16" in convert("my-model", "--format", "safetensors", "--dry-run").err
    assert "convert: Q4_K is q4_k_m here" in convert("my-model", "Q4_K", "--dry-run").err
    assert "is " not in convert("my-model", "Q4_0", "--dry-run").err


@pytest.mark.parametrize(
    ("word", "method"),
    [
        ("int4", "q4_k_m"), ("4bit", "q4_k_m"), ("4-bit", "q4_k_m"), ("w4a16", "q4_k_m"), ("q4", "q4_k_m"),
        ("int8", "q8_0"), ("8bit", "q8_0"), ("8-bit", "q8_0"), ("fp8", "q8_0"), ("q8", "q8_0"), ("awq", "q4_k_m"),
        ("gptq", "q4_k_m"), ("nf4", "iq4_nl"), ("fp4", "iq4_nl"), ("bnb", "iq4_nl"), ("Q4_K_XL", "q4_k_m"),
        ("UD-Q4_K_XL", "q4_k_m"), ("Q3_K_XL", "q3_k_l"), ("Q6_K_L", "q6_k"), ("mxfp4", "mxfp4_moe"),
        ("nvfp4", "q4_k_m"), ("exl2", "q4_k_m"), ("hqq", "q4_k_m"), ("ggml", "q4_k_m"), ("q4-k-m", "q4_k_m"),
        ("Q4KM", "q4_k_m"), ("MOSTLY_Q5_K_S", "q5_k_s"), ("ternary", "tq2_0"), ("3bit", "q3_k_m"),
    ],
)  # fmt: skip
def test_words_get_what_is_nearest_in_sense(here: Path, word: str, method: str) -> None:
    said = refusal("my-model", "--method", word, code=2)
    assert said.startswith(f"method {word!r} does not exist; did you mean {method}?")
    assert refusal("my-model", word, code=2) == said


@pytest.mark.parametrize(
    ("container", "word", "method"),
    [
        ("safetensors", "nf4", "bnb_4bit"), ("safetensors", "awq", "q4_0"), ("safetensors", "int8", "q8_0"),
        ("pytorch", "nf4", "q4_0"), ("pytorch", "fp8", "q8_0"),
    ],
)  # fmt: skip
def test_words_in_other_formats(here: Path, container: str, word: str, method: str) -> None:
    said = refusal("my-model", "--method", word, "--format", container, code=2)
    assert said.startswith(f"--format {container} has no method {word!r}; did you mean {method}?")
    assert refusal("my-model", word, "--format", container, code=2) == said


@pytest.mark.parametrize(
    ("word", "method"),
    [
        ("fp16", "f16"),
        ("half", "f16"),
        ("float32", "f32"),
        ("bfloat16", "bf16"),
        ("Q4_K", "q4_k_m"),
        ("Q5_K", "q5_k_m"),
    ],
)
def test_synonyms_are_taken(here: Path, word: str, method: str) -> None:
    outcome = convert("my-model", word, "--dry-run")
    assert outcome.code == 0, outcome.err
    assert f"my-model-{method}.gguf would be " in outcome.out


@pytest.mark.parametrize(
    ("command", "said", "code"),
    [
        ("q4_0", "q4_0 is a method; which model? convert MODEL q4_0", 2),
        ("inspct my-model", "inspct is neither a command nor a model here; did you mean convert inspect?", 2),
        ("info my-model", "info is neither a command nor a model here; did you mean convert inspect FILE?", 2),
        ("ls", "ls is neither a command nor a model here; did you mean convert list?", 2),
        ("my-model out.gguf", "out.gguf: the output takes an option: convert my-model --output out.gguf", 2),
        ("my-model out.gguf q4_0", "out.gguf: the output takes an option: convert my-model q4_0 --output out.gguf", 2),
        ("my-model ./list", "./list: a second model? A conversion reads one; ", 2),
        ("my-model q4_0,q8_0 -o x.gguf", "--output x.gguf is one name for 2 methods; give a directory ", 2),
        ("my-model q4_0,q8_0 -o {model}.gguf", "--output {model}.gguf is the same name for 2 methods; ", 2),
        ("my-model q4_0 -o {modle}.gguf", "output: template '{modle}.gguf' has no field 'modle'; did you", 2),
        ("my-model q4_0 --output -", "-: is standard output, but an output is written at many ", 1),
        ("--model my-model --model list", "--model is given twice; convert batch converts several models", 2),
        ("--method q4_0 list", "--method belongs to a conversion, but list is a command; a model ", 2),
        ("my-model --outtype q4_0", "no such option --outtype; did you mean --method?", 2),
        ("my-model --outfile x.gguf", "no such option --outfile; did you mean --output?", 2),
        ("my-model --overwrte", "no such option --overwrte; did you mean --overwrite?", 2),
        ("my-model --token hf_x", "no such option --token; set the environment's HF_TOKEN instead", 2),
        ("my-model --revision main", "no such option --revision; write it behind the model: ORG/NAME@REVISION", 2),
        ("my-model --format ggml", "--format: 'ggml' is not a value; did you mean 'gguf'?", 2),
        ("my-model --format hf", "--format: 'hf' is not a value; did you mean 'safetensors'?", 2),
        ("my-model --verify yes", "--verify: 'yes' is not a value; did you mean 'load'?", 2),
        ("my-model --torch-dtype fp16", "--torch-dtype: 'fp16' is not a value; did you mean 'float16'", 2),
        ("gpt2", "gpt2: no such directory; on the Hub that model is openai-community/gpt2", 1),
        ("my-modle q4_0", "my-modle: no such directory; did you mean ./my-model?", 1),
        ("zebra q4_0", "zebra: no such directory; a model of the Hub is given as ORG/NAME, such as ", 1),
        ("ollama my-model mine", "my-model: is a directory, and Ollama takes a GGUF file; make one first: ", 2),
        ("list /nope", "/nope: no such file or directory; give a directory of outputs, or a catalogue.sqlite", 1),
        ("inspect my-model/model.safetensors", "my-model/model.safetensors: is one file of a checkpoint; ", 2),
        ("--config my-model/config.json", "my-model/config.json: is a checkpoint's config.json; ", 2),
    ],
)  # fmt: skip
def test_wrong(here: Path, command: str, said: str, code: int) -> None:
    outcome = convert(*command.split())
    assert outcome.code == code, outcome
    assert outcome.out == ""
    assert outcome.err.splitlines()[-1].startswith(f"convert: error: {said}")
    assert not list(here.rglob("*.gguf*"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty; configs/single.yaml and configs/batch.yaml are examples"),
        ("model:\n\tmodel_name: x\n", "line 2 is indented with a tab, where YAML wants spaces"),
        (
            "<!DOCTYPE html>\n<html></html>\n",
            "it is an HTML page, such as a login or an error; download the file itself",
        ),
    ],
)
def test_files_that_are_no_yaml(here: Path, text: str, said: str) -> None:
    Path("run.yaml").write_text(text)
    for command in ("--config", "batch"):
        assert refusal(command, "run.yaml", code=2).endswith(f"; {said}")


def test_a_file_for_another_command(here: Path) -> None:
    single, batch = ROOT / "configs" / "single.yaml", ROOT / "configs" / "batch.yaml"
    assert refusal("batch", single, code=2) == f"{single}: is a single conversion; run convert --config {single}"
    assert refusal("--config", batch, code=2) == f"{batch}: is a batch of several models; run convert batch {batch}"


def test_a_checkpoint_is_inspected(here: Path) -> None:
    from safetensors import safe_open

    outcome = convert("inspect", "my-model")
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[0].startswith("my-model: checkpoint of LlamaForCausalLM, 5.8 MB")
    lines = [line.split() for line in outcome.out.splitlines()]
    with safe_open(here / "my-model" / "model.safetensors", "numpy") as file:
        for name in file.keys():  # noqa: SIM118 (no mapping)
            shape = " × ".join(map(str, file.get_slice(name).get_shape())).split()
            assert [name, file.get_slice(name).get_dtype(), *shape] in lines
    convert("my-model", "q4_0", "-o", "files/", *FAST)
    assert refusal("inspect", "files", code=2).endswith("convert inspect files/my-model-q4_0.gguf")


@pytest.mark.parametrize("command", ["help", "--help", "help quantize", "quantize --help", "-h"])
def test_help(command: str) -> None:
    outcome = convert(*command.split())
    assert outcome.code == 0
    assert outcome.out.startswith("Usage: convert MODEL [METHOD]... [OPTIONS]\n       convert COMMAND [ARGS]...\n")
    assert "Quantization:\n" in outcome.out
    assert "Commands:\n" in outcome.out


def test_help_for_a_command() -> None:
    assert convert("help", "inspect").out == convert("inspect", "--help").out


def test_the_examples_of_a_guide_run_as_they_stand(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = {
        "model": {
            "model_name": "microsoft/DialoGPT-small",
            "model_kwargs": {"torch_dtype": "auto", "trust_remote_code": True},
        },
        "method": "q4_0",
        "output_path": "models/quantized/dialogpt.gguf",
        "output_format": "gguf",
        "batch_size": 16,
    }
    Path("config.yaml").write_text(yaml.safe_dump(guide))
    with HubServer() as hub:
        hub.add("microsoft/DialoGPT-small", SAMPLE)
        for name, value in hub.environment(here / "hub").items():
            monkeypatch.setenv(name, value)
        hub.stand_in(monkeypatch, here / "hub/cache")
        command = "quantize --method q4_0 --model microsoft/DialoGPT-small --output models/new/x.gguf --batch-size 16"
        from_options = convert(*command.split())
        from_file = convert("--config", "config.yaml")
    assert (from_options.code, from_file.code) == (0, 0), from_options.err + from_file.err
    assert kind("models/new/x.gguf") == kind("models/quantized/dialogpt.gguf") == "Q4_0"
