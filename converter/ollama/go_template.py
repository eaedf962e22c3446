"""A chat's pattern as a template in Ollama's language.

That is Go's ``text/template`` (https://pkg.go.dev/text/template) over ``.System``, the system messages joined, and
``.Messages``, each with ``.Role`` and ``.Content``, neighbours of one role joined
(https://docs.ollama.com/modelfile#template). What is used of it: ``if``, ``else``, ``range``, variables, ``eq``,
``ne``, ``and``, ``not``, ``len`` and ``slice``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from converter.ollama.chat_format import ChatFormat

TODAY = "{today}"
"""Stands in a pattern's texts for the day's date, year-month-day."""

_AWKWARD = re.compile(r'\{\{|"""')
_ESCAPES = {'"': r"\"", "\\": r"\\", "\n": r"\n", "\r": r"\r", "\t": r"\t"}


@dataclass(frozen=True)
class Action:
    """What stands between ``{{`` and ``}}``."""

    code: str


def go_template(chat: ChatFormat) -> str:
    """The template that renders what ``chat`` renders. It has neither three quotes in a row nor unprintable letters."""
    text = ""
    for part in _parts(chat):
        if isinstance(part, Action):
            # ``{{-`` also eats the white space before it: it may follow a line break of ours, never one of the text.
            own_line = bool(text) and not text[-1].isspace()
            text += "\n{{- " if own_line else "{{ "
            text += part.code + " }}"
        else:
            text += part
    return text


def _parts(chat: ChatFormat) -> Iterator[str | Action]:
    if chat.place == "turn":
        yield from _begun(chat, ".System", chat.no_system)
    elif chat.place == "last":
        yield from _text(chat.no_system)
    if _varies(chat):
        yield Action("$first := true")
    yield Action("range $i, $_ := .Messages")
    yield Action("$last := eq (len (slice $.Messages $i)) 1")
    yield Action('if eq .Role "user"')
    yield from _user(chat)
    yield Action('else if eq .Role "assistant"')
    yield from _assistant(chat)
    yield Action("end")
    if chat.unthinking is not None:
        answer = [
            Action("if and $.IsThinkSet (not $.Think)"), *_text(chat.unthinking),
            Action("else"), *_text(chat.generation), Action("end"),
        ]  # fmt: skip
    else:
        answer = [*_text(chat.generation)]
    yield from _when('and $last (ne .Role "assistant")', answer)
    yield Action("end")


def _varies(chat: ChatFormat) -> bool:
    """Whether the first user's message stands differently from the others."""
    return chat.place == "first" or chat.first_user != chat.user_before


def _user(chat: ChatFormat) -> Iterator[str | Action]:
    if _varies(chat):
        yield Action("if $first")
        if chat.place == "first":
            yield from _begun(chat, "$.System", chat.no_system + chat.first_user)
        else:
            yield from _text(chat.first_user)
        yield Action("$first = false")
        yield Action("else")
        yield from _text(chat.user_before)
        yield Action("end")
    else:
        yield from _text(chat.user_before)
    if chat.place == "last":
        yield from _when("and $last $.System", [*_system(chat, "$.System")])
    yield Action(".Content")
    yield from _text(chat.user_after)


def _assistant(chat: ChatFormat) -> Iterator[str | Action]:
    yield from _text(chat.assistant_before)
    if chat.thinking is not None:
        before, after = chat.thinking
        yield from _when("and $last .Thinking", [*_text(before), Action(".Thinking"), *_text(after)])
    yield Action(".Content")
    yield from _when("not $last", [*_text(chat.assistant_after)])


def _when(condition: str, parts: list[str | Action]) -> Iterator[str | Action]:
    if parts:
        yield Action(f"if {condition}")
        yield from parts
        yield Action("end")


def _begun(chat: ChatFormat, name: str, otherwise: str) -> Iterator[str | Action]:
    """The system message, or what stands for it."""
    yield Action(f"if {name}")
    yield from _system(chat, name)
    if otherwise:
        yield Action("else")
        yield from _text(otherwise)
    yield Action("end")


def _system(chat: ChatFormat, name: str) -> Iterator[str | Action]:
    yield from _text(chat.system_before)
    yield Action(name)
    yield from _text(chat.system_after)


def _text(text: str) -> Iterator[str | Action]:
    """Text as it is, except for what means something to Go or is lost in a Modelfile."""
    for n, piece in enumerate(text.split(TODAY)):
        if n:
            yield Action("currentDate")
        yield from _literal(piece)


def _literal(text: str) -> Iterator[str | Action]:
    plain = ""
    position = 0
    while position < len(text):
        match = _AWKWARD.match(text, position)
        awkward = match.group() if match else text[position]
        if match is None and (awkward.isprintable() or awkward in "\n\t"):
            plain += awkward
        else:
            if plain:
                yield plain
            plain = ""
            yield Action(f'"{"".join(map(_escaped, awkward))}"')
        position += len(awkward)
    if plain:
        yield plain


def _escaped(letter: str) -> str:
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    return letter if letter.isprintable() else f"\\U{ord(letter):08x}"
