"""A model in llama.cpp whose matrix products are observed. Only ever imported in a child process."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from converter.errors import VerificationError
from converter.imatrix.activations import Activations
from converter.verification.llama import GGML_TYPE_F32, LlamaModel

LARGEST_BATCH = 512
"""Tokens that are computed at once, in llama.cpp as here; a longer chunk goes through in several batches."""


class ObservedModel(LlamaModel):
    """A model of which every node of the graph passes a callback."""

    def observe(self, activations: Activations, tokens: int) -> None:
        """Make room for chunks of ``tokens`` tokens and let the accumulators see their products.

        The cache is float32 and attention explicit, so that what is summed is the model's own and not a rounding of it.

        Raises:
            VerificationError: with llama.cpp's first error.
        """
        self._activations = activations
        self._callback = self._api.ggml_backend_sched_eval_callback(activations.observe)
        asked = self._api.llama_vocab_get_add_bos(self._vocab)
        self._first = [self._api.llama_vocab_bos(self._vocab)] if asked else []
        params = self._api.llama_context_default_params()
        params.n_ctx = params.n_batch = tokens
        params.n_ubatch = min(tokens, LARGEST_BATCH)
        params.n_threads = params.n_threads_batch = self._threads
        params.flash_attn_type = self._api.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.type_k = params.type_v = GGML_TYPE_F32
        params.offload_kqv = params.op_offload = False
        params.cb_eval = self._callback
        self._context = self._api.llama_init_from_model(self._model, params)
        if not self._context:
            raise self._failure("no context could be made")

    def add_chunk(self, tokens: NDArray[np.int32]) -> None:
        """Run one chunk by itself, its first token replaced by the one that begins every text, as llama.cpp does.

        Raises:
            VerificationError: llama.cpp could not compute, or a logit is not finite.
            ImatrixError: an activation is not finite.
        """
        ids = [*self._first, *tokens[len(self._first) :].tolist()]
        failure: Exception | None = None
        try:
            self.decode(ids, 0)
        except VerificationError as error:
            failure = error
        if failure := self._activations.failure or failure:
            raise failure

    def token_ids(self, text: bytes) -> NDArray[np.int32]:
        """Tokens of a text in UTF-8, with the special ones that the file asks for around it."""
        ids = np.empty(len(text) + 8, np.int32)
        pointer = ids.ctypes.data_as(self._api.llama_token_p)
        count = self._api.llama_tokenize(self._vocab, text, len(text), pointer, len(ids), True, False)
        return ids[: max(count, 0)].copy()
