"""Ollama's Modelfile: what a model is made of, written and read.

The format: https://docs.ollama.com/modelfile. There, a value ends with its line, or with a line that ends in the
quotes it began with; nothing is escaped, and unprintable letters are dropped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from converter.errors import UsageError

LIMIT = 4_000_000
"""Characters of a Modelfile at most."""

#: Parameters and how each is read; those of Ollama's ``Options`` and ``Runner``.
PARAMETERS: dict[str, type[bool] | type[float] | type[int] | type[str]] = {
    **dict.fromkeys(
        ("num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "num_keep", "seed", "num_predict", "top_k",
         "repeat_last_n"), int,
    ),
    **dict.fromkeys(
        ("top_p", "min_p", "typical_p", "temperature", "repeat_penalty", "presence_penalty", "frequency_penalty"),
        float,
    ),
    "use_mmap": bool,
    "stop": str,
}  # fmt: skip
_BOOLEANS = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}
_COMMAND = re.compile(r"([A-Za-z]+)[ \t]")
_NEWLINE = re.compile(r"[\r\n]")
_ROLES = ("system", "user", "assistant")

Value = str | int | float | bool | list[str]


@dataclass(frozen=True)
class Modelfile:
    """What is said about a model.

    Attributes:
        files: FROM: a file's path, or those of a model's parts.
        adapter: ADAPTER: a file's path.
        template: TEMPLATE, in Ollama's language; empty leaves it to Ollama.
        system: SYSTEM.
        parameters: PARAMETER by name; ``stop`` is a list.
        licenses: LICENSE, each a text or a name.
        messages: MESSAGE, as role and content.
        comments: lines put at the top.
    """

    files: tuple[str, ...]
    adapter: str = ""
    template: str = ""
    system: str = ""
    parameters: dict[str, Value] = field(default_factory=dict)
    licenses: tuple[str, ...] = ()
    messages: tuple[tuple[str, str], ...] = ()
    comments: tuple[str, ...] = ()

    def text(self) -> str:
        """The file.

        Raises:
            UsageError: a value holds a letter that Ollama would drop on reading.
        """
        lines = [f"# {' '.join(comment.split())}" for comment in self.comments]
        lines += [f"FROM {_quoted(file, 'FROM')}" for file in self.files]
        if self.adapter:
            lines.append(f"ADAPTER {_quoted(self.adapter, 'ADAPTER')}")
        for command, text in (("TEMPLATE", self.template), ("SYSTEM", self.system)):
            if text:
                lines.append(f"{command} {_quoted(text, command)}")
        for name, value in self.parameters.items():
            values = value if isinstance(value, list) else [value]
            lines += [f"PARAMETER {name} {_quoted(_plain(one), f'PARAMETER {name}')}" for one in values]
        lines += [f"MESSAGE {role} {_quoted(content, 'MESSAGE')}" for role, content in self.messages]
        lines += [f"LICENSE {_quoted(license_text(text), 'LICENSE')}" for text in self.licenses]
        return "\n".join(lines) + "\n"


def license_text(text: str) -> str:
    """A license as a Modelfile can hold it: printable, and with no line that ends in three quotes.

    A space goes before the last quote of such a line. Letters that Ollama would drop are dropped: marks of direction
    and form feeds; spaces of other widths become plain ones.
    """
    text = "".join(" " if not letter.isprintable() and letter.isspace() and letter not in "\n\t" else letter
                   for letter in text.replace("\r\n", "\n").strip())  # fmt: skip
    text = "".join(letter for letter in text if letter.isprintable() or letter in "\n\t")
    return re.sub(r'"""(?=[ \t]*$)', '"" "', text, flags=re.MULTILINE)


def _plain(value: str | int | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _quoted(text: str, command: str) -> str:
    """A value as it is read back.

    Raises:
        UsageError: as :meth:`Modelfile.text`.
    """
    lost = next((letter for letter in text if not letter.isprintable() and letter not in "\n\t"), None)
    if lost is not None:
        raise UsageError(f"{command}: {text[:80]!r} holds {lost!r}, which Ollama drops from a Modelfile; take it out")
    if re.search(r'"""[ \t]*$', text, re.MULTILINE):
        raise UsageError(f"{command}: a line ends in three quotes, which ends a value in a Modelfile; change it")
    if "\n" in text or '"' in text:
        return f'"""{text}"""'
    return f'"{text}"' if text != text.strip() or command == "PARAMETER stop" else text


def read_modelfile(text: str, where: str) -> Modelfile:
    """Parse a Modelfile.

    Args:
        text: the file.
        where: its path, for messages.

    Raises:
        UsageError: a line is not of the format, or names what cannot be sent; one line.
    """
    found: dict[str, str] = {}
    parameters: dict[str, Value] = {}
    files, licenses, messages = [], [], []
    for line, command, value in _commands(text, where):
        place = f"{where}, line {line}"
        match command:
            case "FROM":
                files.append(value)
            case "ADAPTER" | "TEMPLATE" | "SYSTEM":
                found[command] = value
            case "LICENSE":
                licenses.append(value)
            case "MESSAGE":
                role, content = _named(value)
                if role not in _ROLES:
                    raise UsageError(f"{place}: MESSAGE {role!r}, one of {', '.join(_ROLES)} expected")
                messages.append((role, _unquoted(content) or ""))
            case "PARAMETER":
                _read_parameter(parameters, value, place)
            case _:
                raise UsageError(f"{place}: {command!r} is not a command that can be sent to Ollama; take it out")
    if not files:
        raise UsageError(f"{where}: has no FROM line")
    return Modelfile(
        tuple(files), found.get("ADAPTER", ""), found.get("TEMPLATE", ""), found.get("SYSTEM", ""), parameters,
        tuple(licenses), tuple(messages),
    )  # fmt: skip


def _commands(text: str, where: str) -> Sequence[tuple[int, str, str]]:
    """Line number, command and value of each."""
    if len(text) > LIMIT:
        raise UsageError(f"{where}: is {len(text):,} characters long, expected at most {LIMIT:,}")
    commands = []
    position = 0
    while position < len(text):
        if text[position] in " \t\r\n":
            position += 1
            continue
        line = text.count("\n", 0, position) + 1
        if text[position] == "#":
            position = _line_end(text, position)
            continue
        match = _COMMAND.match(text, position)
        if match is None:
            found = text[position : _line_end(text, position)][:60]
            raise UsageError(f"{where}, line {line}: {found!r}, a command and its value expected")
        command, begin = match[1].upper(), match.end()
        value, position = _value(text, begin, command)
        if value is None:
            raise UsageError(f"{where}, line {line}: the quotes after {command} are never closed")
        commands.append((line, command, value))
    return commands


def _value(text: str, begin: int, command: str) -> tuple[str | None, int]:
    """A value and where it ends: at the first end of a line that leaves no quotes open."""
    end = begin
    named = command in ("PARAMETER", "MESSAGE")
    while True:
        end = _line_end(text, end)
        raw = text[begin:end].strip()
        value = _unquoted(_named(raw)[1] if named else raw)
        if value is not None:
            return (raw if named else value), end
        if end >= len(text):
            return None, end
        end += 1


def _named(value: str) -> tuple[str, str]:
    """The first word, and what follows it."""
    name, *rest = value.split(maxsplit=1)
    return name, "".join(rest)


def _line_end(text: str, position: int) -> int:
    match = _NEWLINE.search(text, position)
    return match.start() if match else len(text)


def _unquoted(text: str) -> str | None:
    """A value without its quotes; None where they are not closed."""
    for quotes in ('"""', '"'):
        if text.startswith(quotes):
            closed = len(text) >= 2 * len(quotes) and text.endswith(quotes)
            return text[len(quotes) : -len(quotes)] if closed else None
    return text


def _read_parameter(parameters: dict[str, Value], value: str, place: str) -> None:
    name, rest = _named(value)
    text = _unquoted(rest) or ""
    kind = PARAMETERS.get(name)
    if kind is None:
        raise UsageError(f"{place}: {name!r} is not a parameter of Ollama's; known: {', '.join(sorted(PARAMETERS))}")
    if kind is str:
        stops = parameters.setdefault(name, [])
        assert isinstance(stops, list)
        stops.append(text)
        return
    try:
        parameters[name] = _BOOLEANS[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        raise UsageError(f"{place}: {name} is {text!r}, expected {kind.__name__}") from None
