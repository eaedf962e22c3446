"""The part of Go's ``text/template`` that Ollama's templates use, and what Ollama passes to one.

Semantics as documented at https://pkg.go.dev/text/template; ``test_text_template.py`` compares with what Go itself
rendered. Values are those of a JSON document: fields of a dictionary that are missing are nil.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

TODAY = "2026-01-31"
_ACTION = re.compile(r"\{\{(- )?(.*?)( -)?\}\}", re.DOTALL)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|:=|[(),=]|[^\s(),="]+')


@dataclass
class Branch:
    """``if`` or ``range``: its first word, pipeline, what follows, and what follows ``else``."""

    kind: str
    code: list[str]
    body: list[Any] = field(default_factory=list)
    otherwise: list[Any] = field(default_factory=list)


def values(messages: list[dict[str, str]], think: bool | None = None) -> dict[str, Any]:
    """What Ollama makes of a conversation: neighbours of one role joined, system messages joined beside them."""
    joined: list[dict[str, str]] = []
    for message in messages:
        if joined and joined[-1]["Role"] == message["role"]:
            joined[-1]["Content"] += "\n\n" + message["content"]
        else:
            thoughts = message.get("reasoning_content", "")
            joined.append({"Role": message["role"], "Content": message["content"], "Thinking": thoughts})
    system = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
    return {"System": system, "Messages": joined, "Think": bool(think), "IsThinkSet": think is not None}


def render(template: str, data: dict[str, Any]) -> str:
    tree = _parse(iter(_pieces(template)))[0]
    return "".join(_execute(tree, data, [{"$": data}]))


def _pieces(template: str) -> Iterator[str | list[str]]:
    """Texts, trimmed where an action says so, and the tokens of actions."""
    position, trim = 0, False
    for action in _ACTION.finditer(template):
        text = template[position : action.start()]
        text = text.lstrip(" \t\r\n") if trim else text
        yield text.rstrip(" \t\r\n") if action[1] else text
        yield _TOKEN.findall(action[2])
        position, trim = action.end(), bool(action[3])
    yield template[position:].lstrip(" \t\r\n") if trim else template[position:]


def _parse(pieces: Iterator[str | list[str]]) -> tuple[list[Any], list[str]]:
    """Nodes up to an ``end`` or ``else``, and that action."""
    nodes: list[Any] = []
    for piece in pieces:
        if isinstance(piece, str):
            nodes.append(piece)
        elif piece[0] in ("end", "else"):
            return nodes, piece
        elif piece[0] in ("if", "range"):
            nodes.append(_branch(piece, pieces))
        else:
            nodes.append(piece)
    return nodes, []


def _branch(opening: list[str], pieces: Iterator[str | list[str]]) -> Branch:
    branch = Branch(opening[0], opening[1:])
    branch.body, closing = _parse(pieces)
    if closing == ["else"]:
        branch.otherwise, closing = _parse(pieces)
    elif closing[0] == "else":  # "else if" is an "if" of its own that shares the "end"
        branch.otherwise, closing = [_branch(closing[1:], pieces)], ["end"]
    assert closing == ["end"], closing
    return branch


def _execute(nodes: list[Any], dot: Any, scopes: list[dict[str, Any]]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, str):
            yield node
        elif isinstance(node, Branch):
            yield from _execute_branch(node, dot, scopes)
        elif node[0].startswith("$") and node[1:2] == [":="]:
            scopes[-1][node[0]] = _evaluate(node[2:], dot, scopes)
        elif node[0].startswith("$") and node[1:2] == ["="]:
            scope = next(scope for scope in reversed(scopes) if node[0] in scope)
            scope[node[0]] = _evaluate(node[2:], dot, scopes)
        else:
            value = _evaluate(node, dot, scopes)
            assert isinstance(value, str), (node, value)
            yield value


def _execute_branch(branch: Branch, dot: Any, scopes: list[dict[str, Any]]) -> Iterator[str]:
    if branch.kind == "if":
        chosen = branch.body if _evaluate(branch.code, dot, scopes) else branch.otherwise
        yield from _execute(chosen, dot, [*scopes, {}])
        return
    index, _, element, _, *code = branch.code
    items = _evaluate(code, dot, scopes)
    for number, item in enumerate(items):
        yield from _execute(branch.body, item, [*scopes, {index: number, element: item}])
    if not items:
        yield from _execute(branch.otherwise, dot, [*scopes, {}])


def _evaluate(code: list[str], dot: Any, scopes: list[dict[str, Any]]) -> Any:
    """A function with its arguments, or one operand. Arguments are evaluated late: ``and`` and ``or`` may not need."""
    operands, position = [], 0
    while position < len(code):
        begin = position
        depth = 0
        while True:
            depth += {"(": 1, ")": -1}.get(code[position], 0)
            position += 1
            if not depth:
                break
        operands.append(code[begin:position])
    head, *rest = operands
    if len(head) > 1:
        assert not rest, code
        return _evaluate(head[1:-1], dot, scopes)
    if head[0] not in _FUNCTIONS:
        assert not rest, code
        return _operand(head[0], dot, scopes)
    return _FUNCTIONS[head[0]](_evaluate(operand, dot, scopes) for operand in rest)


def _operand(word: str, dot: Any, scopes: list[dict[str, Any]]) -> Any:
    if word.startswith('"'):
        return json.loads(re.sub(r"\\U000(.)(....)", lambda code: _utf16(int(code[1] + code[2], 16)), word))
    if word.isdigit() or word in ("true", "false"):
        return json.loads(word)
    if word.startswith("$"):
        name, *fields = word.split(".")
        value = next(scope[name] for scope in reversed(scopes) if name in scope)
    else:
        assert word.startswith("."), word
        fields, value = [name for name in word.split(".") if name], dot
    for name in fields:
        value = value.get(name)
    return value


def _utf16(number: int) -> str:
    return json.dumps(chr(number))[1:-1]


def _all(operands: Iterator[Any]) -> Any:
    for value in operands:
        if not value:
            return value
    return value


def _any(operands: Iterator[Any]) -> Any:
    for value in operands:
        if value:
            return value
    return value


_FUNCTIONS: dict[str, Any] = {
    "and": _all,
    "or": _any,
    "not": lambda operands: not next(operands),
    "eq": lambda operands: next(operands) == next(operands),
    "ne": lambda operands: next(operands) != next(operands),
    "len": lambda operands: len(next(operands)),
    "slice": lambda operands: next(operands)[next(operands) :],
    "currentDate": lambda operands: TODAY,
}
