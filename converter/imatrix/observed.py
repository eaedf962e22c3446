"""A model in llama.cpp whose matrix products are observed. Only ever imported in a child process."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from converter.imatrix.activations import Activations
from converter.imatrix.ggml_tensor import F32
from converter.imatrix.matrix import ImatrixError
from converter.runtime.bindings import llama_cpp_bindings

LARGEST_BATCH = 512
"""Tokens that are computed at once, in llama.cpp as here; a longer chunk goes through in several batches."""
ERROR_LEVEL = 4  # ggml_log_level, as the callback receives it


class ObservedModel:
    """A model on the CPU, of which every node of the graph passes a callback. To be used in a ``with`` statement.

    Attributes:
        context_length: tokens that the model was trained to see.
    """

    def __init__(self, path: Path, threads: int) -> None:
        """Load a GGUF file.

        Raises:
            ImatrixError: with llama.cpp's first error, or why this kind of model cannot be run on a text.
        """
        os.environ["GGML_NO_BACKTRACE"] = "1"  # an assertion's own line shall be the last of the log
        llama_cpp = llama_cpp_bindings()

        self._api, self._threads = llama_cpp, threads
        self._first_error = ""
        self._log = llama_cpp.llama_log_callback(self._keep_error)
        llama_cpp.llama_log_set(self._log, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = 0
        params.use_extra_bufts = False  # weights stay as the file has them; no second copy for speed
        self._context: Any = None
        self._model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
        if not self._model:
            raise self._failure("the file could not be loaded")
        if llama_cpp.llama_model_has_encoder(self._model) or not llama_cpp.llama_model_has_decoder(self._model):
            raise ImatrixError("the model has an encoder of its own, so it cannot be run on a plain text")
        self._vocab = llama_cpp.llama_model_get_vocab(self._model)
        self.context_length: int = llama_cpp.llama_model_n_ctx_train(self._model)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._context:
            self._api.llama_free(self._context)
        self._api.llama_model_free(self._model)

    def token_ids(self, text: bytes) -> NDArray[np.int32]:
        """Tokens of a text in UTF-8, with the special ones that the file asks for around it."""
        ids = np.empty(len(text) + 8, np.int32)
        pointer = ids.ctypes.data_as(self._api.llama_token_p)
        count = self._api.llama_tokenize(self._vocab, text, len(text), pointer, len(ids), True, False)
        return ids[: max(count, 0)].copy()

    def observe(self, activations: Activations, tokens: int) -> None:
        """Make room for chunks of ``tokens`` tokens and let the accumulators see their products.

        The cache is float32 and attention explicit, so that what is summed is the model's own and not a rounding of it.

        Raises:
            ImatrixError: with llama.cpp's first error.
        """
        self._activations = activations
        self._callback = self._api.ggml_backend_sched_eval_callback(activations.observe)
        params = self._api.llama_context_default_params()
        params.n_ctx = params.n_batch = tokens
        params.n_ubatch = min(tokens, LARGEST_BATCH)
        params.n_threads = params.n_threads_batch = self._threads
        params.flash_attn_type = self._api.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.type_k = params.type_v = F32
        params.offload_kqv = params.op_offload = False
        params.cb_eval = self._callback
        self._context = self._api.llama_init_from_model(self._model, params)
        if not self._context:
            raise self._failure("no context could be made")

    def add_chunk(self, tokens: NDArray[np.int32]) -> None:
        """Run one chunk by itself, its first token replaced by the one that begins every text, as llama.cpp does.

        Raises:
            ImatrixError: llama.cpp could not compute, or an activation is not finite.
        """
        batch = self._api.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for row, token in enumerate(tokens.tolist()):
            # All outputs are asked for: llama.cpp leaves the last layer's products out for the others.
            batch.token[row], batch.pos[row], batch.logits[row] = token, row, 1
            batch.n_seq_id[row], batch.seq_id[row][0] = 1, 0
        if self._api.llama_vocab_get_add_bos(self._vocab):
            batch.token[0] = self._api.llama_vocab_bos(self._vocab)
        memory = self._api.llama_get_memory(self._context)
        if memory:
            self._api.llama_memory_clear(memory, True)
        status = self._api.llama_decode(self._context, batch)
        self._api.llama_batch_free(batch)
        if self._activations.failure is not None:
            raise self._activations.failure
        if status != 0:
            raise self._failure(f"decoding {len(tokens)} tokens failed with status {status}")

    def _keep_error(self, level: int, text: bytes, _: object) -> None:
        if level == ERROR_LEVEL:
            line = " ".join(text.decode("utf-8", "replace").split())
            self._first_error = self._first_error or line
            print(line, file=sys.stderr, flush=True)

    def _failure(self, otherwise: str) -> ImatrixError:
        return ImatrixError(f"llama.cpp cannot run it: {self._first_error or otherwise}")
