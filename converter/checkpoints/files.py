"""The files of a checkpoint: those in its directory, and those that belong there but lie elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from converter.errors import CheckpointError
from converter.sources.source_file import SourceFile, unreadable

CONFIG = "config.json"
#: What diffusers writes beside the directories of a pipeline's parts.
PIPELINE = "model_index.json"
EXPECTED = f"a checkpoint directory, which holds {CONFIG}, weights (*.safetensors or *.bin) and the tokenizer's files"

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


@dataclass(frozen=True)
class Files:
    """A checkpoint's files by name.

    Attributes:
        directory: where most of them lie.
        elsewhere: files that count as files of the directory, before one of the same name that is there.
        names: all names.
    """

    directory: Path
    elsewhere: Mapping[str, SourceFile]
    names: frozenset[str]

    @classmethod
    def of(cls, directory: Path, elsewhere: Mapping[str, SourceFile]) -> Self:
        """List a directory.

        Raises:
            CheckpointError: there is none, or it cannot be read.
        """
        # A name that would break a message's line cannot be meant.
        try:
            names = {path.name for path in directory.iterdir() if path.name.isprintable()}
        except FileNotFoundError:
            advice = f"expected {EXPECTED}"
            if _HUB_ID.fullmatch(str(directory)):
                advice += f"; if it is a Hub model id, download it first: hf download {directory} --local-dir DIRECTORY"
            raise CheckpointError(f"{directory}: no such directory; {advice}") from None
        except NotADirectoryError:
            raise CheckpointError(f"{directory}: is a file; expected {EXPECTED}") from None
        except OSError as error:
            raise unreadable(directory, error) from error
        return cls(directory, elsewhere, frozenset(names | elsewhere.keys()))

    def open(self, name: str) -> SourceFile:
        """Raises as :class:`SourceFile`."""
        return self.elsewhere[name] if name in self.elsewhere else SourceFile(self.directory / name)
