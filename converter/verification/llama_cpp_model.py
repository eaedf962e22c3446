"""A GGUF file run by llama.cpp. Only ever imported in a child process: llama.cpp may end the process it runs in.

*Exactly*, everything stays on the CPU, in float32 where llama.cpp leaves the choice, so that a comparison measures the
file. *By default*, every setting is llama.cpp's own, as its users have it: weights repacked for the processor, a
float16 cache, flash attention, a GPU where the build has one.
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

from converter.errors import EnvironmentFailure, VerificationError
from converter.runtime import lacks_memory
from converter.runtime.bindings import llama_cpp_bindings
from converter.runtime.environment import missing_package, too_little_memory

GGML_TYPE_F32 = 0
ERROR_LEVEL = 4  # ggml_log_level, as the callback receives it


class LlamaModel:
    """A loaded model with one context, to be used in a ``with`` statement.

    Attributes:
        vocab_size: rows of the vocabulary, the length of a row of logits.
        embedding_length: elements of an embedding.
        context_length: tokens that the model was trained to see.
        kind: ``causal``, ``encoder``, ``encoder-decoder`` or ``reranker``; a decoder whose file says how its embeddings
            are pooled is an encoder of texts.
    """

    def __init__(self, path: Path, threads: int, *, exact: bool = True) -> None:
        """Load the file; exactly, the whole of it, every block of every tensor checked for values that are not numbers.

        Args:
            path: the GGUF file.
            threads: threads to compute with.
            exact: exactly, or by default as the module says.

        Raises:
            VerificationError: with llama.cpp's first error.
            EnvironmentFailure: llama.cpp is missing or broken, or there is too little memory.
        """
        os.environ["GGML_NO_BACKTRACE"] = "1"  # an assertion's own line shall be the last of the log
        try:
            llama_cpp = llama_cpp_bindings()
        except Exception as error:  # a library that does not fit the system raises whatever it meets
            raise missing_package("llama_cpp", error) from error

        self._api = llama_cpp
        self._exact = exact
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
        self.embedding_length: int = llama_cpp.llama_model_n_embd(self._model)
        self.kind: str = self._kind()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._context:
            self._api.llama_free(self._context)
        self._api.llama_model_free(self._model)

    def open_context(self, tokens: int, *, embeddings: bool = False, pooled: bool = True) -> None:
        """Make room for ``tokens`` tokens, all of which may be decoded at once.

        Args:
            tokens: how many.
            embeddings: :meth:`embed` will be called, not :meth:`decode`.
            pooled: it makes of a text what the file says; an embedding of each token otherwise.

        Raises:
            VerificationError: with llama.cpp's first error.
            EnvironmentFailure: there is too little memory.
        """
        params = self._api.llama_context_default_params()
        params.n_threads = params.n_threads_batch = self._threads
        params.embeddings = embeddings
        if self._exact:
            params.n_ctx = params.n_batch = params.n_ubatch = tokens
            params.flash_attn_type = self._api.LLAMA_FLASH_ATTN_TYPE_DISABLED
            params.type_k = params.type_v = GGML_TYPE_F32
            params.offload_kqv = params.op_offload = False
        if not pooled:
            params.pooling_type = self._api.LLAMA_POOLING_TYPE_NONE
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
            self._forget()
        self._run(self._api.llama_decode, "decoding", ids, start)
        pointer = self._api.llama_get_logits(self._context)
        if not pointer:
            raise self._failure(f"decoding {len(ids)} tokens gave no logits")
        logits = np.ctypeslib.as_array(pointer, (len(ids), self.vocab_size))
        wrong = np.count_nonzero(~np.isfinite(logits), axis=1)
        if wrong.any():
            row = int(wrong.argmax())
            raise VerificationError(
                f"{wrong[row]} of {self.vocab_size} logits are not finite at position {start + row}"
            )
        return logits

    @property
    def pooling(self) -> int:
        """How the open context makes one embedding of a text's many: llama.cpp's ``llama_pooling_type``."""
        return int(self._api.llama_pooling_type(self._context))

    @property
    def decoder_start(self) -> int:
        """The token that a decoder behind an encoder begins with."""
        return int(self._api.llama_model_decoder_start_token(self._model))

    def read(self, ids: list[int]) -> None:
        """Run a text through the encoder, for the decoder to look at.

        Raises:
            VerificationError: llama.cpp could not compute.
        """
        self._forget()
        # A decoder with a memory that has no encoder beside it is run as such, even for embeddings.
        alone = self._api.llama_get_memory(self._context) and not self._api.llama_model_has_encoder(self._model)
        self._run(self._api.llama_decode if alone else self._api.llama_encode, "encoding", ids, 0)

    def embed(self, ids: list[int]) -> NDArray[np.float32]:
        """Run a text through the encoder.

        Args:
            ids: all of its tokens.

        Returns:
            float32 (1, embedding_length), or (len(ids), embedding_length) from a file without a pooling type; a
            reranker's scores (1, labels).

        Raises:
            VerificationError: llama.cpp could not compute, or an element is not finite.
        """
        self.read(ids)
        pooled = self.pooling != self._api.LLAMA_POOLING_TYPE_NONE
        context, rows = self._context, 1 if pooled else len(ids)
        pointer = self._api.llama_get_embeddings_seq(context, 0) if pooled else self._api.llama_get_embeddings(context)
        if not pointer:
            raise self._failure(f"encoding {len(ids)} tokens gave no embeddings")
        scores = self.pooling == self._api.LLAMA_POOLING_TYPE_RANK
        length = self._api.llama_model_n_cls_out(self._model) if scores else self.embedding_length
        found = np.ctypeslib.as_array(pointer, (rows, length)).copy()
        wrong = np.count_nonzero(~np.isfinite(found))
        if wrong:
            raise VerificationError(
                f"{wrong} of {found.size} elements of a text's {'scores' if scores else 'embeddings'} are not finite"
            )
        return found

    def tokenize(self, text: str, *, around: bool = True, special: bool = False) -> list[int]:
        """Tokens of a text.

        Args:
            text: any.
            around: add the special tokens that the file asks for around a text.
            special: take special tokens that are spelled out in the text for what they are.
        """
        data = text.encode()
        room = len(data) + 16
        ids = (self._api.llama_token * room)()
        count = self._api.llama_tokenize(self._vocab, data, len(data), ids, room, around, special)
        if count < 0:  # the room that is needed
            ids = (self._api.llama_token * -count)()
            count = self._api.llama_tokenize(self._vocab, data, len(data), ids, -count, around, special)
        return list(ids[:count])

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

    def _forget(self) -> None:
        """Clear the decoder's memory; an encoder alone has none."""
        memory = self._api.llama_get_memory(self._context)
        if memory:
            self._api.llama_memory_clear(memory, True)

    def _run(self, function: Any, what: str, ids: list[int], start: int) -> None:
        """Decode or encode tokens at positions ``start`` onwards, every output kept."""
        batch = self._api.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for row, token in enumerate(ids):
            batch.token[row], batch.pos[row], batch.logits[row] = token, start + row, 1
            batch.n_seq_id[row], batch.seq_id[row][0] = 1, 0
        status = function(self._context, batch)
        self._api.llama_batch_free(batch)
        if status != 0:
            raise self._failure(f"{what} {len(ids)} tokens failed with status {status}")

    def _kind(self) -> str:
        """What the file says: is there an encoder of its own, a decoder, and is it there for embeddings?"""
        if not self._api.llama_model_has_decoder(self._model):
            return "encoder"
        if self._api.llama_model_has_encoder(self._model):
            return "encoder-decoder"
        arch = self._value("general.architecture")
        both_sides = self._value(f"{arch}.attention.causal") == "false"
        pooling = self._value(f"{arch}.pooling_type")
        if pooling == str(self._api.LLAMA_POOLING_TYPE_RANK):
            return "reranker"
        return "encoder" if both_sides or pooling else "causal"

    def _value(self, key: str) -> str:
        """A key's value as text; empty where the file has no such key."""
        buffer = ctypes.create_string_buffer(256)
        length = self._api.llama_model_meta_val_str(self._model, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace") if length > 0 else ""

    def _model_params(self) -> Any:
        params = self._api.llama_model_default_params()
        if self._exact:
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

    def _failure(self, otherwise: str) -> VerificationError | EnvironmentFailure:
        wanting = next(filter(_is_about_memory, self._errors), None)
        if wanting is not None:
            return too_little_memory(plain_reason(wanting))
        return VerificationError(plain_reason(self._errors[0]) if self._errors else otherwise)


def _is_about_memory(line: str) -> bool:
    """Whether llama.cpp got no memory, or no thread, which it takes for each file's check.

    Where the header claims more than there is, gguf's reader asks for the memory: that is about the file.
    """
    return "gguf_init" not in line and (lacks_memory(line) or "Resource temporarily unavailable" in line)


def plain_reason(line: str) -> str:
    """An error line of llama.cpp without the names of its functions and the path, which the reader knows."""
    line = re.sub(r"^((\w*_\w*|read|error loading model( \w+)?): )+", "", line)
    return " ".join(line.split()) or "no reason given"
