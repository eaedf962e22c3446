"""llama.cpp as the reference: its quantizer, and logits of a file."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def quantize(
    source: Path,
    target: Path,
    file_type: int,
    *,
    importance: Mapping[str, NDArray[np.float32]] | None = None,
    tensor_types: Mapping[str, int] | None = None,
    prune_layers: list[int] | None = None,
    **settings: object,
) -> None:
    """The second of the two steps: ``llama_model_quantize`` on a GGUF.

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

    silence()
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = file_type
    parameters.nthread = 2
    for name, value in settings.items():
        setattr(parameters, name, value)
    if importance is not None:
        weights = {name: np.ascontiguousarray(values.reshape(-1), np.float32) for name, values in importance.items()}
        entries = (llama_cpp.llama_model_imatrix_data * (len(weights) + 1))()
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
    code = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(parameters))
    assert code == 0, f"llama_model_quantize failed on {source}"


def tensors(path: Path) -> dict[str, tuple[int, tuple[int, ...], bytes]]:
    """Type, shape and bytes of each tensor of a GGUF."""
    from gguf import GGUFReader

    return {
        tensor.name: (int(tensor.tensor_type), tuple(tensor.shape.tolist()), tensor.data.tobytes())
        for tensor in GGUFReader(path).tensors
    }


def logits(path: Path, tokens: list[int]) -> NDArray[np.float32]:
    """Logits at every position, shape (tokens, vocabulary), with a float32 cache and no flash attention."""
    import llama_cpp

    silence()
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
    assert model, f"llama.cpp does not load {path}"
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = max(64, len(tokens))
    parameters.type_k = parameters.type_v = llama_cpp.GGML_TYPE_F32
    parameters.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = llama_cpp.llama_init_from_model(model, parameters)
    batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
    try:
        batch.n_tokens = len(tokens)
        for position, token in enumerate(tokens):
            batch.token[position] = token
            batch.pos[position] = position
            batch.n_seq_id[position] = 1
            batch.seq_id[position][0] = 0
            batch.logits[position] = 1
        assert llama_cpp.llama_decode(context, batch) == 0
        width = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        return np.stack(
            [
                np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, i), (width,)).copy()
                for i in range(len(tokens))
            ]
        )
    finally:
        llama_cpp.llama_batch_free(batch)
        llama_cpp.llama_free(context)
        llama_cpp.llama_model_free(model)


@ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
def _discard(level: int, text: bytes, data: ctypes.c_void_p) -> None:
    pass


def silence() -> None:
    import llama_cpp

    llama_cpp.llama_log_set(_discard, None)
