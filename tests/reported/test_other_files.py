"""Files and directories that are something else than weights, and an adapter beside them: named, with what to do."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from command_line import convert, refusal
from reported_weights import (
    WEIGHTS,
    assert_holds,
    refused,
    saved,
)
from safetensors.torch import load_file

from converter.checkpoints import open_checkpoint

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
