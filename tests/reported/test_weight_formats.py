"""What lies where weights should be: read where everything that it takes is there, else named, with what to do."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import convert, refusal
from reported_weights import (
    WEIGHTS,
    State,
    assert_holds,
    configure,
    gptq,
    packed_down,
    projections,
    rewrite,
    saved,
    values,
)
from safetensors.torch import load_file

from converter.checkpoints import open_checkpoint


def refused(model: Path) -> str:
    return refusal("--model", model, "--method", "f32", "--output", model.parent / "refused.gguf")


# Adapters that nobody merged.


def test_a_peft_model_saved_whole(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    saved(tmp_path / "model")
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tmp_path / "model"), LoraConfig(r=4, target_modules=["q_proj", "v_proj"])
    )
    rewrite(tmp_path / "model", lambda _: model.state_dict())
    message = refused(tmp_path / "model")
    assert "is of a LoRA adapter that was not merged" in message
    assert "merge_and_unload()" in message
    assert "--adapter" in message


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("model.layers.0.self_attn.q_proj.lora_A.default.weight", "is of a LoRA adapter that was not merged"),
        ("model.layers.0.self_attn.q_proj.lora_A.weight", "is of a LoRA adapter that was not merged"),
        ("model.embed_tokens.lora_embedding_A.default", "is of a LoRA adapter that was not merged"),
        ("model.layers.0.self_attn.q_proj.lora_magnitude_vector.default.weight", "is of a LoRA adapter that was not"),
        ("model.layers.0.self_attn.q_proj.lora_a", "is of a LoRA adapter of MLX that was not merged"),
        ("model.layers.0.self_attn.q_proj.hada_w1_a.default", "is of an adapter that was not merged"),
        ("unet.down.lora_down.weight", "is of an adapter of a diffusion model"),
        ("model.layers.0.self_attn.q_proj.W_q", "is quantized with HQQ"),
        ("model.layers.0.self_attn.q_proj.q_weight", "is quantized for ExLlamaV2 (EXL2)"),
        ("model.layers.0.self_attn.q_proj.trellis", "is quantized for ExLlamaV3 (EXL3)"),
        ("model.layers.0.self_attn.q_proj.codebooks", "is quantized with AQLM"),
        ("model.layers.0.self_attn.q_proj.Qidxs", "is quantized with QuIP#"),
        ("model.layers.0.self_attn.q_proj.weight_scales", "is quantized with EETQ"),
        ("model.layers.0.self_attn.q_proj.weight._data._data", "is quantized by quanto to less than 8 bits"),
        ("model.layers.0._flat_param", "is what FSDP makes of a module's weights"),
    ],
)
def test_tensors_of_known_forms(tmp_path: Path, name: str, told: str) -> None:
    saved(tmp_path / "model")
    rewrite(tmp_path / "model", lambda state: {**state, name: torch.ones(4, 4)})
    message = refused(tmp_path / "model")
    assert f"tensor {name} {told}" in message


def test_weights_of_zero_3_that_nobody_gathered(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    empty = dict.fromkeys(("lm_head.weight", "model.embed_tokens.weight"), torch.zeros(0))
    rewrite(tmp_path / "model", lambda state: {**state, **empty})
    message = refused(tmp_path / "model")
    assert "tensor lm_head.weight (and 1 more) is empty, shape [0]: saved from DeepSpeed's ZeRO-3" in message
    assert "zero_to_fp32.py" in message


# Weights whose configuration lost what quantized them.


def assert_near(directory: Path, expected: State, told: str) -> None:
    with open_checkpoint(directory) as checkpoint:
        assert set(checkpoint.tensors) == set(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(values(checkpoint, name), value, rtol=1e-6, atol=1e-7, err_msg=name)
        assert any(told in notice for notice in checkpoint.notices)
    output = directory.parent / "x.gguf"
    outcome = convert("--model", directory, "--method", "q8_0", "--output", output, "--verify", "none", "--overwrite")
    assert outcome.code == 0, outcome.err
    assert told in outcome.err


def test_bitsandbytes_in_8_bits(tmp_path: Path) -> None:
    expected = saved(tmp_path / "model")

    def change(module: str, weight: torch.Tensor) -> State:
        absmax = weight.abs().amax(1)
        codes = (weight / absmax[:, None] * 127).round().to(torch.int8)
        expected[f"{module}.weight"] = codes * absmax[:, None] / 127
        return {
            f"{module}.weight": codes,
            f"{module}.SCB": absmax,
            f"{module}.weight_format": torch.zeros((), dtype=torch.uint8),
        }

    rewrite(tmp_path / "model", lambda state: projections(state, change))
    assert_near(tmp_path / "model", expected, "weights are read as bitsandbytes's")


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_bitsandbytes_in_4_bits(tmp_path: Path, kind: str) -> None:
    functional = pytest.importorskip("bitsandbytes.functional")
    expected = saved(tmp_path / "model")

    def change(module: str, weight: torch.Tensor) -> State:
        codes, state = functional.quantize_4bit(weight, quant_type=kind, compress_statistics=True)
        expected[f"{module}.weight"] = functional.dequantize_4bit(codes, state).reshape(weight.shape)
        packed = {f"{module}.weight.{name}": tensor for name, tensor in state.as_dict(packed=True).items()}
        return {f"{module}.weight": codes, **packed}

    rewrite(tmp_path / "model", lambda state: projections(state, change))
    assert_near(tmp_path / "model", expected, "weights are read as bitsandbytes's")
    rewrite(tmp_path / "model", lambda state: {k: v for k, v in state.items() if ".quant_state." not in k})
    assert "is of a checkpoint quantized with bitsandbytes, but config.json does not say how" in refused(
        tmp_path / "model"
    )


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn], ids=str)
def test_quanto(tmp_path: Path, dtype: torch.dtype) -> None:
    expected = saved(tmp_path / "model")
    largest = 127 if dtype == torch.int8 else 448

    def change(module: str, weight: torch.Tensor) -> State:
        scale = weight.abs().amax(1, keepdim=True) / largest
        codes = weight / scale
        codes = (codes.round() if dtype == torch.int8 else codes).to(dtype)
        expected[f"{module}.weight"] = codes.float() * scale
        name = f"{module}.weight"
        ones = {f"{module}.{side}_scale": torch.ones(()) for side in ("input", "output")}
        return {f"{name}._data": codes, f"{name}._scale": scale, **ones}

    rewrite(tmp_path / "model", lambda state: projections(state, change))
    (tmp_path / "model/quanto_qmap.json").write_text("{}")
    assert_near(tmp_path / "model", expected, "weights are read as quanto's")


AUTOGPTQ = {"bits": 4, "group_size": 32, "desc_act": False, "sym": True, "true_sequential": True}


@pytest.mark.parametrize("beside", [AUTOGPTQ, None], ids=["quantize_config.json", "nothing"])
def test_gptq(tmp_path: Path, beside: dict[str, object] | None) -> None:
    expected = saved(tmp_path / "model")

    def change(module: str, weight: torch.Tensor) -> State:
        tensors, expected[f"{module}.weight"] = gptq(module, weight)
        return tensors

    rewrite(tmp_path / "model", lambda state: projections(state, change))
    if beside is not None:
        (tmp_path / "model/quantize_config.json").write_text(json.dumps(beside))
    told = "quantize_config.json says" if beside else "the names and shapes of the tensors tell"
    assert_near(tmp_path / "model", expected, f"weights are read as gptq's, as {told}")


AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


@pytest.mark.parametrize(
    "beside", [{"zero_point": True, "q_group_size": 32, "w_bit": 4, "version": "GEMM"}, None], ids=str
)
def test_awq(tmp_path: Path, beside: dict[str, object] | None) -> None:
    expected = saved(tmp_path / "model")

    def across(codes: torch.Tensor) -> torch.Tensor:
        turned = codes.reshape(len(codes), -1, 8)[:, :, AWQ_ORDER].reshape(codes.shape)
        return packed_down(turned.T.contiguous()).T

    def change(module: str, weight: torch.Tensor) -> State:
        groups = weight.T.reshape(-1, 32, len(weight))
        low, high = groups.amin(1, keepdim=True), groups.amax(1, keepdim=True)
        scale = ((high - low) / 15).half().float()
        zeros = (-low / scale).round().clamp(0, 15)
        codes = (groups / scale + zeros).round().clamp(0, 15)
        expected[f"{module}.weight"] = ((codes - zeros) * scale).reshape(weight.shape[1], -1).T
        return {
            f"{module}.qweight": across(codes.reshape(-1, len(weight))),
            f"{module}.qzeros": across(zeros[:, 0]),
            f"{module}.scales": scale[:, 0].half(),
        }

    rewrite(tmp_path / "model", lambda state: projections(state, change))
    if beside is not None:
        (tmp_path / "model/quant_config.json").write_text(json.dumps(beside))
    assert_near(tmp_path / "model", expected, "weights are read as awq's")


def test_fp8(tmp_path: Path) -> None:
    expected = saved(tmp_path / "model")

    def change(module: str, weight: torch.Tensor) -> State:
        scale = weight.abs().amax() / 448
        codes = (weight / scale).to(torch.float8_e4m3fn)
        expected[f"{module}.weight"] = codes.float() * scale
        return {f"{module}.weight": codes, f"{module}.weight_scale": scale}

    rewrite(tmp_path / "model", lambda state: projections(state, change))
    assert_near(tmp_path / "model", expected, "weights are read as fp8's")


def test_compressed_tensors(tmp_path: Path) -> None:
    expected = saved(tmp_path / "model")

    def change(module: str, weight: torch.Tensor) -> State:
        groups = weight.reshape(len(weight), -1, 32)
        scale = groups.abs().amax(2) / 7
        codes = (groups / scale[..., None]).round().clamp(-8, 7)
        expected[f"{module}.weight"] = (codes * scale[..., None]).reshape(weight.shape)
        return {
            f"{module}.weight_packed": packed_down((codes + 8).reshape(weight.shape).T.contiguous()).T,
            f"{module}.weight_scale": scale,
            f"{module}.weight_shape": torch.tensor(weight.shape),
        }

    rewrite(tmp_path / "model", lambda state: projections(state, change))
    assert_near(tmp_path / "model", expected, "weights are read as compressed-tensors's")


def test_a_configuration_of_another_method(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    rewrite(tmp_path / "model", lambda state: projections(state, lambda module, weight: gptq(module, weight)[0]))
    configure(tmp_path / "model", quantization_config={"load_in_4bit": True, "quant_method": "bitsandbytes"})
    assert "quantization_config says bitsandbytes, but there are tensors as gptq stores them" in refused(
        tmp_path / "model"
    )


# Files that are something else.


def archive(kind: str) -> bytes:
    stream = io.BytesIO()
    if kind == "tar":
        with tarfile.open(fileobj=stream, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("model/model.safetensors"))
    else:
        with zipfile.ZipFile(stream, "w") as file:
            file.writestr("model/model.safetensors", "x" * 100)
    return stream.getvalue()


def pickled() -> bytes:
    stream = io.BytesIO()
    torch.save({"a": torch.ones(2)}, stream)
    return stream.getvalue()


CONTENTS: dict[str, tuple[bytes, str]] = {
    "a login page": (b"<!doctype html><html><body>Access to this model is restricted.</body></html>" * 4,
                     "is an HTML page, a login or an error, not the file itself"),
    "a page after a mark and spaces": (b"\xef\xbb\xbf\r\n  <HTML><HEAD>" + b"x" * 90, "is an HTML page"),
    "an answer of S3": (b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code></Error>',
                        "is an XML answer of a store (AccessDenied)"),
    "an error in JSON": (b'{"error":"Repository not found"}', "is JSON ('Repository not found')"),
    "another": (b'{\n  "message": "Invalid credentials"\n}\n', "is JSON ('Invalid credentials')"),
    "words": (b"Invalid username or password.", "is a text ('Invalid username or password.')"),
    "more words": (b"Entry not found", "is a text ('Entry not found')"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 99\n", "is a Git LFS pointer"),
    "zeros": (bytes(5000), "begins with zeros: a download that did not finish"),
    "nothing": (b"", "is empty; download it again"),
    "a zip archive": (archive("zip"), "is a zip archive"),
    "a tar archive": (archive("tar"), "is"),
    "gzip": (b"\x1f\x8b\x08" + bytes(100), "is a compressed archive"),
    "a GGUF": (b"GGUF\x03\0\0\0" + bytes(100), "is a GGUF file; name it .gguf"),
    "GGML": (b"tjgg" + bytes(100), "is a GGML file from before GGUF"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "is an HDF5 file of Keras or TensorFlow"),
}  # fmt: skip


@pytest.mark.parametrize("name", [WEIGHTS, "pytorch_model.bin"])
@pytest.mark.parametrize("content", CONTENTS)
def test_contents_that_are_no_weights(tmp_path: Path, content: str, name: str) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    written, told = CONTENTS[content]
    (tmp_path / "model" / name).write_bytes(written)
    assert f"{name}: {told}" in refused(tmp_path / "model")


@pytest.mark.parametrize("content", ["a login page", "an answer of S3", "words", "nothing"])
@pytest.mark.parametrize("name", ["config.json", f"{WEIGHTS}.index.json"])
def test_the_same_in_place_of_json(tmp_path: Path, content: str, name: str) -> None:
    saved(tmp_path / "model")
    written, told = CONTENTS[content]
    (tmp_path / "model" / name).write_bytes(written)
    assert f"{name}: {told}" in refused(tmp_path / "model")


def test_weights_under_the_name_of_the_other_format(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    (tmp_path / "model" / WEIGHTS).rename(tmp_path / "model/pytorch_model.bin")
    assert refused(tmp_path / "model").endswith("pytorch_model.bin: is a safetensors file; name it model.safetensors")
    (tmp_path / "model/pytorch_model.bin").unlink()
    (tmp_path / "model" / WEIGHTS).write_bytes(pickled())
    assert refused(tmp_path / "model").endswith("is a file of torch.save; name it pytorch_model.bin")


# Directories.

DIRECTORIES: dict[str, tuple[tuple[str, ...], str]] = {
    "DeepSpeed": (
        ("global_step10/mp_rank_00_model_states.pt", "latest"),
        "global_step10 belongs to a checkpoint of DeepSp",
    ),
    "DeepSpeed with its tool": (("zero_to_fp32.py", "latest"), "python zero_to_fp32.py . OUTPUT"),
    "inside of DeepSpeed's": (
        ("zero_pp_rank_0_mp_rank_00_optim_states.pt", "mp_rank_00_model_states.pt"),
        "of DeepSpeed",
    ),
    "torch.distributed": ((".metadata", "__0_0.distcp", "__1_0.distcp"), "dcp_to_torch"),
    "accelerate": (("pytorch_model_fsdp_0/.metadata", "pytorch_model_fsdp_0/__0_0.distcp"), "accelerate merge-weights"),
    "Megatron": (("latest_checkpointed_iteration.txt", "iter_0000010/mp_rank_00/model_optim_rng.pt"), "of Megatron"),
    "FSDP": (("model_rank0.pt", "model_rank1.pt"), "is a shard of FSDP"),
    "TensorFlow": (("tf_model.h5",), "tf_model.h5 holds weights of TensorFlow"),
    "Flax": (("flax_model.msgpack",), "flax_model.msgpack holds weights of Flax"),
    "ONNX": (("model.onnx", "model.onnx_data"), "model.onnx is an ONNX model"),
    "ONNX below": (("onnx/model_q4.onnx",), "onnx/model_q4.onnx is an ONNX model"),
    "OpenVINO": (("openvino_model.bin", "openvino_model.xml"), "is an OpenVINO model"),
    "diffusers": (("model_index.json", "unet/config.json", "vae/config.json"), "belongs to a diffusion model"),
    "MLC": (("ndarray-cache.json", "params_shard_0.bin"), "belongs to a model of MLC"),
    "NeMo": (("model.nemo",), "is an archive of NeMo"),
    "an adapter of PEFT": (("adapter_config.json", "adapter_model.safetensors"), "is an adapter without its model"),
    "an unfinished download": (("model.safetensors.incomplete",), "is a download that did not finish"),
    "an archive": (("model.tar.gz",), "is an archive; unpack it"),
}


@pytest.mark.parametrize("kind", DIRECTORIES)
def test_directories_of_something_else(tmp_path: Path, kind: str) -> None:
    names, told = DIRECTORIES[kind]
    for name in ("config.json", *names):
        path = tmp_path / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    message = refused(tmp_path / "model")
    assert message.startswith(f"{tmp_path / 'model'}: holds no weights that are read: ")
    assert told in message


def test_a_whole_model_of_transformers_beside_others(tmp_path: Path) -> None:
    """What else lies there doesn't matter where there are weights."""
    expected = saved(tmp_path / "model")
    for name in (
        "tf_model.h5",
        "flax_model.msgpack",
        "zero_to_fp32.py",
        "adapters.safetensors",
        "quantize_config.json",
    ):
        (tmp_path / "model" / name).write_text("{}")
    assert_holds(tmp_path / "model", expected)


def test_a_diffusion_model_with_weights_at_the_top(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    (tmp_path / "model/config.json").unlink()
    (tmp_path / "model/model_index.json").write_text("{}")
    message = refused(tmp_path / "model")
    assert "diffusion model" in message
    assert "model_index.json" in message


# An adapter in the model's own directory.


def test_an_adapter_beside_a_model_is_told_of(tmp_path: Path) -> None:
    from lora_builder import write_adapter

    expected = saved(tmp_path / "model")
    write_adapter(tmp_path / "model", tmp_path / "model", target_modules=["q_proj"])
    told = assert_holds(tmp_path / "model", expected).notices
    assert len(told) == 1
    assert "adapter_config.json is of an adapter beside the model, which transformers would load" in told[0]
    assert f"pass --adapter {tmp_path / 'model'} to merge it, or remove it" in told[0]
    outcome = convert(
        "--model", tmp_path / "model", "--method", "f32", "--output", tmp_path / "x.gguf", "--verify", "none"
    )
    assert outcome.code == 0
    assert told[0] in outcome.err


def test_the_same_adapter_merged(tmp_path: Path) -> None:
    from lora_builder import compare, merged, write_adapter

    from converter.adapters import adapt

    saved(tmp_path / "plain")
    saved(tmp_path / "model")
    write_adapter(tmp_path / "plain", tmp_path / "adapter", target_modules=["q_proj"])
    for path in (tmp_path / "adapter").iterdir():
        path.rename(tmp_path / "model" / path.name)
    with open_checkpoint(tmp_path / "model") as checkpoint:
        assert checkpoint.notices
        found = adapt(checkpoint, [tmp_path / "model"])
        assert found.notices == ()
        compare(found, merged(tmp_path / "plain", tmp_path / "model"))


def test_it_is_not_blamed_by_a_full_verification(tmp_path: Path) -> None:
    from lora_builder import write_adapter

    saved(tmp_path / "model")
    write_adapter(tmp_path / "model", tmp_path / "model", target_modules=["q_proj"])
    outcome = convert(
        "--model", tmp_path / "model", "--method", "f32", "--output", tmp_path / "x.gguf", "--verify", "full"
    )
    assert outcome.code == 0, outcome.err
    assert "faithful" in outcome.out
    assert load_file(tmp_path / "model" / WEIGHTS)


def test_the_same_in_place_of_a_gguf(tmp_path: Path) -> None:
    for content in ("a login page", "words", "an answer of S3"):
        written, told = CONTENTS[content]
        (tmp_path / "model.gguf").write_bytes(written)
        assert f"model.gguf: {told}" in refusal(
            "--model", tmp_path / "model.gguf", "--method", "q8_0", "--output", tmp_path / "x.gguf"
        )


def test_a_repository_of_another_program() -> None:
    from converter.errors import CheckpointError
    from converter.sources.selection import weight_files

    with pytest.raises(CheckpointError, match=r"lab/x: holds no weights that are read: tf_model\.h5 holds weights"):
        weight_files(["config.json", "tf_model.h5"], lambda _: [], "lab/x")
    with pytest.raises(CheckpointError, match=r"onnx/model\.onnx is an ONNX model"):
        weight_files(["config.json", "onnx/model.onnx"], lambda _: [], "lab/x")
    assert weight_files(["0000100_adapters.safetensors", "adapters.safetensors"], lambda _: [], "lab/x") == [
        "adapters.safetensors"
    ]
