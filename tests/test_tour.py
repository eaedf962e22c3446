"""Every command that the README shows, run in its order as it stands there."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from command_line import convert
from hub_server import HubServer
from lora_builder import write_adapter
from ollama_models.ollama_stub import OllamaStub, serving
from s3_server import Bucket, empty_bucket, running_s3

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "tests" / "fixtures" / "sample"
README = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Tour")[2]
COMMANDS = re.findall(r"^    convert (.*?)(?: +# .*)?$", README, re.MULTILINE)


@dataclass(frozen=True)
class World:
    """What the commands find: a directory with models, a Hub, a store and an Ollama server."""

    directory: Path
    hub: HubServer
    bucket: Bucket
    ollama: OllamaStub


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("tour")
    shutil.copytree(SAMPLE, directory / "my-model")
    shutil.copytree(ROOT / "configs", directory / "configs")
    (directory / "tests" / "fixtures").mkdir(parents=True)
    (directory / "tests" / "fixtures" / "sample").symlink_to(SAMPLE)
    (directory / "text.txt").write_bytes((SAMPLE / "heldout.txt").read_bytes()[:20000])
    as_pytorch(directory / "my-model", directory / "my-pytorch-model")
    write_adapter(SAMPLE, directory / "my-lora")
    with (
        pytest.MonkeyPatch.context() as patch,
        HubServer() as hub,
        running_s3() as s3,
        serving(OllamaStub()) as ollama,
    ):
        hub.add("lab/model", SAMPLE)
        for name, value in s3.items():
            patch.setenv(name, value)
        patch.setenv("OLLAMA_HOST", ollama.url)
        patch.setenv("HF_TOKEN", "hf_writer")
        hub.stand_in(patch, directory / "cache")
        patch.chdir(directory)
        with empty_bucket(s3, "bucket") as bucket:
            bucket.put("model", SAMPLE)
            yield World(directory, hub, bucket, ollama)


def as_pytorch(model: Path, directory: Path) -> None:
    """The same model with its weights in pytorch_model.bin."""
    import torch
    from safetensors.torch import load_file

    shutil.copytree(model, directory, ignore=shutil.ignore_patterns("*.safetensors"))
    torch.save(load_file(model / "model.safetensors"), directory / "pytorch_model.bin")


@pytest.mark.parametrize("command", COMMANDS)
def test_command(world: World, command: str) -> None:
    outcome = convert(*shlex.split(command))
    assert outcome.code == 0, outcome.err


def test_what_the_commands_left(world: World) -> None:
    whole, again = (world.directory / name for name in ("whole.gguf", "again.gguf"))
    convert("--method", "f16", "--model", "my-model", "--output", again, "--verify", "none")
    assert whole.read_bytes() == again.read_bytes()
    expected = (world.directory / "my-model-q4_0.gguf").read_bytes()
    assert world.bucket.content("my-model-q4_0.gguf") == expected
    assert "my-model" in world.ollama.models
    assert not list(world.directory.glob("*.part*"))
