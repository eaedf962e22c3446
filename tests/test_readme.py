"""The README and the house rules hold for the code as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command_line import convert

from converter.architectures import FAMILIES
from converter.quants import QUANT_TYPES
from converter.recipes import METHODS

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


@pytest.mark.parametrize(
    "file", sorted((ROOT / "converter").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_families_are_known_in_their_own_room_only(file: Path) -> None:
    if file.is_relative_to(ROOT / "converter" / "architectures"):
        return
    names = {
        *FAMILIES,
        *(family.arch for family in FAMILIES.values()),
        *(family.__name__ for family in FAMILIES.values()),
    }
    # These words have other meanings too: a tokenizer model of GGUF, and llama.cpp's vocabulary kinds.
    names -= {"llama", "bert", "t5", "gpt2"}
    for line in file.read_text(encoding="utf-8").splitlines():
        if re.match(r"\s*(if|elif|case|while|return .* if|.* if .* else)\b", line):
            quoted = set(re.findall(r"[\"']([\w.-]+)[\"']", line))
            assert not quoted & names, line


def test_set_up_commands_are_shown() -> None:
    for command in ("./tools/demo.sh", "./tools/test.sh"):
        assert command in README
        assert (ROOT / command).stat().st_mode & 0o111
