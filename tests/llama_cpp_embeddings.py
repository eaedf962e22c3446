"""llama.cpp as the reference of encoders: embeddings of a file, and a decoder's logits after the encoder has run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from llama_cpp_oracle import silence
from numpy.typing import NDArray

UNPOOLED = 0
AS_THE_FILE_SAYS = -1
RANK = 4


@contextmanager
def opened(path: Path, tokens: int, pooling: int) -> Iterator[tuple[Any, Any]]:
    """A model and a context that returns embeddings."""
    import llama_cpp

    silence()
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
    assert model, f"llama.cpp does not load {path}"
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = max(64, tokens)
    parameters.type_k = parameters.type_v = llama_cpp.GGML_TYPE_F32
    parameters.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    parameters.embeddings, parameters.pooling_type = True, pooling
    context = llama_cpp.llama_init_from_model(model, parameters)
    try:
        yield model, context
    finally:
        llama_cpp.llama_free(context)
        llama_cpp.llama_model_free(model)


def run(function: Any, context: Any, tokens: list[int]) -> None:
    """``llama_encode`` or ``llama_decode`` on tokens at positions from 0, every output kept."""
    import llama_cpp

    batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for row, token in enumerate(tokens):
        batch.token[row], batch.pos[row], batch.logits[row] = token, row, 1
        batch.n_seq_id[row], batch.seq_id[row][0] = 1, 0
    status = function(context, batch)
    llama_cpp.llama_batch_free(batch)
    assert status == 0


def token_embeddings(path: Path, tokens: list[int]) -> NDArray[np.float32]:
    """What the encoder makes of each token, shape (tokens, embedding length)."""
    import llama_cpp

    with opened(path, len(tokens), UNPOOLED) as (model, context):
        run(llama_cpp.llama_encode, context, tokens)
        width = llama_cpp.llama_model_n_embd(model)
        rows = [llama_cpp.llama_get_embeddings_ith(context, row) for row in range(len(tokens))]
        return np.stack([np.ctypeslib.as_array(row, (width,)).copy() for row in rows])


def text_embedding(path: Path, tokens: list[int], pooling: int = AS_THE_FILE_SAYS) -> NDArray[np.float32]:
    """The one embedding of all tokens, shape (embedding length,); with ``RANK`` the classifier's outputs."""
    import llama_cpp

    with opened(path, len(tokens), pooling) as (model, context):
        decoder = llama_cpp.llama_get_memory(context) and not llama_cpp.llama_model_has_encoder(model)
        run(llama_cpp.llama_decode if decoder else llama_cpp.llama_encode, context, tokens)
        width = llama_cpp.llama_model_n_cls_out(model) if pooling == RANK else llama_cpp.llama_model_n_embd(model)
        return np.ctypeslib.as_array(llama_cpp.llama_get_embeddings_seq(context, 0), (width,)).copy()


def decoder_logits(path: Path, tokens: list[int], decoded: list[int]) -> NDArray[np.float32]:
    """Logits at every decoded token, shape (decoded, vocabulary), after the encoder has read ``tokens``."""
    import llama_cpp

    with opened(path, max(len(tokens), len(decoded)), UNPOOLED) as (model, context):
        run(llama_cpp.llama_encode, context, tokens)
        llama_cpp.llama_set_embeddings(context, False)
        run(llama_cpp.llama_decode, context, decoded)
        width = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        rows = [llama_cpp.llama_get_logits_ith(context, row) for row in range(len(decoded))]
        return np.stack([np.ctypeslib.as_array(row, (width,)).copy() for row in rows])
