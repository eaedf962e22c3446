"""The one way in, as Python knows it."""

from __future__ import annotations

import dataclasses
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import converter
from converter import Request, convert
from converter.errors import UsageError

SAMPLE = Path(__file__).parent / "fixtures" / "sample"


def test_every_choice_of_a_request_is_a_keyword_of_convert() -> None:
    """An editor completes it, and a type checker knows it."""
    keywords = dict(inspect.signature(convert).parameters)
    del keywords["progress"]
    fields = {field.name: field for field in dataclasses.fields(Request)}
    assert list(keywords) == list(fields)
    for name, field in fields.items():
        if field.default is not dataclasses.MISSING:
            assert keywords[name].default == field.default, name
        assert keywords[name].annotation.removesuffix(" | None") == field.type.removesuffix(" | None"), name


def test_the_package_names_what_users_import() -> None:
    for name in converter.__all__:
        assert getattr(converter, name).__name__ == name


def test_importing_the_package_loads_no_heavy_library() -> None:
    script = (
        "import sys, converter.cli\n"
        "heavy = {'torch', 'transformers', 'numpy', 'llama_cpp', 'pydantic', 'yaml', 'tqdm', 'huggingface_hub'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("out", "out.gguf"),
        ("out.gguf", "out.gguf"),
        ("Qwen2.5-7B", "Qwen2.5-7B.gguf"),
        ("x.bin2", "x.bin2"),
        ("there", "there/sample-f16.gguf"),
    ],
)
def test_a_name_without_a_suffix_gets_the_formats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, written: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    assert convert(SAMPLE, "f16", given, dry_run=True).output == Path(written)


def test_a_name_that_says_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the name says safetensors but the format is gguf"):
        convert(SAMPLE, "f16", tmp_path / "x.safetensors", dry_run=True)
