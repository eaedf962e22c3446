"""The base with its adapters as PEFT runs it, for comparing what was merged with what was trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from converter.adapters.files import open_adapter
from converter.adapters.merge import is_embedding


def with_adapters(model: Any, directories: Sequence[str], *, merged: bool = False) -> Any:
    """A model of transformers with PEFT's adapters in its modules, all of them active.

    Args:
        model: the base, in float32.
        directories: the adapters' directories, in the order of merging.
        merged: let PEFT merge them; by default they stay beside the base's weights.

    Raises:
        ImportError: PEFT is not installed.
        Exception: whatever PEFT raises of adapters that do not fit.
    """
    from peft import PeftModel

    rows = max(map(vocabulary_rows, directories), default=0)
    if rows > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(rows)
    names = [f"adapter{number}" for number in range(len(directories))]
    adapted: Any = PeftModel.from_pretrained(model, directories[0], adapter_name=names[0])
    for name, directory in list(zip(names, directories, strict=True))[1:]:
        adapted.load_adapter(directory, name)
    adapted.base_model.set_adapter(names)
    return adapted.merge_and_unload() if merged else adapted.get_base_model().eval()


def vocabulary_rows(directory: str) -> int:
    """Rows of the embedding that an adapter brings along; 0 where it brings none."""
    adapter = open_adapter(Path(directory))
    for file in adapter.opened:
        file.close()
    embeddings = {**adapter.replaced, **adapter.bases}
    return max((tensor.rows for name, tensor in embeddings.items() if is_embedding(name)), default=0)
