"""The README and the house rules hold for the code as it is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import convert

from converter.architectures import FAMILIES, model_types
from converter.quants import QUANT_TYPES
from converter.recipes import METHODS
from converter.vocabs.pretokenizers import NAMES as PRE_TOKENIZERS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_table_of_families_is_the_registrys() -> None:
    table = convert("families", "--markdown").out
    assert table in README, "run `convert families --markdown` and put its output into the README"


def test_the_table_of_methods_is_the_registrys() -> None:
    rows = [
        f"| `{method.name}` | {QUANT_TYPES[method.type].bits_per_weight:.2f} | {method.use} |"
        for method in METHODS.values()
    ]
    assert "\n".join(rows) in README


#: GGUF's kinds of vocabularies, some of which are called after a model.
VOCABULARIES = {"llama", "bert", "t5", "gpt2", "gemma4"}
#: Words of other meanings: releases that say which model is in them by the files' kind, and a part of ``general.name``
#: by which llama.cpp tokenizes otherwise.
OTHER_MEANINGS = {
    "checkpoints/consolidated.py": {"llama", "mistral", "LlamaForCausalLM", "MistralForCausalLM"},
    "vocabs/llama_cpp_differences.py": {"phi3"},
}


def texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Text literals with their lines, docstrings left out; of f-strings the parts."""
    documents = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in documents:
            yield node.lineno, node.value


@pytest.mark.parametrize(
    "file", sorted((ROOT / "converter").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_families_are_known_in_their_own_room_only(file: Path) -> None:
    """No table, no condition and no other literal names a family, but for words that mean something else too."""
    place = file.relative_to(ROOT / "converter")
    if place.parts[0] == "architectures":
        return
    names = {
        *FAMILIES,
        *(family.arch for family in FAMILIES.values()),
        *(family.__name__ for family in FAMILIES.values()),
        *model_types(),
    }
    names -= VOCABULARIES if place.parts[0] != "checkpoints" else set()
    names -= PRE_TOKENIZERS if place.parts[0] == "vocabs" else set()
    names -= OTHER_MEANINGS.get(place.as_posix(), set())
    found = [(line, text) for line, text in texts(ast.parse(file.read_text(encoding="utf-8"))) if text in names]
    assert not found


def test_set_up_commands_are_shown() -> None:
    for command in ("./tools/demo.sh", "./tools/test.sh"):
        assert command in README
        assert (ROOT / command).stat().st_mode & 0o111
