"""``convert ollama`` against a server that checks the protocol, and the refusals a user meets."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import gguf as gguf_library
import numpy as np
import pytest
from command_line import convert, refusal
from ollama_models.ollama_stub import OllamaStub, serving

from converter.ollama import modelfile
from converter.ollama.syntax import read_modelfile

SAMPLE = Path(__file__).parents[1] / "fixtures" / "sample"


def empty(path: Path, kind: str) -> Path:
    """A GGUF with nothing in it but its kind."""
    writer = gguf_library.GGUFWriter(path, "llama")
    writer.add_type(kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def digest(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_a_model_is_made(gguf: Path, server: OllamaStub) -> None:
    outcome = convert("ollama", gguf, "sample")
    assert outcome.code == 0, outcome
    assert outcome.out.splitlines()[-1] == "ollama run sample"
    assert f"{server.url} (Ollama 0.12.3) has sample: {gguf.stat().st_size / 1e6:.1f} MB sent" in outcome.out
    assert server.uploads == [digest(gguf)]
    described = read_modelfile(modelfile(gguf), "Modelfile")
    assert described.template.startswith("{{ if .System }}<|start_header_id|>system<|end_header_id|>\n\n{{ .System }}")
    assert server.models["sample"] == {
        "model": "sample", "stream": True, "files": {gguf.name: digest(gguf)}, "template": described.template,
        "parameters": {"num_ctx": 256}, "license": ["psf-2.0 other https://docs.python.org/3/license.html"],
    }  # fmt: skip


def test_what_the_server_has_is_not_sent_again(gguf: Path, server: OllamaStub) -> None:
    assert convert("ollama", gguf, "one").code == 0
    outcome = convert("ollama", gguf, "team/two:v1.0")
    assert "0.0 MB sent, " in outcome.out
    assert "MB were there already" in outcome.out
    assert len(server.uploads) == 1
    assert set(server.models) == {"one", "team/two:v1.0"}


def test_a_modelfile_says_the_rest(gguf: Path, server: OllamaStub, tmp_path: Path) -> None:
    adapter = empty(tmp_path / "adapter.gguf", "adapter")
    written = tmp_path / "Modelfile"
    written.write_text(
        'FROM ./other.gguf\nADAPTER ./adapter.gguf\nTEMPLATE """{{ .Prompt }}"""\nSYSTEM Be brief\n'
        'PARAMETER stop "Q:"\nPARAMETER stop A\nPARAMETER temperature 0.5\nPARAMETER top_k 5\n'
        "PARAMETER use_mmap false\nMESSAGE user Hi\nLICENSE MIT\n"
    )
    assert convert("--quiet", "ollama", gguf, "mine", "--modelfile", written, "--host", server.url).code == 0
    assert server.models["mine"] == {
        "model": "mine", "stream": True, "files": {gguf.name: digest(gguf)},
        "adapters": {"adapter.gguf": digest(adapter)}, "template": "{{ .Prompt }}", "system": "Be brief",
        "parameters": {"stop": ["Q:", "A"], "temperature": 0.5, "top_k": 5, "use_mmap": False},
        "messages": [{"role": "user", "content": "Hi"}], "license": ["MIT"],
    }  # fmt: skip


def test_an_adapter_by_option(gguf: Path, server: OllamaStub, tmp_path: Path) -> None:
    adapter = empty(tmp_path / "tuned.gguf", "adapter")
    assert convert("ollama", gguf, "mine", "--adapter", adapter).code == 0
    assert server.models["mine"]["adapters"] == {"tuned.gguf": digest(adapter)}


def test_the_checkpoint_says_how_to_sample(gguf: Path, server: OllamaStub, tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text('{"temperature": 0.6, "top_p": 0.95, "repetition_penalty": 1.1}')
    (tmp_path / "LICENSE").write_text("You may.\n")
    assert convert("ollama", gguf, "mine", "--source", tmp_path).code == 0
    assert server.models["mine"]["parameters"] == {
        "num_ctx": 256, "temperature": 0.6, "top_p": 0.95, "repeat_penalty": 1.1,
    }  # fmt: skip
    assert server.models["mine"]["license"] == ["You may."]


def parts(directory: Path) -> list[Path]:
    """A model in two files, as gguf's own writer splits it."""
    writer = gguf_library.GGUFWriter(directory / "m.gguf", "llama", split_max_tensors=1)
    for name in ("one", "two"):
        writer.add_tensor(name, np.zeros((2, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(directory.glob("*.gguf"))


def test_all_parts_of_a_split_model_are_sent(server: OllamaStub, tmp_path: Path) -> None:
    files = parts(tmp_path)
    server.version = "0.30.1"
    assert convert("ollama", files[0], "split").code == 0
    assert server.models["split"]["files"] == {file.name: digest(file) for file in files}
    assert len(files) == len(server.uploads) == 2
    assert modelfile(files[1]).splitlines()[1:] == [f"FROM ./{file.name}" for file in files]


def test_parts_need_a_newer_server(server: OllamaStub, tmp_path: Path) -> None:
    assert refusal("ollama", parts(tmp_path)[0], "split") == (
        f"{server.url}: is Ollama 0.12.3, which makes no models of a split GGUF: 0.30.0 or later expected; update it; "
        "or join its parts with `convert merge`"
    )
    assert not server.uploads


@pytest.mark.parametrize("version", ["0.5.5", "0.5.13-rc2", "0.0.0", "v1.0"])
def test_versions_that_take_files(gguf: Path, server: OllamaStub, version: str) -> None:
    server.version = version
    assert convert("ollama", gguf, "m").code == 0
    assert "m" in server.models


def test_an_old_server(gguf: Path, server: OllamaStub) -> None:
    server.version = "0.5.4"
    assert refusal("ollama", gguf, "m") == (
        f"{server.url}: is Ollama 0.5.4, which makes no models of GGUF files: 0.5.5 or later expected; update it"
    )
    assert not server.uploads


def test_no_server(gguf: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        host = f"http://127.0.0.1:{unused.getsockname()[1]}"
        assert refusal("ollama", gguf, "m", "--host", host) == (
            f"{host}: no Ollama server answers; start it with `ollama serve`, or name another with --host"
        )


@pytest.mark.parametrize("version", [404, 3.5, None, "new"])
def test_another_kind_of_server(gguf: Path, server: OllamaStub, version: object) -> None:
    server.version = version
    assert "does not answer as an Ollama server does" in refusal("ollama", gguf, "m")


def test_a_server_that_has_moved(gguf: Path, server: OllamaStub) -> None:
    with serving(OllamaStub()) as other:
        server.moved = other.url
        expected = f"{server.url}: sends its callers on to {other.url}; name that one with --host"
        assert refusal("ollama", gguf, "m") == expected


def test_a_host_that_cannot_be_one(gguf: Path) -> None:
    assert "expected e.g. http://127.0.0.1:11434" in refusal("ollama", gguf, "m", "--host", "a:port", code=2)


def test_a_full_disk_while_uploading(gguf: Path, server: OllamaStub) -> None:
    server.room = 100
    assert refusal("ollama", gguf, "m") == (
        f"{server.url}: its disk is full: write /models/blobs/sha256-1: no space left on device (500); free space "
        "where it keeps models (OLLAMA_MODELS) and run again"
    )


@pytest.mark.parametrize(
    ("last", "message"),
    [
        ({"error": "open /models/x: no space left on device"}, "its disk is full: open /models/x: no space left on"),
        (
            {"error": "template error:\n\x1b[1m unexpected EOF"},
            "refused the making of m: template error: [1m unexpected EOF",
        ),
        ({"status": "writing manifest"}, "stopped making m after 'writing manifest', 'success' expected; see its log"),
    ],
)
def test_making_fails(gguf: Path, server: OllamaStub, last: dict[str, str], message: str) -> None:
    server.steps[-1] = last
    assert message in refusal("ollama", gguf, "m")


def test_connection_lost_while_making(gguf: Path, server: OllamaStub) -> None:
    server.broken_off = True
    assert refusal("ollama", gguf, "m").startswith(f"{server.url}: the connection was lost while m was made: ")


def test_a_server_that_lets_nobody_in(gguf: Path, server: OllamaStub) -> None:
    server.forbidden = True
    assert refusal("ollama", gguf, "m") == (f"{server.url}: refused to say whether it has {gguf.name}: Forbidden (403)")


def test_connection_lost_while_uploading(gguf: Path, server: OllamaStub) -> None:
    server.hang_up_after = 1000
    line = refusal("ollama", gguf, "m")
    assert line.startswith(f"{server.url}: the connection was lost (")
    assert line.endswith("); run the same command again, what the server has is not sent twice")


@pytest.mark.parametrize(
    "change", [lambda old: old[:-1] + b"x", lambda old: old[:-1], lambda old: old[:-1] + b"xy", lambda old: b""]
)
def test_a_file_that_changes(gguf: Path, server: OllamaStub, tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    """Between the reading of its digest and the sending of its bytes."""
    adapter = empty(tmp_path / "adapter.gguf", "adapter")
    before = adapter.read_bytes()
    known = digest(adapter)
    server.asked = lambda asked: adapter.write_bytes(change(before)) if asked == known else None
    assert refusal("ollama", gguf, "m", "--adapter", adapter) == (
        f"{adapter}: changed while it was being sent; leave it alone and run again"
    )
    assert not server.models


def test_not_a_gguf(server: OllamaStub, gguf: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"PK\x03\x04")
    expected = f"{file}: not a GGUF file: it starts with b'PK\\x03\\x04', b'GGUF' expected"
    assert refusal("ollama", file, "m") == expected
    assert refusal("ollama", gguf, "m", "--adapter", file) == expected
    missing = tmp_path / "none.gguf"
    assert refusal("ollama", missing, "m") == f"{missing}: cannot be read: No such file or directory"
    assert "cannot be read" in refusal("ollama", gguf, "m", "--modelfile", missing)


def test_a_model_and_an_adapter_swapped(server: OllamaStub, gguf: Path, tmp_path: Path) -> None:
    adapter = empty(tmp_path / "adapter.gguf", "adapter")
    assert refusal("ollama", adapter, "m") == f"{adapter}: holds 'adapter', a model expected"
    line = refusal("ollama", gguf, "m", "--adapter", gguf)
    assert line == f"{gguf}: holds 'model', 'adapter' expected in its general.type"


def test_a_modelfile_and_a_checkpoint_that_both_describe(server: OllamaStub, gguf: Path) -> None:
    line = refusal("ollama", gguf, "m", "--modelfile", "Modelfile", "--source", SAMPLE, code=2)
    assert line == "--source is for what --modelfile says already; give one of them"


@pytest.mark.parametrize("name", ["", "a b", "a/b/c/d", "-a", "a:", "a:b:c", "a.b/c", "ä", "a" * 81, "a\n"])
def test_names_that_cannot_be(name: str, gguf: Path, server: OllamaStub) -> None:
    assert refusal("ollama", gguf, "--", name, code=2).startswith(f"{name!r} cannot be a model's name in Ollama: ")


def test_sending_takes_no_memory_of_the_files_size(server: OllamaStub, tmp_path: Path) -> None:
    """A process that sends 200 MB tells the largest resident set it had."""
    large, size = tmp_path / "large.gguf", 200_000_000
    writer = gguf_library.GGUFWriter(large, "llama")
    writer.add_tensor_info("w", (size // 4,), np.dtype(np.float32), size)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    os.truncate(large, large.stat().st_size + size)
    program = (
        "import pathlib\nfrom converter.cli import main\n"
        "try: main()\nfinally: print(pathlib.Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])"
    )
    command = [sys.executable, "-c", program, "ollama", str(large), "large", "--quiet"]
    kilobytes = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert server.uploads == [digest(large)]
    assert kilobytes < 120_000
