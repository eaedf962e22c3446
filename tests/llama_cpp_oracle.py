"""llama.cpp as the reference: its quantizer, and logits of a file."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from llama_cpp_process import isolated
from numpy.typing import NDArray


def quantize(source: Path, target: Path, file_type: int, **how: Any) -> None:
    """The second of the two steps: ``llama_model_quantize`` on a GGUF.

    Args:
        source: f32 GGUF.
        target: the file to write.
        file_type: llama.cpp's file type.
        how: further arguments of :func:`status_of_quantizer`.
    """
    code = status_of_quantizer(source, target, int(file_type), **how)
    assert code == 0, f"llama_model_quantize failed on {source}"


@isolated
def status_of_quantizer(
    source: Path,
    target: Path,
    file_type: int,
    *,
    importance: Mapping[str, NDArray[np.float32]] | None = None,
    tensor_types: Mapping[str, int] | None = None,
    prune_layers: list[int] | None = None,
    **settings: object,
) -> int:
    """What ``llama_model_quantize`` returns.

    Args:
        source: f32 GGUF.
        target: the file to write.
        file_type: llama.cpp's file type.
        importance: by tensor, one weight for each column (of each expert).
        tensor_types: ggml's type by regular expression.
        prune_layers: numbers of blocks to leave out.
        settings: further fields of ``llama_model_quantize_params``.
    """
    import llama_cpp

    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = file_type
    parameters.nthread = 2
    for name, value in settings.items():
        setattr(parameters, name, value)
    if importance is not None:
        weights = {name: np.ascontiguousarray(values.reshape(-1), np.float32) for name, values in importance.items()}
        entries = (llama_cpp.llama_model_imatrix_data * (len(weights) + 1))()  # the last one's name is null
        for entry, (name, values) in zip(entries, weights.items(), strict=False):
            entry.name, entry.size = name.encode(), values.size
            entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        parameters.imatrix = entries
    if tensor_types is not None:
        patterns = (llama_cpp.llama_model_tensor_override * (len(tensor_types) + 1))()
        for pattern, (text, kind) in zip(patterns, tensor_types.items(), strict=False):
            pattern.pattern, pattern.type = text.encode(), kind
        parameters.tt_overrides = patterns
    if prune_layers is not None:
        parameters.prune_layers = (ctypes.c_int32 * (len(prune_layers) + 1))(*prune_layers, -1)
    return int(llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(parameters)))


def tensors(path: Path) -> dict[str, tuple[int, tuple[int, ...], bytes]]:
    """Type, shape and bytes of each tensor of a GGUF."""
    from gguf import GGUFReader

    return {
        tensor.name: (int(tensor.tensor_type), tuple(tensor.shape.tolist()), tensor.data.tobytes())
        for tensor in GGUFReader(path).tensors
    }


@isolated
def logits(path: Path, tokens: Sequence[int], *, adapter: Path | None = None) -> NDArray[np.float32]:
    """Logits at every position, shape (tokens, vocabulary), with a float32 cache and no flash attention.

    Args:
        path: the GGUF file.
        tokens: at positions from 0.
        adapter: a LoRA adapter's GGUF beside it.
    """
    import llama_cpp

    with opened(path, len(tokens)) as (model, context):
        if adapter is not None:
            loaded = llama_cpp.llama_adapter_lora_init(model, os.fsencode(adapter))
            assert loaded, f"llama.cpp does not load {adapter}"
            adapters, scales = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(loaded), (ctypes.c_float * 1)(1.0)
            assert llama_cpp.llama_set_adapters_lora(context, adapters, 1, scales) == 0
        run(llama_cpp.llama_decode, context, tokens)
        return logits_of(model, context, len(tokens))


@isolated
def logits_of_embeddings(
    path: Path, embeddings: NDArray[np.float32], positions: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Logits (tokens, vocabulary) of tokens given by their embeddings, as llama.cpp's programs give an image's.

    Args:
        path: the GGUF file.
        embeddings: float32 (tokens, width).
        positions: (4, tokens), four numbers to a position.
    """
    import llama_cpp

    count, width = embeddings.shape
    with opened(path, count) as (model, context):
        batch = llama_cpp.llama_batch_init(4 * count, width, 1)
        batch.n_tokens = count
        np.ctypeslib.as_array(batch.embd, (embeddings.size,))[:] = embeddings.ravel()
        np.ctypeslib.as_array(batch.pos, (4 * count,))[:] = positions.ravel()
        for row in range(count):
            batch.n_seq_id[row], batch.seq_id[row][0], batch.logits[row] = 1, 0, 1
        status = llama_cpp.llama_decode(context, batch)
        llama_cpp.llama_batch_free(batch)
        assert status == 0
        return logits_of(model, context, count)


@isolated
def name_of_part(prefix: Path, number: int, count: int) -> str:
    """The path at which llama.cpp looks for a part of a file."""
    import llama_cpp

    name = ctypes.create_string_buffer(500)
    assert llama_cpp.llama_split_path(name, 500, os.fsencode(prefix), number, count)
    return name.value.decode()


@contextmanager
def opened(path: Path, tokens: int, **parameters: Any) -> Iterator[tuple[Any, Any]]:
    """A model, loaded as llama.cpp does by default, and a context; in the child.

    Args:
        path: the GGUF file.
        tokens: how many are computed at once.
        parameters: further fields of ``llama_context_params``.
    """
    import llama_cpp

    model = llama_cpp.llama_model_load_from_file(os.fsencode(path), llama_cpp.llama_model_default_params())
    assert model, f"llama.cpp does not load {path}"
    chosen = llama_cpp.llama_context_default_params()
    chosen.n_ctx = chosen.n_batch = chosen.n_ubatch = max(64, tokens)
    chosen.n_threads = chosen.n_threads_batch = 1  # the models are tiny
    chosen.type_k = chosen.type_v = llama_cpp.GGML_TYPE_F32
    chosen.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    for name, value in parameters.items():
        setattr(chosen, name, value)
    context = llama_cpp.llama_init_from_model(model, chosen)
    assert context, f"llama.cpp makes no context for {path}"
    try:
        yield model, context
    finally:
        llama_cpp.llama_free(context)
        llama_cpp.llama_model_free(model)


def run(function: Any, context: Any, tokens: Sequence[int]) -> None:
    """``llama_encode`` or ``llama_decode`` on tokens at positions from 0, every output kept; in the child."""
    import llama_cpp

    batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for row, token in enumerate(tokens):
        batch.token[row], batch.pos[row], batch.logits[row] = token, row, 1
        batch.n_seq_id[row], batch.seq_id[row][0] = 1, 0
    status = function(context, batch)
    llama_cpp.llama_batch_free(batch)
    assert status == 0


def logits_of(model: Any, context: Any, count: int) -> NDArray[np.float32]:
    """Logits that were just computed, shape (count, vocabulary); in the child."""
    import llama_cpp

    width = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    rows = [llama_cpp.llama_get_logits_ith(context, row) for row in range(count)]
    return np.stack([np.ctypeslib.as_array(row, (width,)).copy() for row in rows])
