"""Ollama: a GGUF's Modelfile, and the file itself posted to a running server."""

from __future__ import annotations

from pathlib import Path


def modelfile(gguf: Path, *, directory: Path | None = None) -> str:
    """The Modelfile of a finished GGUF, to be written beside it.

    FROM names the file, or a model's parts, as ``./NAME``; TEMPLATE is what the model's chat template does, proved by
    rendering both; PARAMETER are the stops and the checkpoint's own sampling; LICENSE is the text or the name.

    Args:
        gguf: the file.
        directory: the checkpoint it was made of.

    Returns:
        The text, in UTF-8.

    Raises:
        CheckpointError: a file cannot be read, or a field of ``generation_config.json`` is not what it has to be.
        UsageError: the file's name holds what a Modelfile cannot.
    """
    # Imported here: the process that renders a stranger's template imports this package and needs nothing of it.
    from converter.ollama.describe import describe

    return describe(gguf, directory).text()
