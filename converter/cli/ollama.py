"""``convert ollama MODEL NAME``: give a GGUF to a running Ollama server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from converter.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from converter.ollama.syntax import Modelfile


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("name")
@click.option(
    "--host", metavar="URL", help="Address of the server.  [default: OLLAMA_HOST, or port 11434 on this machine]"
)
@click.option(
    "--modelfile", metavar="FILE", type=click.Path(path_type=Path), help="Modelfile to use; its FROM is ignored."
)
@click.option("--source", metavar="DIR", type=click.Path(path_type=Path), help="Checkpoint that MODEL was made from.")
@click.option("--adapter", metavar="FILE", type=click.Path(path_type=Path), help="GGUF with a LoRA adapter for it.")
@click.option("--quiet", "-q", is_flag=True, help="Print only errors.")
@click.pass_context
def ollama(
    context: click.Context,
    model: Path,
    name: str,
    host: str | None,
    modelfile: Path | None,
    source: Path | None,
    adapter: Path | None,
    quiet: bool,
) -> None:
    """Add MODEL, a GGUF file or one of its parts, to a running Ollama server as NAME.

    \b
        convert ollama my-model-q4_0.gguf my-model

    The template, stop words and license come from the GGUF; with --source, the sampling settings and the license's
    text come from the checkpoint. What the server already has is not sent again.
    """
    above = context.parent.params if context.parent is not None else {}
    run(model, name, host, modelfile, source, adapter, quiet=quiet or above.get("quiet", False))


def run(
    model: Path,
    name: str,
    host: str | None,
    modelfile: Path | None,
    source: Path | None,
    adapter: Path | None,
    *,
    quiet: bool,
) -> None:
    """Describe, post with a bar in bytes, and say how to run it."""
    from tqdm import tqdm

    from converter.gguf.parts import open_parts
    from converter.ollama.server import check_name, post

    check_name(name)
    if model.is_dir():
        raise UsageError(
            f"{model}: is a directory, and Ollama takes a GGUF file; make one first: convert {model} q4_k_m "
            f"--output {name.replace(':', '-').replace('/', '-')}.gguf"
        )
    if modelfile is not None and source is not None:
        raise UsageError("--source is for what --modelfile says already; give one of them")
    files = [part.file.path for part in open_parts(model)]
    description = _described(model, modelfile, source)
    if adapter is None and description.adapter and modelfile is not None:
        adapter = modelfile.parent / description.adapter
    bar: tqdm[Any] | None = None
    doing = ""

    def show(what: str, done: int, total: int) -> None:
        nonlocal bar, doing
        if what != doing:
            if bar is not None:
                bar.close()
            bar = tqdm(
                total=total or None, desc=what, unit="B", unit_scale=True, dynamic_ncols=True, file=sys.stderr,
                disable=quiet or not total,
            )  # fmt: skip
            doing = what
        if bar is not None:
            bar.update(done - bar.n)

    try:
        posted = post(name, description, files, adapter=adapter, host=host, progress=show)
    finally:
        if bar is not None:
            bar.close()
    if not quiet:
        known = f", {posted.known / 1e6:.1f} MB were there already" if posted.known else ""
        click.echo(f"{posted.host} (Ollama {posted.version}) has {name}: {posted.sent / 1e6:.1f} MB sent{known}")
        click.echo(f"ollama run {name}")


def _described(model: Path, modelfile: Path | None, source: Path | None) -> Modelfile:
    from converter.ollama.describe import describe
    from converter.ollama.syntax import read_modelfile

    if modelfile is None:
        return describe(model, source)
    try:
        return read_modelfile(modelfile.read_text(encoding="utf-8"), str(modelfile))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise CheckpointError(f"{modelfile}: cannot be read: {reason}") from None
