"""Adapters and their base on the Hub: ``convert adapter ORG/ADAPTER --base ORG/MODEL``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lora_builder
from command_line import convert
from hub_server import HubServer


def test_of_the_base_only_headers_are_read(bases: Callable[[str], Path], tmp_path: Path) -> None:
    base = bases("llama")
    adapter = lora_builder.write_adapter(base, tmp_path / "adapter", target_modules="all-linear")
    arguments = ["--model", base, "--adapter", adapter, "--method", "q8_0", "--verify", "none", "--no-catalogue"]
    assert convert("adapter", adapter, "--base", base, "--output", tmp_path / "local.gguf").code == 0
    assert convert(*arguments, "--output", tmp_path / "local-merged.gguf").code == 0
    with HubServer() as hub:
        hub.add("lab/model", base)
        hub.add("lab/adapter", adapter)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment |= {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}

        def run(*arguments: object) -> None:
            command = [sys.executable, "-m", "converter", *map(str, arguments)]
            made = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
            assert made.returncode == 0, made.stderr
            assert "was trained on" not in made.stderr

        run("adapter", "lab/adapter", "--base", "lab/model", "--output", tmp_path / "adapter.gguf")
        stored = [path.name for path in (tmp_path / "home").rglob("*.safetensors")]
        assert stored == ["adapter_model.safetensors"]
        arguments[1], arguments[3] = "lab/model", "lab/adapter"
        run(*arguments, "--output", tmp_path / "merged.gguf")
    assert (tmp_path / "adapter.gguf").read_bytes() == (tmp_path / "local.gguf").read_bytes()
    assert (tmp_path / "merged.gguf").read_bytes() == (tmp_path / "local-merged.gguf").read_bytes()
