"""llama.cpp as the reference: its quantizer, and logits of a file."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def quantize(source: Path, target: Path, file_type: int, *, pure: bool = False) -> None:
    """The second of the two steps: ``llama_model_quantize`` on an f32 GGUF."""
    import llama_cpp

    silence()
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = file_type
    parameters.nthread = 2
    parameters.pure = pure
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
