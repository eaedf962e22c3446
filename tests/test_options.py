"""An option is declared once: what the declaration of a field of ``Request`` alone makes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from command_line import convert

from converter.config.schema import KEYS
from converter.option import Declared, declared
from converter.request import Request

ROOT = Path(__file__).parent.parent
OPTIONS = {found.name: found for found in declared(Request)}

#: A further field, and what becomes of it everywhere.
FURTHER = """
import json, sys
from dataclasses import dataclass, field
from pathlib import Path
import converter.request as module
from converter.option import option

@dataclass(frozen=True)
class Wider(module.Request):
    colour: str | None = field(default=None, metadata=option("Colour of the ink.", "--colour", metavar="NAME"))

module.Request = Wider

from converter.batch.expansion import expand
from converter.batch.schema import read_batch
from converter.catalogue import Source, key_of
from converter.cli import cli
from converter.config.merging import merge
from converter.config.schema import read_configuration

help = cli.get_help(cli.make_context("convert", [], resilient_parsing=True))
arguments = ["--model", "m", "--method", "q4_0", "--colour", "red"]
given = cli.make_context("convert", arguments, resilient_parsing=True).params
file, batch = Path(sys.argv[1]), Path(sys.argv[2])
key = key_of({"model": "m", "method": "q4_0", "colour": "red"}, Source("m", "m", ()), Path("x"))
print(json.dumps({
    "help": "--colour NAME" in help and "Colour of the ink." in help,
    "command line": merge(given, {})["colour"],
    "file": merge({}, read_configuration(file))["colour"],
    "both": merge(given, read_configuration(file))["colour"],
    "batch": [job.request.colour for job in expand(read_batch(batch), batch)],
    "key": key.recipe["colour"],
}))
"""


def test_a_field_alone_makes_an_option(tmp_path: Path) -> None:
    file, batch, sample = tmp_path / "run.yaml", tmp_path / "batch.yaml", str(ROOT / "tests" / "fixtures" / "sample")
    file.write_text(yaml.safe_dump({"model": {"model_name": "m"}, "method": "q4_0", "colour": "blue"}))
    jobs = {"models": [sample], "methods": ["q8_0", {"method": "q4_0", "colour": "green"}]}
    batch.write_text(yaml.safe_dump({**jobs, "defaults": {"colour": "blue"}}))
    command = [sys.executable, "-c", FURTHER, str(file), str(batch)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert yaml.safe_load(run.stdout) == {
        "help": True, "command line": "red", "file": "blue", "both": "red", "batch": ["blue", "green"], "key": "red"
    }  # fmt: skip


def dotted(mapping: dict[str, Any], above: str = "") -> set[str]:
    keys = set()
    for name, value in mapping.items():
        keys |= dotted(value, f"{above}{name}.") if isinstance(value, dict) and value else {f"{above}{name}"}
    return keys


def test_the_complete_example_has_every_key() -> None:
    example = yaml.safe_load((ROOT / "configs" / "complete.yaml").read_text())
    assert dotted(example) == {*KEYS, "verbose"}


def test_the_help_lists_every_option() -> None:
    words = " ".join(convert("--help").out.split())
    for found in OPTIONS.values():
        assert found.option.flags[0] in words
        assert found.option.help in words


def test_the_readme_lists_every_option() -> None:
    table = "\n".join(row(found) for found in OPTIONS.values())
    assert table in (ROOT / "README.md").read_text(encoding="utf-8"), f"the README's table should be\n{table}"


def row(found: Declared) -> str:
    """An option's row in the README's table."""
    value = "\\|".join(found.option.choices) or found.option.metavar or ""
    flag = f"{found.option.flags[0]} {value}".rstrip()
    key = f"`{found.key}`" if found.key else ""
    default = f" Default: {found.option.default}." if found.option.default else ""
    return f"| `{flag}` | {key} | {found.option.help}{default} |"
