"""What the source itself computes for the passage: run once for all outputs that are compared with it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from converter.errors import EnvironmentFailure, VerificationError
from converter.verification.isolation import ask
from converter.verification.judge import KINDS
from converter.verification.memory import check_memory


class Computed(NamedTuple):
    """What a run of the source left.

    Attributes:
        folder: where its ``results`` lie.
        note: how the source was read, where the verdict should say it.
        unlike: how it differs from the output in the length of a row; empty where it does not.
    """

    folder: str
    note: str = ""
    unlike: str = ""


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
        self._found: dict[tuple[str, int, int], Computed] = {}
        self._folders: list[tempfile.TemporaryDirectory[str]] = []

    def computed(
        self,
        kind: str,
        context_length: int,
        row_length: int,
        *,
        batch_size: int,
        threads: int,
        tell: Callable[[str], None],
    ) -> Computed:
        """What ``run_source.write_results`` left, as its arguments of these names say.

        Args:
            tell: called before the source is run.

        Raises:
            EnvironmentFailure: the source cannot be run, which says nothing about an output.
        """
        key = kind, context_length, row_length
        if key not in self._found:
            check_memory(self._source, vocab_size=row_length, batch_size=batch_size)
            tell("running the source with transformers")
            folder = tempfile.TemporaryDirectory(prefix="results-")
            self._folders.append(folder)
            how = {"kind": kind, "context_length": context_length, "row_length": row_length, "threads": threads}
            try:
                answer = ask(
                    "run_source:write_results", folder=folder.name, batch_size=batch_size, **how, **self._request
                )
            except (VerificationError, EnvironmentFailure) as error:
                raise EnvironmentFailure(
                    f"{self._source}: its {KINDS[kind].results} cannot be compared: {error}; verify with level load "
                    "instead"
                ) from error
            self._found[key] = Computed(folder.name, answer["note"], answer.get("unlike", ""))
        return self._found[key]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._found.clear()
        while self._folders:
            self._folders.pop().cleanup()
