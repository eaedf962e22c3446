"""``convert`` with models that lie elsewhere: the same bytes as from the directory here."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import convert, refusal
from hub_server import HubServer
from lora_builder import write_adapter
from s3_server import Bucket

from converter.sources import hub_ranges, read_ahead

SAMPLE = Path(__file__).parent.parent / "fixtures" / "sample"
STREAMED = 300_000
"""Bytes that a streamed conversion may store: the small files."""


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What the local directory becomes."""
    output = tmp_path_factory.mktemp("local") / "sample-q4_0.gguf"
    made = convert("--quiet", "--no-catalogue", "--model", SAMPLE, "--method", "q4_0", "--output", output)
    assert made.code == 0, made
    return output.read_bytes()


def converted(model: str, output: Path, *options: object) -> bytes:
    made = convert("--quiet", "--no-catalogue", "--model", model, "--method", "q4_0", "--output", output, *options)
    assert made.code == 0, made
    return output.read_bytes()


def test_a_hub_id_in_a_process_of_its_own(hub: HubServer, tmp_path: Path, expected: bytes) -> None:
    commit = hub.add("lab/sample", SAMPLE, private=True).commit
    environment = {**os.environ, **hub.environment(tmp_path / "home", "hf_reader")}
    command = [sys.executable, "-m", "converter", "--model", f"lab/sample@{commit}", "--method", "q4_0"]

    def run(output: str, **settings: str) -> bytes:
        made = subprocess.run(
            [*command, "--output", output, "--no-catalogue", "--verify", "none"],
            cwd=tmp_path, env={**environment, **settings}, check=False, capture_output=True, text=True,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        assert "HTTP" not in made.stderr
        return (tmp_path / output).read_bytes()

    assert run("out.gguf") == expected
    asked = hub.asked("hub", "GET", "lab/sample")
    assert all(request.headers["authorization"] == "Bearer hf_reader" for request in asked)
    hub.requests.clear()
    assert run("again.gguf", HF_HUB_OFFLINE="1") == expected
    assert not hub.requests


def test_a_stream(hub: HubServer, tmp_path: Path, expected: bytes) -> None:
    hub.add("lab/sample", SAMPLE)
    hub.faults.drop_after["model.safetensors"] = [100_000, 1_000_000]
    assert converted("lab/sample", tmp_path / "out.gguf", "--stream") == expected
    stored = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*") if not path.is_symlink())
    assert stored < STREAMED


def test_a_gguf_file_of_the_hub(hub: HubServer, tmp_path: Path) -> None:
    whole = tmp_path / "sample-f16.gguf"
    assert convert("--quiet", "--no-catalogue", "--model", SAMPLE, "--method", "f16", "--output", whole).code == 0
    hub.add("lab/sample-GGUF", {whole.name: whole.read_bytes()})
    here = converted(str(whole), tmp_path / "here.gguf")
    assert converted("lab/sample-GGUF/sample-f16.gguf", tmp_path / "hub.gguf") == here
    assert converted("hf://lab/sample-GGUF:f16", tmp_path / "stream.gguf", "--stream") == here


def test_a_bucket(bucket: Bucket, tmp_path: Path, expected: bytes) -> None:
    bucket.put("models/sample", SAMPLE)
    assert converted(f"s3://{bucket.name}/models/sample", tmp_path / "out.gguf") == expected


def test_adapters_of_a_bucket_and_of_the_hub(hub: HubServer, bucket: Bucket, tmp_path: Path) -> None:
    adapter = write_adapter(SAMPLE, tmp_path / "lora")
    here = converted(str(SAMPLE), tmp_path / "here.gguf", "--adapter", adapter)
    bucket.put("lora", adapter)
    hub.add("lab/lora", adapter)
    for name in (f"s3://{bucket.name}/lora", "lab/lora"):
        assert converted(str(SAMPLE), tmp_path / "there.gguf", "--adapter", name, "--overwrite") == here


def test_a_tokenizer_of_the_hub(hub: HubServer, tmp_path: Path, expected: bytes) -> None:
    hub.add("lab/words", {path.name: path.read_bytes() for path in SAMPLE.iterdir() if path.suffix != ".safetensors"})
    model = tmp_path / "sample"
    model.mkdir()
    for name in ("config.json", "generation_config.json", "model.safetensors", "README.md"):
        (model / name).write_bytes((SAMPLE / name).read_bytes())
    assert converted(str(model), tmp_path / "out.gguf", "--tokenizer", "lab/words") == expected


def test_refusals(hub: HubServer, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hub.add("lab/gated", SAMPLE, gated=True)

    def told(model: str, *options: str, code: int = 1) -> str:
        return refusal("--no-catalogue", "--model", model, "--method", "q4_0", *options, code=code)

    assert told("lab/missing").startswith("lab/missing: no such directory here and no such model at ")
    assert told("lab/gated").startswith("lab/gated: its authors restrict access; accept their conditions at ")
    assert told("lab/gated", "--stream").startswith("lab/gated: its authors restrict access")
    assert told(f"s3://{bucket.name}/nothing").endswith("no such bucket, file or directory; check the address")
    assert told(str(SAMPLE), "--stream", code=2).endswith("lies on this machine already; remove --stream")
    assert not [path for path in tmp_path.iterdir() if path.name != "cache"]


def test_from_bucket_to_bucket(
    bucket: Bucket, tmp_path: Path, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    bucket.put("models/sample", SAMPLE)
    address = f"s3://{bucket.name}"
    for output in (f"{address}/made/mine.gguf", f"{address}/made/"):
        made = convert(
            "--quiet", "--model", f"{address}/models/sample", "--method", "q4_0", "--output", output, "--verify", "none"
        )
        assert made.code == 0, made
    assert [name for name in bucket.names() if name.startswith("made/")] == ["made/mine.gguf", "made/sample-q4_0.gguf"]
    assert bucket.content("made/mine.gguf") == bucket.content("made/sample-q4_0.gguf") == expected
    assert not list(tmp_path.iterdir())


def test_a_directory_to_a_bucket(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    options = ("--quiet", "--no-catalogue", "--model", SAMPLE, "--method", "q8_0", "--format", "safetensors")
    options = (*options, "--verify", "none")
    assert convert(*options, "--output", tmp_path / "here").code == 0
    assert convert(*options, "--output", f"s3://{bucket.name}/there").code == 0
    here = {
        path.relative_to(tmp_path / "here").as_posix(): path.read_bytes() for path in (tmp_path / "here").rglob("*")
    }
    there = {name.removeprefix("there/"): bucket.content(name) for name in bucket.names()}
    assert there == here
    assert "model.safetensors" in there


def test_outputs_that_cannot_be_written(bucket: Bucket, hub: HubServer, tmp_path: Path) -> None:
    bucket.put("made", {"mine.gguf": b"old"})

    def told(*options: object) -> str:
        return refusal("--no-catalogue", "--model", SAMPLE, "--method", "q4_0", *options)

    address = f"s3://{bucket.name}/made/mine.gguf"
    assert told("--output", address).startswith(f"{address}: exists already; pass --overwrite")
    assert told("--output", "s3://no-such-bucket-of-ours/x.gguf").endswith(
        "no such bucket, file or directory; check the address"
    )
    assert bucket.content("made/mine.gguf") == b"old"
    output = tmp_path / "x.gguf"
    message = told("--output", output, "--push-to-hub", "lab/x")
    assert message.startswith("lab/x: there is no token to write with; set HF_TOKEN")
    assert not output.exists()


def test_an_upload_to_the_hub(hub: HubServer, tmp_path: Path, expected: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = hub.add("lab/sample", SAMPLE).commit
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    converted("lab/sample", tmp_path / "sample-q4_0.gguf", "--push-to-hub", "lab/sample-GGUF", "--modelfile")
    files = hub.repositories["lab/sample-GGUF"].files
    assert files.keys() == {"README.md", "sample-q4_0.gguf", "sample-q4_0.Modelfile"}
    assert files["sample-q4_0.gguf"] == expected
    card = files["README.md"].decode()
    assert "base_model: lab/sample\n" in card
    assert "license_name: psf-2.0\n" in card
    assert f"at commit `{commit[:12]}`" in card
    assert hashlib.sha256(expected).hexdigest() in card
    again = "hf://lab/sample-GGUF/again.gguf"
    assert convert("--quiet", "--model", SAMPLE, "--method", "q4_0", "--output", again).code == 0
    assert files["again.gguf"] == expected


def test_a_stream_that_broke_off_goes_on(
    hub: HubServer, tmp_path: Path, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_ahead, "CHUNK", 200_000)
    monkeypatch.setattr(hub_ranges, "ATTEMPTS", 2)
    hub.add("lab/sample", SAMPLE)
    hub.faults.dies_after = 20
    command = (
        "--no-catalogue",
        "--model",
        "lab/sample",
        "--stream",
        "--method",
        "q4_0",
        "--output",
        tmp_path / "o.gguf",
    )
    message = refusal(*command)
    assert "cannot be reached" in message
    assert message.endswith("run the same command to go on")
    hub.faults.dies_after = None
    hub.requests.clear()
    assert converted("lab/sample", tmp_path / "o.gguf", "--stream") == expected
    assert len(hub.asked("storage", "GET")) < 20
