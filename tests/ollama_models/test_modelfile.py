"""Modelfiles as Ollama itself reads them.

``reference/parsed.json`` holds texts and what Ollama's parser (``parser.ParseFile`` of its sources, 2026) made of
each: the commands, or its error.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from converter.errors import UsageError
from converter.ollama.syntax import Modelfile, Value, license_text, read_modelfile

PARSED: list[dict[str, Any]] = json.loads((Path(__file__).parent / "reference" / "parsed.json").read_text("utf-8"))
AS_OLLAMA = {case["text"]: case for case in PARSED}

WRITTEN = [
    Modelfile(("./model.gguf",)),
    Modelfile(("./my model.gguf",), adapter="./a b.gguf", comments=("Two\nlines of # comment", "FROM nothing")),
    Modelfile(("./m-00001-of-00002.gguf", "./m-00002-of-00002.gguf"), template="{{ .Prompt }}"),
    Modelfile((" ./spaces .gguf ",), system=" starts and ends with spaces "),
    Modelfile(("./m.gguf",), template='{{ if .System }}"{{ .System }}"\n{{ end }}{{ .Prompt }}\n'),
    Modelfile(("./m.gguf",), template="\n<|user|>\n\t{{ .Prompt }}▁｜谢\n\n"),
    Modelfile(("./m.gguf",), system='She said "no"'),
    Modelfile(("./m.gguf",), system='"quoted"'),
    Modelfile(("./m.gguf",), system='"""quoted"" and """thrice""" \' here\n"""a\n"'),
    Modelfile(("./m.gguf",), parameters={"stop": ["<|im_end|>", " USER:", 'a"', "\nQ", '"', "a b"], "top_k": 40}),
    Modelfile(("./m.gguf",), parameters={"temperature": 0.7, "min_p": 1e-05, "use_mmap": False, "num_ctx": 256}),
    Modelfile(("./m.gguf",), licenses=("apache-2.0", 'Line one\n\n   "Indented"\nPARAMETER stop x\n')),
    Modelfile(("./m.gguf",), messages=(("system", "Be brief"), ("user", "One\ntwo"), ("assistant", 'a "b"'))),
]
GIVEN = [
    'from ./lower.gguf\nparameter temperature\t 1.5\nSYSTEM """one line"""   \nTEMPLATE {{ .Prompt }}',
    '# comment\n\n  FROM "a b"\r\nLICENSE """\r\nx\n"""\nLICENSE second\nMESSAGE user hi there\n',
    'FROM a\nSYSTEM "two\nlines"\nPARAMETER stop """x"y"""\nPARAMETER stop ""\nSYSTEM plain " quotes"\n',
    'FROM a\nSYSTEM """ends here"""\nTEMPLATE """not """ here\n"""\n',
]
REFUSED = {
    "SYSTEM hello\n": "has no FROM line",
    'FROM a\nSYSTEM """open\n\n': "line 2: the quotes after SYSTEM are never closed",
    "FROM a\nTEMPERATURE 3\n": "line 2: 'TEMPERATURE' is not a command that can be sent to Ollama; take it out",
    "FROM a\n\nMESSAGE tool x\n": "line 3: MESSAGE 'tool', one of system, user, assistant expected",
    "FROM a\n{{ .Prompt }}\n": "line 2: '{{ .Prompt }}', a command and its value expected",
    "FROM\n": "line 1: 'FROM', a command and its value expected",
}


def commands(made: Modelfile) -> list[tuple[str, str]]:
    """What Ollama is to read, in order."""
    texts = [("adapter", made.adapter), ("template", made.template), ("system", made.system)]
    return [
        *(("model", file) for file in made.files),
        *((name, text) for name, text in texts if text),
        *((name, plain(one)) for name, value in made.parameters.items() for one in listed(value)),
        *(("message", f"{role}: {content}") for role, content in made.messages),
        *(("license", license_text(text)) for text in made.licenses),
    ]


def plain(value: str | int | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def listed(value: Value) -> list[Any]:
    return value if isinstance(value, list) else [value]


def as_ollama(text: str) -> list[tuple[str, str]]:
    return [(command["Name"], command["Args"]) for command in AS_OLLAMA[text]["commands"]]


@pytest.mark.parametrize("made", WRITTEN, ids=range(len(WRITTEN)))
def test_what_is_written_is_what_ollama_reads(made: Modelfile) -> None:
    assert as_ollama(made.text()) == commands(made)


@pytest.mark.parametrize("text", [*(made.text() for made in WRITTEN), *GIVEN])
def test_read_as_ollama_reads(text: str) -> None:
    made = read_modelfile(text, "Modelfile")
    found = dict.fromkeys(name for name, _ in as_ollama(text))
    for name in found:
        values = [value for command, value in as_ollama(text) if command == name]
        match name:
            case "model":
                assert list(made.files) == values
            case "license":
                assert list(made.licenses) == values
            case "message":
                assert [f"{role}: {content}" for role, content in made.messages] == values
            case "adapter" | "template" | "system":
                assert getattr(made, name) == values[-1]
            case _:
                assert [plain(value) for value in listed(made.parameters[name])] == values
    assert len(made.parameters) == len(found.keys() - {"model", "license", "message", "adapter", "template", "system"})


@pytest.mark.parametrize("text", REFUSED)
def test_what_ollama_cannot_read_is_refused(text: str) -> None:
    assert AS_OLLAMA[text]["error"]
    with pytest.raises(UsageError) as refused:
        read_modelfile(text, "Modelfile")
    assert REFUSED[text] in str(refused.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("PARAMETER temprature 1", "line 2: 'temprature' is not a parameter of Ollama's; known: frequency_penalty"),
        ("PARAMETER top_k warm", "line 2: top_k is 'warm', expected int"),
        ("PARAMETER use_mmap maybe", "line 2: use_mmap is 'maybe', expected bool"),
        ("RENDERER qwen3", "line 2: 'RENDERER' is not a command that can be sent to Ollama; take it out"),
    ],
)
def test_what_cannot_be_sent_is_refused(line: str, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_modelfile(f"FROM a\n{line}\n", "Modelfile")
    assert message in str(refused.value)


def test_a_modelfile_that_is_too_long_is_refused() -> None:
    with pytest.raises(UsageError, match="4,000,001 characters long, expected at most 4,000,000"):
        read_modelfile("#" * 4_000_001, "Modelfile")


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (Modelfile(("./a\u200b.gguf",)), r"FROM: './a\u200b.gguf' holds '\u200b', which Ollama drops from a Modelfile"),
        (Modelfile(("./a",), system='x"""\ny'), "SYSTEM: a line ends in three quotes, which ends a value"),
    ],
)
def test_what_a_modelfile_cannot_hold_is_refused(made: Modelfile, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        made.text()
    assert message in str(refused.value)


def test_license_that_would_end_too_early() -> None:
    text = 'One """\nTwo ""\n"""  \nThree\u00a0words\u200e\f\r\n""""'
    made = Modelfile(("./m.gguf",), licenses=(text,))
    assert as_ollama(made.text())[1] == ("license", 'One "" "\nTwo ""\n"" "  \nThree words \n""" "')
