"""A GGUF file run by llama.cpp. Only ever imported in a child process: llama.cpp may end the process it runs in.

Everything stays on the CPU, in float32 where llama.cpp leaves the choice, so that a comparison measures the file.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from converter.errors import VerificationError

GGML_TYPE_F32 = 0
ERROR_LEVEL = 4  # ggml_log_level, as the callback receives it


class LlamaModel:
    """A loaded model with one context, to be used in a ``with`` statement.

    Attributes:
        vocab_size: rows of the vocabulary, the length of a row of logits.
        context_length: tokens that the model was trained to see.
        has_decoder: whether it predicts tokens.
    """

    def __init__(self, path: Path, threads: int) -> None:
        """Load the whole file, every block of every tensor checked for values that are not numbers.

        Args:
            path: the GGUF file.
            threads: threads to compute with.

        Raises:
            VerificationError: with llama.cpp's first error.
        """
        os.environ["GGML_NO_BACKTRACE"] = "1"  # an assertion's own line shall be the last of the log
        import llama_cpp

        self._api = llama_cpp
        self._threads = threads
        self._errors: list[str] = []
        self._log = llama_cpp.llama_log_callback(self._keep_error)
        llama_cpp.llama_log_set(self._log, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self._context: Any = None
        self._model = llama_cpp.llama_model_load_from_file(os.fsencode(path), self._model_params())
        if not self._model:
            raise self._failure("the file could not be loaded")
        self._vocab = llama_cpp.llama_model_get_vocab(self._model)
        self.vocab_size: int = llama_cpp.llama_vocab_n_tokens(self._vocab)
        self.context_length: int = llama_cpp.llama_model_n_ctx_train(self._model)
        self.has_decoder: bool = llama_cpp.llama_model_has_decoder(self._model)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._context:
            self._api.llama_free(self._context)
        self._api.llama_model_free(self._model)

    def open_context(self, tokens: int) -> None:
        """Make room for ``tokens`` tokens, all of which may be decoded at once.

        Raises:
            VerificationError: with llama.cpp's first error.
        """
        params = self._api.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = tokens
        params.n_threads = params.n_threads_batch = self._threads
        params.flash_attn_type = self._api.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.type_k = params.type_v = GGML_TYPE_F32
        params.offload_kqv = params.op_offload = False
        self._context = self._api.llama_init_from_model(self._model, params)
        if not self._context:
            raise self._failure("no context could be made")

    def decode(self, ids: list[int], start: int) -> NDArray[np.float32]:
        """Run tokens through the model.

        Args:
            ids: tokens at positions ``start`` onwards; 0 forgets what came before.
            start: position of the first of them.

        Returns:
            float32 (len(ids), vocab_size), the logits after each token; valid until the next call.

        Raises:
            VerificationError: llama.cpp could not compute, or a logit is not finite.
        """
        if start == 0:
            self._api.llama_memory_clear(self._api.llama_get_memory(self._context), True)
        batch = self._api.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for row, token in enumerate(ids):
            batch.token[row], batch.pos[row], batch.logits[row] = token, start + row, 1
            batch.n_seq_id[row], batch.seq_id[row][0] = 1, 0
        status = self._api.llama_decode(self._context, batch)
        self._api.llama_batch_free(batch)
        pointer = self._api.llama_get_logits(self._context) if status == 0 else None
        if not pointer:
            raise self._failure(f"decoding {len(ids)} tokens failed with status {status}")
        logits = np.ctypeslib.as_array(pointer, (len(ids), self.vocab_size))
        wrong = np.count_nonzero(~np.isfinite(logits), axis=1)
        if wrong.any():
            row = int(wrong.argmax())
            raise VerificationError(
                f"{wrong[row]} of {self.vocab_size} logits are not finite at position {start + row}"
            )
        return logits

    def tokenize(self, text: str) -> list[int]:
        """Tokens of a text, with the special ones that the file asks for around it."""
        data = text.encode()
        ids = (self._api.llama_token * (len(data) + 8))()
        count = self._api.llama_tokenize(self._vocab, data, len(data), ids, len(ids), True, False)
        return list(ids[: max(count, 0)])

    def ends_text(self, token: int) -> bool:
        return bool(self._api.llama_vocab_is_eog(self._vocab, token))

    def text(self, ids: list[int]) -> str:
        """What the tokens stand for, special ones included."""
        data = b""
        for token in ids:
            buffer = ctypes.create_string_buffer(1024)
            length = self._api.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, True)
            data += buffer.raw[: max(length, 0)]
        return data.decode("utf-8", "replace")

    def _model_params(self) -> Any:
        params = self._api.llama_model_default_params()
        params.n_gpu_layers = 0
        params.load_mode = self._api.LLAMA_LOAD_MODE_MMAP
        params.check_tensors = True
        params.use_extra_bufts = False  # weights stay as the file has them; no second copy for speed
        return params

    def _keep_error(self, level: int, text: bytes, _: object) -> None:
        if level == ERROR_LEVEL:
            line = text.decode("utf-8", "replace").strip()
            self._errors.append(line)
            print(line, file=sys.stderr, flush=True)

    def _failure(self, otherwise: str) -> VerificationError:
        return VerificationError(plain_reason(self._errors[0]) if self._errors else otherwise)


def plain_reason(line: str) -> str:
    """An error line of llama.cpp without the names of its functions and the path, which the reader knows."""
    line = re.sub(r"^((\w*_\w*|read|error loading model( \w+)?): )+", "", line)
    return " ".join(line.split()) or "no reason given"
