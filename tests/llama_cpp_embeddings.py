"""llama.cpp as the reference of encoders: embeddings of a file, and a decoder's logits after the encoder has run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from llama_cpp_oracle import logits_of, opened, run
from llama_cpp_process import isolated
from numpy.typing import NDArray

UNPOOLED = 0
AS_THE_FILE_SAYS = -1
RANK = 4


@isolated
def token_embeddings(path: Path, tokens: Sequence[int]) -> NDArray[np.float32]:
    """What the encoder makes of each token, shape (tokens, embedding length)."""
    import llama_cpp

    with opened(path, len(tokens), embeddings=True, pooling_type=UNPOOLED) as (model, context):
        run(llama_cpp.llama_encode, context, tokens)
        width = llama_cpp.llama_model_n_embd(model)
        rows = [llama_cpp.llama_get_embeddings_ith(context, row) for row in range(len(tokens))]
        return np.stack([np.ctypeslib.as_array(row, (width,)).copy() for row in rows])


@isolated
def text_embedding(path: Path, tokens: Sequence[int], pooling: int = AS_THE_FILE_SAYS) -> NDArray[np.float32]:
    """The one embedding of all tokens, shape (embedding length,); with ``RANK`` the classifier's outputs."""
    import llama_cpp

    with opened(path, len(tokens), embeddings=True, pooling_type=pooling) as (model, context):
        decoder = llama_cpp.llama_get_memory(context) and not llama_cpp.llama_model_has_encoder(model)
        run(llama_cpp.llama_decode if decoder else llama_cpp.llama_encode, context, tokens)
        width = llama_cpp.llama_model_n_cls_out(model) if pooling == RANK else llama_cpp.llama_model_n_embd(model)
        return np.ctypeslib.as_array(llama_cpp.llama_get_embeddings_seq(context, 0), (width,)).copy()


@isolated
def decoder_logits(path: Path, tokens: Sequence[int], decoded: Sequence[int]) -> NDArray[np.float32]:
    """Logits at every decoded token, shape (decoded, vocabulary), after the encoder has read ``tokens``."""
    import llama_cpp

    room = max(len(tokens), len(decoded))
    with opened(path, room, embeddings=True, pooling_type=UNPOOLED) as (model, context):
        run(llama_cpp.llama_encode, context, tokens)
        llama_cpp.llama_set_embeddings(context, False)
        run(llama_cpp.llama_decode, context, decoded)
        return logits_of(model, context, len(decoded))
