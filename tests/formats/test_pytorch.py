"""Directories of PyTorch's files: what torch and transformers read from them is what the source or a GGUF holds."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import llama_cpp_oracle
import pytest
import torch
from checkpoint_builder import write_model
from command_line import convert, refusal
from safetensors.torch import load_file, save_file
from torchao.quantization import IntxUnpackedToInt8Tensor, IntxWeightOnlyConfig, MappingType
from torchao.quantization.granularity import PerGroup
from transformers import AutoModelForCausalLM, AutoTokenizer, TorchAoConfig

import converter
from converter.execution import executor
from converter.formats.torchao import INTX
from converter.quants import QUANT_TYPES, ggml

SAMPLE = Path(__file__).parents[1] / "fixtures" / "sample"
TOKENS = torch.tensor([[3, 14, 159, 265, 358, 97, 93, 238, 46, 264, 33, 83, 27, 95]])
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
SYMMETRIC = ("q4_0", "q5_0", "q8_0")

Convert = Callable[..., Path]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def to_pytorch(tmp_path_factory: pytest.TempPathFactory) -> Convert:
    """``convert --format pytorch``, which must succeed; gives the directory, the same one for the same arguments."""

    @cache
    def run(model: Path, method: str, *options: object, verify: str = "none") -> Path:
        output = tmp_path_factory.mktemp(method) / "model"
        outcome = convert(
            "--quiet", "--model", model, "--method", method, "--format", "pytorch", "--output", output,
            "--verify", verify, "--no-catalogue", *options,
        )  # fmt: skip
        assert outcome.code == 0, outcome
        return output

    return run


def loaded(directory: Path, **settings: Any) -> torch.nn.Module:
    """The model as stock transformers loads it, every weight found and none left over."""
    model, report = AutoModelForCausalLM.from_pretrained(directory, output_loading_info=True, **settings)
    assert not any(report.values()), report
    return model


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(TOKENS).logits


def in_blocks(weight: torch.Tensor, method: str) -> torch.Tensor:
    """The numbers of the blocks that ggml makes of a matrix, float32."""
    rows = weight.float().contiguous().numpy()
    kind = QUANT_TYPES[method]
    blocks = torch.empty(len(rows), kind.row_bytes(rows.shape[1]), dtype=torch.uint8).numpy()
    numbers = torch.empty(weight.shape, dtype=torch.float32)
    ggml.quantize(kind.ggml_type, rows, blocks, None)
    ggml.dequantize(kind.ggml_type, blocks, numbers.numpy())
    return numbers


def in_blocks_of_its_modules(source: Path, method: str) -> torch.nn.Module:
    """The source in float32: weights of the linear modules of its blocks through a GGUF's blocks.

    Other weights are rounded to float16, unless the source is bfloat16.
    """
    named = json.loads((source / "config.json").read_text())["dtype"]
    dtype = torch.bfloat16 if named == "bfloat16" else torch.float16
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    head = model.get_output_embeddings()
    with torch.no_grad():
        quantized = {
            id(module.weight)
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear) and module is not head and module.in_features % 32 == 0
        }
        for parameter in model.parameters():
            is_quantized = id(parameter) in quantized
            parameter.copy_(in_blocks(parameter, method) if is_quantized else parameter.to(dtype))
    return model


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2 whose output matrix is its embedding, and whose ``down_proj`` has rows of 520."""
    return write_model(tmp_path_factory.mktemp("tied"), "qwen2-tied", intermediate_size=520)


@pytest.mark.parametrize("method", DTYPES)
def test_plain(to_pytorch: Convert, method: str) -> None:
    output = to_pytorch(SAMPLE, method)
    source = load_file(SAMPLE / "model.safetensors")
    state = torch.load(output / "pytorch_model.bin", weights_only=True)
    assert list(state) == list(source)
    for name, tensor in state.items():
        assert tensor.dtype == DTYPES[method]
        assert torch.equal(tensor, source[name].to(DTYPES[method]))
    model = loaded(output)
    assert model.dtype == DTYPES[method]
    expected = AutoModelForCausalLM.from_pretrained(SAMPLE, dtype=DTYPES[method])
    assert torch.equal(logits(model), logits(expected))


def test_everything_beside_the_weights(to_pytorch: Convert) -> None:
    output = to_pytorch(SAMPLE, "f32")
    config = json.loads((output / "config.json").read_text())
    assert config == json.loads((SAMPLE / "config.json").read_text()) | {"dtype": "float32"}
    assert (output / "generation_config.json").read_bytes() == (SAMPLE / "generation_config.json").read_bytes()
    theirs, ours = (AutoTokenizer.from_pretrained(directory) for directory in (SAMPLE, output))
    text = "It's 12,345 o'clock — naïve 日本語 <|eot_id|>\n"
    assert ours(text).input_ids == theirs(text).input_ids
    chat = [{"role": "user", "content": "Hello!"}]
    assert ours.apply_chat_template(chat, tokenize=False) == theirs.apply_chat_template(chat, tokenize=False)


@pytest.mark.parametrize("method", SYMMETRIC)
def test_symmetric_numbers_are_those_of_a_gguf(to_pytorch: Convert, method: str) -> None:
    output = to_pytorch(SAMPLE, method)
    expected = logits(in_blocks_of_its_modules(SAMPLE, method))
    model = loaded(output, dtype=torch.float32)
    weight = model.model.layers[0].mlp.down_proj.weight
    assert isinstance(weight, IntxUnpackedToInt8Tensor)
    assert weight.target_dtype == getattr(torch, INTX[method].weight_dtype)
    assert torch.equal(logits(model), expected)
    model = loaded(output)
    assert model.dtype == torch.bfloat16
    assert torch.allclose(logits(model).float(), expected, rtol=0, atol=0.05 * expected.std())


@pytest.mark.parametrize("method", ["q4_1", "q5_1"])
def test_asymmetric_numbers_are_those_of_torchao(to_pytorch: Convert, method: str) -> None:
    state = torch.load(to_pytorch(SAMPLE, method) / "pytorch_model.bin", weights_only=True)
    bits = getattr(torch, INTX[method].weight_dtype)
    config = TorchAoConfig(IntxWeightOnlyConfig(bits, PerGroup(32), MappingType.ASYMMETRIC))
    theirs = AutoModelForCausalLM.from_pretrained(SAMPLE, dtype=torch.float32, quantization_config=config).state_dict()
    quantized = 0
    for name, weight in state.items():
        assert type(weight) is type(theirs[name])
        if isinstance(weight, IntxUnpackedToInt8Tensor):
            quantized += 1
            expected = theirs[name].to(torch.float16)
            for part in ("qdata", "scale", "zero_point"):
                assert torch.equal(getattr(weight, part), getattr(expected, part))
        else:
            assert torch.equal(weight.float(), theirs[name])
    assert quantized == 28
    model = loaded(to_pytorch(SAMPLE, method), dtype=torch.float32)
    with torch.no_grad():
        reference = AutoModelForCausalLM.from_pretrained(SAMPLE, dtype=torch.float32)
        for name, parameter in reference.state_dict().items():
            weight = state[name].to(torch.float32)
            parameter.copy_(weight.dequantize() if isinstance(weight, IntxUnpackedToInt8Tensor) else weight)
    assert torch.equal(logits(model), logits(reference))


def test_loads_with_weights_only(to_pytorch: Convert) -> None:
    output = to_pytorch(SAMPLE, "q4_0")
    state = torch.load(output / "pytorch_model.bin", weights_only=True)
    source = load_file(SAMPLE / "model.safetensors")
    assert state.keys() == source.keys()
    for name, tensor in state.items():
        assert tensor.shape == source[name].shape
        assert tensor.dtype == torch.bfloat16
        if isinstance(tensor, IntxUnpackedToInt8Tensor):
            assert torch.equal(tensor.to(torch.float32).dequantize(), in_blocks(source[name], "q4_0"))
        else:
            assert torch.equal(tensor, source[name])


def test_tied_weights_are_stored_once_and_uneven_rows_stay_plain(to_pytorch: Convert, tied: Path) -> None:
    output = to_pytorch(tied, "q8_0")
    state = torch.load(output / "pytorch_model.bin", weights_only=True)
    assert state.keys() == load_file(tied / "model.safetensors").keys()
    assert "lm_head.weight" not in state
    model = loaded(output, dtype=torch.float32)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert type(model.model.layers[1].mlp.down_proj.weight) is torch.nn.Parameter
    assert isinstance(model.model.layers[1].self_attn.q_proj.weight, IntxUnpackedToInt8Tensor)
    assert torch.equal(logits(model), logits(in_blocks_of_its_modules(tied, "q8_0")))


def test_several_files_and_their_index(to_pytorch: Convert) -> None:
    output = to_pytorch(SAMPLE, "q4_0", "--split-max-size", "1M")
    index = json.loads((output / "pytorch_model.bin.index.json").read_text())
    shards = sorted(output.glob("*.bin"))
    assert len(shards) > 2
    assert [shard.name for shard in shards] == [
        f"pytorch_model-{number:05}-of-{len(shards):05}.bin" for number in range(1, len(shards) + 1)
    ]
    states = {shard.name: torch.load(shard, weights_only=True) for shard in shards}
    assert index["weight_map"] == {name: shard for shard, state in states.items() for name in state}
    for shard in shards:
        assert shard.stat().st_size < 1_050_000
        with zipfile.ZipFile(shard) as archive:
            assert archive.testzip() is None
    expected = logits(in_blocks_of_its_modules(SAMPLE, "q4_0"))
    assert torch.equal(logits(loaded(output, dtype=torch.float32)), expected)


@pytest.mark.slow
def test_faithful_to_the_source(tmp_path: Path) -> None:
    result = converter.convert(SAMPLE, "q8_0", tmp_path / "model", output_format="pytorch", verify="full", catalogue="")
    assert result.verification is not None
    assert result.verification.passed
    assert result.verification.mean_kl is not None
    assert 0 < result.verification.mean_kl < 0.01
    with zipfile.ZipFile(result.output / "pytorch_model.bin") as archive:
        assert archive.testzip() is None


def test_experts_stay_plain(tmp_path: Path) -> None:
    source = write_model(tmp_path / "source", "mixtral")
    result = converter.convert(source, "q4_0", tmp_path / "q4", output_format="pytorch", verify="none", catalogue="")
    (warning,) = result.warnings
    assert "% of the weights stay float16, such as model.layers.0.block_sparse_moe.experts." in warning
    model = loaded(result.output, dtype=torch.float32)
    assert isinstance(model.model.layers[0].self_attn.q_proj.weight, IntxUnpackedToInt8Tensor)
    assert torch.allclose(logits(model), logits(in_blocks_of_its_modules(source, "q4_0")), rtol=0, atol=1e-5)


def test_linear_modules_whose_weights_are_multiplied_directly_stay_plain(to_pytorch: Convert, tmp_path: Path) -> None:
    source = write_model(tmp_path / "source", "mamba", time_step_rank=32)
    model = loaded(to_pytorch(source, "q4_0"), dtype=torch.float32)
    mixer = model.backbone.layers[0].mixer
    assert isinstance(mixer.x_proj.weight, IntxUnpackedToInt8Tensor)
    assert type(mixer.dt_proj.weight) is torch.nn.Parameter
    assert torch.isfinite(logits(model)).all()


@pytest.mark.parametrize(("family", "name"), [("gpt2", "GPT2LMHeadModel"), ("falcon", "FalconForCausalLM")])
def test_a_model_without_linear_modules(family: str, name: str, tmp_path: Path) -> None:
    source = write_model(tmp_path / "source", family)
    line = refused(source, "q4_0", tmp_path)
    assert line == f"{source}: {name} has no linear module that q4_0 fits; use --method bf16, or --format gguf"


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "FLUSH_SECONDS", 0)
    monkeypatch.setattr("converter.plan.TILE_ELEMENTS", 1 << 16)

    def interrupt(at: converter.Progress) -> None:
        if at.stage == "write" and at.done > at.total // 2:
            raise KeyboardInterrupt

    def run(name: str, **choices: Any) -> converter.Result:
        output = tmp_path / name
        return converter.convert(
            SAMPLE, "q5_1", output, output_format="pytorch", split_max_size=2_000_000, catalogue="", **choices
        )

    with pytest.raises(KeyboardInterrupt):
        run("killed", progress=interrupt)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed.part", "killed.part.journal"]
    again, fresh = run("killed", verify="none"), run("fresh", verify="none")
    assert again.resumed
    assert not fresh.resumed
    assert {path.name for path in again.output.iterdir()} == {path.name for path in fresh.output.iterdir()}
    for path in fresh.output.iterdir():
        assert (again.output / path.name).read_bytes() == path.read_bytes()


def refused(model: Path, method: str, tmp_path: Path, *options: object, code: int = 1) -> str:
    output = tmp_path / "refused"
    line = refusal(
        "--model", model, "--method", method, "--format", "pytorch", "--output", output, "--verify", "none", *options,
        code=code,
    )  # fmt: skip
    assert not output.exists()
    return line


@pytest.mark.parametrize(("method", "nearest"), [("q4_k_m", "q4_0"), ("iq2_xs", "q4_0"), ("q6_k", "q8_0")])
def test_methods_of_other_formats(method: str, nearest: str, tmp_path: Path) -> None:
    assert refused(SAMPLE, method, tmp_path, code=2) == (
        f"--format pytorch has no method {method!r}; it has f32, f16, bf16, q4_0, q5_0, q8_0, q4_1, q5_1, "
        f"of which {nearest} is nearest; --format gguf has it"
    )


def test_choices_of_other_formats(tmp_path: Path) -> None:
    line = refused(SAMPLE, "q4_0", tmp_path, "--split-max-tensors", 5, code=2)
    assert line.startswith("--split-max-tensors has no meaning for --format ")


def test_a_gguf_as_the_source(tmp_path: Path) -> None:
    gguf = converter.convert(SAMPLE, "bf16", tmp_path / "model.gguf", verify="none", catalogue="").output
    assert refused(gguf, "f16", tmp_path) == (
        f"{gguf}: a GGUF lacks the configuration and the names that transformers needs; give the checkpoint that it "
        "was made from"
    )


def test_weights_too_large_for_float16(tmp_path: Path) -> None:
    source = write_model(tmp_path / "source", "llama")
    state = load_file(source / "model.safetensors")
    state["model.norm.weight"][3] = 70000.0
    save_file(state, source / "model.safetensors", {"format": "pt"})
    line = refused(source, "f16", tmp_path)
    assert line.startswith("model.norm.weight: 1 weights or scales exceed float16's largest number 65504")


def test_the_output_is_a_source_again(to_pytorch: Convert, tmp_path: Path) -> None:
    sources = {"again": to_pytorch(SAMPLE, "bf16"), "first": SAMPLE}
    tensors = []
    for name, source in sources.items():
        output = tmp_path / f"{name}.gguf"
        converter.convert(source, "q4_0", output, verify="none", catalogue="")
        tensors.append(llama_cpp_oracle.tensors(output))
    assert tensors[0] == tensors[1]


def test_quantized_output_as_a_source_is_refused_by_name(to_pytorch: Convert, tmp_path: Path) -> None:
    source = to_pytorch(SAMPLE, "q4_0")
    line = refusal("--model", source, "--method", "f16", "--output", tmp_path / "model.gguf", "--no-catalogue")
    assert line.startswith(f"{source / 'pytorch_model.bin'}: its pickle wants 'torch._utils._rebuild_wrapper_subclass'")
