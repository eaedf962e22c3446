"""Models of the Hub: what is downloaded, how often, and what is said when it cannot be."""

from __future__ import annotations

import json
import socket
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from hub_server import HubServer
from huggingface_hub import constants

from converter.checkpoints import open_checkpoint
from converter.errors import CheckpointError
from converter.sources import hub as hub_module
from converter.sources import open_source

SAMPLE = Path(__file__).parent.parent / "fixtures" / "sample"


def refused(model: str, **choices: bool) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_source(model, **choices)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_model_is_downloaded_into_the_shared_cache(hub: HubServer, tmp_path: Path) -> None:
    repository = hub.add("lab/sample", SAMPLE)
    told: list[tuple[str, int, int]] = []
    with open_source("lab/sample", progress=lambda *step: told.append(step)) as source:
        assert source.origin == f"hub:lab/sample@{repository.commit}"
        assert source.name == "sample"
        assert not source.elsewhere
        assert source.path == tmp_path / "cache" / "models--lab--sample" / "snapshots" / repository.commit
        for name in ("model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja", "README.md"):
            assert (source.path / name).read_bytes() == (SAMPLE / name).read_bytes()
        assert not (source.path / "heldout.txt").exists()
    weights = [step for step in told if step[0] == "model.safetensors"]
    assert weights[-1][1:] == (5775952, 5775952)


def test_a_cached_model_is_not_downloaded_again(hub: HubServer) -> None:
    hub.add("lab/sample", SAMPLE)
    open_source("lab/sample")
    hub.requests.clear()
    open_source("lab/sample")
    assert not hub.asked("storage", "GET")
    assert not [request for request in hub.asked("hub", "GET") if "/resolve/" in request.path]


def test_a_revision_is_pinned_to_its_commit(hub: HubServer) -> None:
    first = hub.add("lab/sample", SAMPLE).commit
    files = {path.name: path.read_bytes() for path in SAMPLE.iterdir()}
    second = hub.add("lab/sample", files | {"README.md": b"# Another\n"}).commit
    source = open_source(f"hf://lab/sample@{second}")
    assert source.origin == f"hub:lab/sample@{second}"
    assert (source.path / "README.md").read_bytes() == b"# Another\n"
    message = refused(f"lab/sample@{first}")
    assert message.startswith(f"lab/sample@{first}: has no revision {first}; its branches and tags are listed at http")


@pytest.mark.parametrize(
    "model",
    ["https://huggingface.co/lab/sample", "https://huggingface.co/lab/sample/tree/main", "hf://lab/sample@main"],
)
def test_other_spellings(hub: HubServer, model: str) -> None:
    commit = hub.add("lab/sample", SAMPLE).commit
    assert open_source(model, weights=False).origin == f"hub:lab/sample@{commit}"


def test_small_files_only(hub: HubServer) -> None:
    hub.add("lab/sample", SAMPLE)
    source = open_source("lab/sample", weights=False)
    assert (source.path / "tokenizer.json").exists()
    assert not (source.path / "model.safetensors").exists()
    assert not hub.asked("storage", "GET")


def test_one_set_of_weights(hub: HubServer) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    wanted = {
        "config.json": b"{}",
        "model.safetensors.index.json": json.dumps(index).encode(),
        "model-00001-of-00002.safetensors": b"1",
        "model-00002-of-00002.safetensors": b"2",
        "tokenizer.model": b"t",
        "1_Pooling/config.json": b"{}",
        "additional_chat_templates/tool_use.jinja": b"x",
    }
    others = {
        "pytorch_model.bin": b"3",
        "pytorch_model.bin.index.json": b"{}",
        "consolidated.safetensors": b"4",
        "onnx/model.onnx": b"5",
        "original/consolidated.00.pth": b"6",
        "original/params.json": b"{}",
        "tf_model.h5": b"7",
        "flax_model.msgpack": b"8",
        "model.fp16.safetensors": b"9",
        "training_args.bin": b"0",
    }
    hub.add("lab/everything", wanted | others)
    path = open_source("lab/everything").path
    found = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
    assert found == set(wanted)


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        (("pytorch_model.bin", "training_args.bin", "tf_model.h5"), ["pytorch_model.bin"]),
        (("pytorch_model-00001-of-00001.bin", "model.onnx"), ["pytorch_model-00001-of-00001.bin"]),
        (("consolidated.00.pth", "consolidated.01.pth"), ["consolidated.00.pth", "consolidated.01.pth"]),
        (("adapter_model.safetensors", "optimizer.pt"), ["adapter_model.safetensors"]),
    ],
)
def test_other_kinds_of_weights(hub: HubServer, files: tuple[str, ...], wanted: list[str]) -> None:
    hub.add("lab/other", dict.fromkeys((*files, "config.json"), b"w"))
    path = open_source("lab/other").path
    assert sorted(file.name for file in path.iterdir()) == sorted([*wanted, "config.json"])


def test_a_dropped_connection_is_taken_up_where_it_broke(hub: HubServer) -> None:
    content = np.random.default_rng(0).bytes(24_000_000)  # the client writes pieces of 10 MiB
    hub.add("lab/large", {"config.json": b"{}", "pytorch_model.bin": content})
    hub.faults.drop_after["pytorch_model.bin"] = [12_000_000]
    told: list[int] = []
    source = open_source("lab/large", progress=lambda item, done, total: told.append(done))
    assert (source.path / "pytorch_model.bin").read_bytes() == content
    ranges = [request.headers.get("range") for request in hub.asked("storage", "GET")]
    assert ranges == [None, f"bytes={10 << 20}-"]
    assert told[-1] == len(content)


def test_the_token_goes_to_the_hub_and_nowhere_else(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("lab/sample", SAMPLE, private=True)
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    open_source("lab/sample")
    asked = hub.asked("hub", "GET", "lab/sample")
    assert all(request.headers["authorization"] == "Bearer hf_reader" for request in asked)
    assert hub.asked("storage", "GET")
    assert all("authorization" not in request.headers for request in hub.asked("storage", "GET"))


def test_a_limit_is_waited_for(hub: HubServer) -> None:
    hub.add("lab/sample", SAMPLE)
    hub.faults.limited = 2
    assert open_source("lab/sample", weights=False).name == "sample"


def test_a_long_limit_is_told(hub: HubServer) -> None:
    hub.add("lab/sample", SAMPLE)
    hub.faults.limited, hub.faults.retry_after = 1, "3600"
    assert refused("lab/sample") == (
        "lab/sample: the Hub limits how much may be asked for (429); wait some minutes, or set HF_TOKEN for a higher "
        "limit"
    )


def test_offline_with_a_copy(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = hub.add("lab/sample", SAMPLE).commit
    open_source("lab/sample")
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    source = open_source("lab/sample")
    assert source.origin == f"hub:lab/sample@{commit}"
    assert (source.path / "model.safetensors").exists()
    assert not hub.requests
    message = refused("lab/sample", stream=True)
    assert message == "lab/sample: the Hub cannot be reached, which --stream reads from; check the network"


def test_offline_with_the_small_files_only(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("lab/sample", SAMPLE)
    open_source("lab/sample", weights=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert open_source("lab/sample", weights=False).name == "sample"
    message = refused("lab/sample")
    assert "holds only a part of it; unset HF_HUB_OFFLINE or check the network" in message


def test_offline_without_a_copy(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    message = refused("lab/sample")
    assert message.startswith("lab/sample (no such directory here): is not in the cache")
    assert "HF_HUB_OFFLINE" in message
    assert refused("hf://lab/sample").startswith("hf://lab/sample: is not in the cache")


def test_no_network(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    message = refused("lab/sample")
    assert message.startswith(f"lab/sample (no such directory here): {endpoint} cannot be reached (")
    assert message.endswith("check the network, or HF_ENDPOINT")


def test_the_cache_serves_while_the_hub_is_down(hub: HubServer) -> None:
    hub.add("lab/sample", SAMPLE)
    open_source("lab/sample")
    hub.faults.down = 100
    assert (open_source("lab/sample").path / "model.safetensors").exists()
    assert refused("lab/other") == (
        "lab/other (no such directory here): the Hub answers with an error (503); try again later"
    )


@pytest.mark.parametrize("token", ["", "hf_reader"])
def test_a_missing_model(hub: HubServer, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    assert refused("lab/missing") == (
        f"lab/missing: no such directory here and no such model at {hub.endpoint}; check the spelling, and set "
        "HF_TOKEN if it is a private one"
    )


@pytest.mark.parametrize("token", ["", "hf_reader"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_gated_model(hub: HubServer, monkeypatch: pytest.MonkeyPatch, token: str, stream: bool) -> None:
    hub.add("lab/gated", SAMPLE, gated=True)
    monkeypatch.setenv("HF_TOKEN", token)
    assert refused("lab/gated", stream=stream) == (
        f"lab/gated: its authors restrict access; accept their conditions at {hub.endpoint}/lab/gated and set HF_TOKEN "
        "to a token of yours"
    )


def test_a_wrong_token(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("lab/sample", SAMPLE)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert refused("lab/sample") == (
        f"lab/sample: the Hub does not accept the token; set HF_TOKEN to one from {hub.endpoint}/settings/tokens or "
        "unset it"
    )


def test_no_room_on_the_disk(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("lab/sample", SAMPLE)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(hub_module.shutil, "disk_usage", lambda _: usage(10**9, 10**9, 10**6))
    message = refused("lab/sample")
    assert message.startswith("lab/sample: 0.0 GB to download, 0.0 GB free on the disk of ")
    assert message.endswith("free some space, set HF_HOME to another disk, or pass --stream to store nothing")


def test_a_cache_that_cannot_be_written(hub: HubServer, tmp_path: Path) -> None:
    hub.add("lab/sample", SAMPLE)
    (tmp_path / "cache").write_text("a file where a directory belongs")
    assert refused("lab/sample").startswith(f"lab/sample: {tmp_path / 'cache'} cannot be written (")


def test_an_index_that_leaves_the_directory(hub: HubServer) -> None:
    index = json.dumps({"weight_map": {"a": "../../elsewhere.safetensors"}}).encode()
    hub.add("lab/evil", {"config.json": b"{}", "model.safetensors.index.json": index})
    assert "expected a weight_map of tensor: file name" in refused("lab/evil")


def test_a_shard_that_is_not_there(hub: HubServer) -> None:
    index = json.dumps({"weight_map": {"a": "model-00001-of-00001.safetensors"}}).encode()
    hub.add("lab/torn", {"config.json": b"{}", "model.safetensors.index.json": index})
    assert refused("lab/torn") == (
        "lab/torn: model.safetensors.index.json names model-00001-of-00001.safetensors, which is not there; ask its "
        "authors for it"
    )


def test_no_weights_or_too_many(hub: HubServer) -> None:
    hub.add("lab/words", {"config.json": b"{}", "README.md": b"#"})
    assert refused("lab/words").startswith("lab/words: holds no weights; expected *.safetensors")
    hub.add("lab/many", {"config.json": b"{}", "a.safetensors": b"1", "b.safetensors": b"2"})
    assert "holds 2 files of weights and no index" in refused("lab/many")


def test_gguf_files(hub: HubServer) -> None:
    files = {
        "README.md": b"# card",
        "sample-Q4_K_M.gguf": b"GGUF4",
        "sample-IQ4_K_M.gguf": b"GGUFI",
        "big/sample-Q8_0-00001-of-00002.gguf": b"GGUF1",
        "big/sample-Q8_0-00002-of-00002.gguf": b"GGUF2",
    }
    commit = hub.add("lab/sample-GGUF", files).commit
    source = open_source("lab/sample-GGUF/sample-Q4_K_M.gguf")
    assert source.path.read_bytes() == b"GGUF4"
    assert (source.name, source.origin) == ("sample-Q4_K_M", f"hub:lab/sample-GGUF@{commit}/sample-Q4_K_M.gguf")
    assert open_source("hf://lab/sample-GGUF:q4_k_m").path == source.path
    page = f"https://huggingface.co/lab/sample-GGUF/blob/{commit}/sample-Q4_K_M.gguf"
    assert open_source(page).path == source.path
    split = open_source("lab/sample-GGUF:Q8_0")
    assert split.path.name == "sample-Q8_0-00001-of-00002.gguf"
    assert split.name == "sample-Q8_0"
    assert split.path.with_name("sample-Q8_0-00002-of-00002.gguf").read_bytes() == b"GGUF2"
    assert "holds 3 GGUF files; give one with its name, as in lab/sample-GGUF/FILE.gguf" in refused("lab/sample-GGUF")
    assert "holds no GGUF file of Q2_K" in refused("lab/sample-GGUF:Q2_K")
    assert "has no such file; it holds big/sample-Q8_0-00001" in refused("lab/sample-GGUF/missing.gguf")


def test_a_local_directory_wins(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lab" / "sample").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    source = open_source("lab/sample")
    assert source.path == Path("lab/sample")
    assert source.origin == str(tmp_path / "lab" / "sample")
    assert not hub.requests


def test_the_downloaded_model_opens(hub: HubServer) -> None:
    hub.add("lab/sample", SAMPLE)
    source = open_source("lab/sample")
    with open_checkpoint(source.path, source.elsewhere) as found, open_checkpoint(SAMPLE) as expected:
        assert found.tensors.keys() == expected.tensors.keys()
        name = "model.embed_tokens.weight"
        rows = expected.tensors[name].rows
        assert np.array_equal(found.tensors[name].read_rows(0, rows), expected.tensors[name].read_rows(0, rows))
