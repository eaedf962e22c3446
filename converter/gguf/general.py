"""``general.*``: what a model is called, where it comes from and under which license, from its card and its files."""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import gguf
import numpy as np

from converter.gguf.key_values import KeyValue


def general_key_values(
    directory: Path, name: str, arch: str, shapes: Mapping[str, tuple[int, ...]], file_type: gguf.LlamaFileType
) -> list[KeyValue]:
    """The general section of the header, as llama.cpp's own converter words it.

    ``gguf.Metadata`` reads the model card's front matter, ``config.json``, ``generation_config.json`` and the
    directory's name.

    Args:
        directory: the checkpoint.
        name: what it is called; its directory's name may be a digest.
        arch: llama.cpp's architecture.
        shapes: of all tensors by name, counted for the size label.
        file_type: ``general.file_type``.
    """
    writer = gguf.GGUFWriter(path=None, arch=arch)
    for tensor, shape in shapes.items():
        writer.add_tensor_info(tensor, shape, np.dtype(np.float32), 4 * math.prod(shape))
    total, shared, expert, expert_count = writer.get_total_parameter_count()
    try:
        with named(directory, name) as path:
            metadata = gguf.Metadata.load(None, path, None, total)
    except Exception as error:
        # The card is free text by strangers and decides nothing about the weights; a bad one costs its facts only.
        logging.getLogger(__name__).warning("the model card cannot be read (%s); general.* holds the name only", error)
        metadata = gguf.Metadata()
    metadata.name = metadata.name or name
    if metadata.size_label is None:
        metadata.size_label = gguf.size_label(total, shared, expert, expert_count)
    writer.add_type(gguf.GGUFType.MODEL)
    metadata.set_gguf_meta_model(writer)
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    return [
        KeyValue(key, value.value, value.type, value.sub_type)
        for key, value in writer.kv_data[0].items()
        if key != gguf.Keys.General.ARCHITECTURE
    ]


@contextmanager
def named(directory: Path, name: str) -> Iterator[Path]:
    """A path to the directory that ends with the model's name, from which ``gguf.Metadata`` reads facts."""
    if directory.resolve().name == name:
        yield directory
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / name
        link.symlink_to(directory.resolve())
        yield link
