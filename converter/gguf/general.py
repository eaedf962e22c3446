"""``general.*``: what a model is called, where it comes from and under which license, from its card and its files."""

from __future__ import annotations

import codecs
import logging
import math
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import gguf
import numpy as np

from converter.gguf.key_values import KeyValue

CARD = "README.md"
CONFIGURATIONS = ("config.json", "generation_config.json")


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
    """A path that ends with the model's name, to the directory or to as much of it as ``gguf.Metadata`` reads.

    It takes no byte-order mark, so a file that begins with one is copied without.
    """
    marked = [file for file in CONFIGURATIONS if begins_with_mark(directory / file)]
    if directory.resolve().name == name and not marked:
        yield directory
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / name
        if not marked:
            link.symlink_to(directory.resolve())
            yield link
            return
        link.mkdir()
        for path in (directory / file for file in (CARD, *CONFIGURATIONS)):
            if path.name in marked:
                (link / path.name).write_bytes(path.read_bytes().removeprefix(codecs.BOM_UTF8))
            elif path.is_file():
                (link / path.name).symlink_to(path.resolve())
        yield link


def begins_with_mark(path: Path) -> bool:
    """Whether a file begins with UTF-8's byte-order mark."""
    try:
        with path.open("rb") as file:
            return file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8
    except OSError:
        return False
