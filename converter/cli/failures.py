"""What the command line says, and exits with, when nothing came of it."""

from __future__ import annotations

import click

from converter.errors import ConversionError

#: What is told in a line or two; everything else is a defect and keeps its traceback.
Failure = click.ClickException | click.Abort | ConversionError | OSError


def told(error: Failure, *, json: bool) -> int:
    """Tell of a failure on standard error and return the exit code.

    Args:
        error: the failure.
        json: as the event ``failed``; otherwise in words.
    """
    message, code = _in_words(error)
    if json:
        from converter.cli.logs import configure_logs, event

        configure_logs(json=True)
        kind = "Interrupted" if isinstance(error, click.Abort) else type(error).__name__
        event("failed", message, error=kind, exit_code=code)
    elif isinstance(error, click.Abort):
        click.echo(f"convert: {message}", err=True)
    else:
        click.echo(f"convert: error: {message}", err=True)
    return code


def _in_words(error: Failure) -> tuple[str, int]:
    """One line, and the exit code."""
    if isinstance(error, click.BadParameter) and not isinstance(error, click.MissingParameter):
        flags = error.param.opts if error.param is not None else ()
        return f"{flags[0]}: {error.message}" if flags else error.message, error.exit_code
    if isinstance(error, click.UsageError):
        message = error.format_message().rstrip(".")
        where = f"; see: {error.ctx.command_path} --help" if error.ctx is not None else ""
        return f"{message[:1].lower()}{message[1:]}{where}", error.exit_code
    if isinstance(error, click.ClickException):
        return error.format_message(), error.exit_code
    if isinstance(error, click.Abort):
        # Click turns KeyboardInterrupt into this, after ending the line that a bar may have left open.
        terminated = error.__cause__ is not None and error.__cause__.args == ("terminated",)
        return "interrupted; run the same command again to go on", 143 if terminated else 130
    if isinstance(error, ConversionError):
        return str(error), error.exit_code
    return f"{error.filename or 'input or output'}: {error.strerror or error}", 1
