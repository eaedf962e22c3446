"""A checkpoint's chat template, in Jinja, rendered as transformers does.

The template is a stranger's program. It runs in Jinja's sandbox, and the sandbox in a process of its own with bounds on
time and memory: call :func:`render` through :func:`converter.runtime.run_isolated`.
"""

from __future__ import annotations

import json
import resource
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from converter.ollama.go_template import TODAY

SECONDS = 3
MEMORY = 2 << 30
LONGEST = 1_000_000
"""Characters of a prompt at most."""


def render(template: str, variables: dict[str, Any], jobs: list[dict[str, Any]]) -> dict[str, Any]:
    """Render a template for several conversations.

    Args:
        template: Jinja's source.
        variables: the same for each: the special tokens' texts.
        jobs: the others of each: ``messages``, ``add_generation_prompt``, ….

    Returns:
        ``texts``: for each job the prompt, or None where the template refuses; ``TODAY`` stands for a date written
        year-month-day. ``dated``: whether another form of the day's date is in them. ``error``: why nothing was
        rendered, else None.
    """
    _bound()
    from jinja2.exceptions import TemplateSyntaxError, UndefinedError

    clock = _Clock()
    environment = _environment()
    try:
        program = environment.from_string(template)
    except (TemplateSyntaxError, RecursionError, MemoryError) as error:
        return {"texts": [], "dated": False, "error": f"it is not valid Jinja: {_first_line(error)}"}
    texts: list[str | None] = []
    reason = None
    for job in jobs:
        given = {"tools": None, "documents": None, **variables, **job}
        try:
            try:
                text = program.render(given)
            except UndefinedError:
                # Templates that ask whether a clock is there have a date of their own where there is none.
                text = program.render(given, strftime_now=clock.now)
        except Exception as error:  # whatever a stranger's program may raise
            texts.append(None)
            reason = reason or _first_line(error)
        else:
            texts.append(text if len(text) <= LONGEST else None)
    error_text = None if any(text is not None for text in texts) else f"it renders nothing: {reason}"
    return {"texts": texts, "dated": clock.other, "error": error_text}


def _bound() -> None:
    """Limit what is used from here on; libraries may have reserved much address space by now."""
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


class _Clock:
    """The day's date; ``other`` tells that it was asked for in a form that Ollama's language lacks."""

    other = False

    def now(self, form: str) -> str:
        if form == "%Y-%m-%d":
            return TODAY
        self.other = True
        return datetime.now().strftime(form)


def _environment() -> Any:
    """The environment of transformers' ``apply_chat_template``, without a clock."""
    from jinja2 import nodes
    from jinja2.exceptions import TemplateError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """``{% generation %}`` marks what the model says, for training; it renders as what is in it."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def raise_exception(message: str) -> NoReturn:
        raise TemplateError(message)

    def tojson(value: Any, **options: Any) -> str:
        return json.dumps(value, **{"ensure_ascii": False, **options})

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    return environment


def _first_line(error: BaseException) -> str:
    """What a stranger's program says, as it may be printed."""
    line = next(iter(str(error).splitlines()), type(error).__name__)
    line = "".join(letter if letter.isprintable() else " " for letter in line)
    return line if len(line) <= 200 else f"{line[:197]}..."
