"""What the source itself computes for the passage: run once for all outputs that are compared with it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from converter.errors import VerificationError
from converter.verification.isolation import ask
from converter.verification.kinds import KINDS


class SourceResults:
    """Results of one source, kept on the disk until this context manager is left. For one thread.

    Args:
        source: the checkpoint's directory.
        tokenizer: directory with the tokenizer's files.
        adapters: directories of LoRA adapters that the source is run with.
        trust_remote_code: let transformers run the checkpoint's own code.
        load_dtype: ``f16`` or ``bf16`` where the source's weights were rounded to that type first.
    """

    def __init__(
        self,
        source: Path,
        tokenizer: Path,
        *,
        adapters: Sequence[Path] = (),
        trust_remote_code: bool = False,
        load_dtype: str | None = None,
    ) -> None:
        self._source = source
        self._request: dict[str, Any] = {
            "source": str(source),
            "tokenizer": str(tokenizer),
            "adapters": [str(adapter) for adapter in adapters],
            "trust_remote_code": trust_remote_code,
            "load_dtype": load_dtype,
        }
        self._folders: dict[tuple[str, int, int], tempfile.TemporaryDirectory[str]] = {}

    def folder(
        self,
        kind: str,
        context_length: int,
        row_length: int,
        *,
        batch_size: int,
        threads: int,
        tell: Callable[[str], None],
    ) -> str:
        """Where ``run_source.write_results`` left tokens and results, as its arguments of these names say.

        Args:
            tell: called before the source is run.

        Raises:
            VerificationError: the source cannot be run.
        """
        key = kind, context_length, row_length
        if key not in self._folders:
            tell("running the source with transformers")
            folder = tempfile.TemporaryDirectory(prefix="results-")
            how = {"kind": kind, "context_length": context_length, "row_length": row_length, "threads": threads}
            try:
                ask("run_source:write_results", folder=folder.name, batch_size=batch_size, **how, **self._request)
            except BaseException as error:
                folder.cleanup()
                if not isinstance(error, VerificationError):
                    raise
                raise VerificationError(
                    f"{self._source}: its {KINDS[kind].results} cannot be compared: {error}; verify with level load "
                    "instead"
                ) from error
            self._folders[key] = folder
        return self._folders[key].name

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._folders:
            self._folders.popitem()[1].cleanup()
