"""Models in object stores, with a real S3 server on loopback."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hub_server import HubServer
from s3_server import Bucket

from converter.checkpoints import open_checkpoint
from converter.errors import CheckpointError, UsageError
from converter.sources import open_source

SAMPLE = Path(__file__).parent.parent / "fixtures" / "sample"


def refused(model: str) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_source(model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_checkpoint_in_a_bucket(bucket: Bucket) -> None:
    bucket.put("models/sample", SAMPLE)
    with open_source(f"s3://{bucket.name}/models/sample/") as source:
        assert source.origin == f"s3://{bucket.name}/models/sample"
        assert (source.name, source.path.name) == ("sample", "sample")
        assert (source.path / "tokenizer.json").read_bytes() == (SAMPLE / "tokenizer.json").read_bytes()
        assert not (source.path / "model.safetensors").exists()
        with open_checkpoint(source.path, source.elsewhere) as found, open_checkpoint(SAMPLE) as expected:
            assert found.config == expected.config
            for name, tensor in expected.tensors.items():
                assert np.array_equal(found.tensors[name].read_rows(0, tensor.rows), tensor.read_rows(0, tensor.rows))
        first = found.files
    assert not source.path.exists()
    with open_source(f"s3://{bucket.name}/models/sample") as source:
        # The same files bear the same names in another run, so that an interrupted one can go on.
        assert open_checkpoint(source.path, source.elsewhere).files == first


def test_shards_and_directories(bucket: Bucket) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    files = {
        "config.json": b"{}",
        "model.safetensors.index.json": json.dumps(index).encode(),
        "model-00001-of-00002.safetensors": b"1",
        "model-00002-of-00002.safetensors": b"2",
        "pytorch_model.bin": b"3",
        "1_Pooling/config.json": b"{}",
        "onnx/model.onnx": b"4",
    }
    bucket.put("sharded", files)
    with open_source(f"s3://{bucket.name}/sharded") as source:
        assert {name for name in source.elsewhere if name.startswith("model")} == set(index["weight_map"].values())
        assert source.elsewhere["model-00002-of-00002.safetensors"].read_bytes(0, 1) == b"2"
        assert (source.path / "1_Pooling" / "config.json").exists()
        assert not (source.path / "onnx").exists()


def test_a_gguf_file(bucket: Bucket) -> None:
    content = np.random.default_rng(0).bytes(9_000_000)
    bucket.put("files", {"m-00001-of-00002.gguf": content, "m-00002-of-00002.gguf": b"second", "other.gguf": b"x"})
    with open_source(f"s3://{bucket.name}/files/m-00001-of-00002.gguf") as source:
        assert (source.name, source.path.name) == ("m", "m-00001-of-00002.gguf")
        assert source.elsewhere.keys() == {"m-00001-of-00002.gguf", "m-00002-of-00002.gguf"}
        assert source.elsewhere["m-00001-of-00002.gguf"].read_bytes(100, 8_000_000) == content[100:8_000_100]


def test_a_gguf_file_of_a_web_server(hub: HubServer) -> None:
    content = np.random.default_rng(0).bytes(9_000_000)
    hub.add("some/where", {"m.gguf": content})
    with open_source(f"{hub.storage}/some/where/m.gguf") as source:
        assert source.name == "m"
        assert source.elsewhere["m.gguf"].read_bytes(100, 8_000_000) == content[100:8_000_100]


def test_a_split_file_with_a_part_missing(bucket: Bucket) -> None:
    bucket.put("files", {"m-00001-of-00002.gguf": b"1"})
    assert "no such bucket, file or directory" in refused(f"s3://{bucket.name}/files/m-00001-of-00002.gguf")


def test_an_adapter_is_copied(bucket: Bucket) -> None:
    bucket.put("adapter", {"adapter_config.json": b"{}", "adapter_model.safetensors": b"lora"})
    with open_source(f"s3://{bucket.name}/adapter") as source:
        assert (source.path / "adapter_config.json").read_bytes() == b"{}"
        assert (source.path / "adapter_model.safetensors").read_bytes() == b"lora"
        assert not source.elsewhere


def test_a_file_that_changed(bucket: Bucket) -> None:
    bucket.put("changing", {"model.gguf": b"a" * 5_000_000})
    with open_source(f"s3://{bucket.name}/changing/model.gguf") as source:
        file = source.elsewhere["model.gguf"]
        assert file.read_bytes(0, 4) == b"aaaa"
        bucket.put("changing", {"model.gguf": b"b" * 5_000_000})
        with pytest.raises(CheckpointError, match="changed since the conversion began; run the same command again"):
            file.read_bytes(4_900_000, 4)


def test_what_is_not_there(bucket: Bucket) -> None:
    bucket.put("models/sample", {"config.json": b"{}", "model.txt": b"x"})
    for address in (f"s3://{bucket.name}/models/missing", "s3://no-such-bucket-of-ours/models"):
        assert refused(address) == f"{address}: no such bucket, file or directory; check the address"
    address = f"s3://{bucket.name}/models/sample"
    assert refused(address).startswith(f"{address}: holds no weights; expected *.safetensors")
    address = f"s3://{bucket.name}/models/sample/config.json"
    assert refused(address) == f"{address}: is a file; expected a .gguf file or the directory of a checkpoint"


def test_nothing_is_left_after_a_refusal(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put("models/sample", {"config.json": b"{}"})
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    refused(f"s3://{bucket.name}/models/sample")
    assert not list(tmp_path.iterdir())


def test_no_credentials(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    message = refused(f"s3://{bucket.name}/models/sample")
    assert "redentials" in message
    assert "check the address, the credentials and the network" in message or "check the credentials" in message


def test_nobody_answers(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    message = refused(f"s3://{bucket.name}/models/sample")
    assert message.endswith("check the address, the credentials and the network")


def test_a_driver_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    message = refused("gs://bucket/model")
    assert message.startswith("gs://bucket/model: the driver of gs:// is not installed; pip install gcsfs")


def test_an_unknown_scheme() -> None:
    assert refused("gopher://host/model") == (
        "gopher://host/model: gopher:// is not known; expected s3://, gs://, hf:// or another scheme of fsspec"
    )


def test_addresses_of_this_machine(tmp_path: Path) -> None:
    source = open_source(f"file://{SAMPLE}")
    assert source.path == SAMPLE
    assert source.origin == str(SAMPLE)
    with pytest.raises(UsageError, match="names a file of the machine elsewhere; expected file:///path"):
        open_source("file://elsewhere/model")
    with pytest.raises(UsageError, match="expected hf://organization/name"):
        open_source("hf://only-a-name")
