"""llama.cpp's side of the proof: load a vocabulary and tokenize. Runs in a process of its own."""

from __future__ import annotations

import ctypes
from typing import Any

from converter.runtime.bindings import llama_cpp_bindings


def tokenize(path: str, names: list[str], texts: list[str], whole: list[bool]) -> list[dict[str, Any] | None]:
    """Tokenize every text with the vocabulary of a GGUF file, once for each pre-tokenizer name.

    Args:
        path: the file; only its vocabulary is loaded.
        names: values to put in place of the file's ``tokenizer.ggml.pre``; ``""`` leaves it as it is.
        texts: what to tokenize, special tokens in the text recognised.
        whole: for each text, whether begin and end tokens are added to it.

    Returns:
        For each name, ``ids`` (a list for each text), ``tokens`` (how many the vocabulary has) and ``name``
        (``general.name``); None where llama.cpp does not load the file.
    """
    llama_cpp = llama_cpp_bindings()
    llama_cpp.llama_backend_init()
    answers: list[dict[str, Any] | None] = []
    for name in names:
        parameters = llama_cpp.llama_model_default_params()
        parameters.vocab_only = True
        if name:
            # A list of overrides ends with an empty key.
            overrides = (llama_cpp.llama_model_kv_override * 2)()
            overrides[0].key = b"tokenizer.ggml.pre"
            overrides[0].tag = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_STR
            overrides[0].value.val_str = name.encode()
            parameters.kv_overrides = overrides
        model = llama_cpp.llama_model_load_from_file(path.encode(), parameters)
        if not model:
            answers.append(None)
            continue
        vocab = llama_cpp.llama_model_get_vocab(model)
        answers.append(
            {
                "ids": [_encode(llama_cpp, vocab, *probe) for probe in zip(texts, whole, strict=True)],
                "tokens": llama_cpp.llama_vocab_n_tokens(vocab),
                "name": _name(llama_cpp, model),
            }
        )
        llama_cpp.llama_model_free(model)
    return answers


def _encode(llama_cpp: Any, vocab: Any, text: str, add_special: bool) -> list[int]:
    data = text.encode()
    room = len(data) + 16
    buffer = (llama_cpp.llama_token * room)()
    count = llama_cpp.llama_tokenize(vocab, data, len(data), buffer, room, add_special, True)
    if count < 0:
        buffer = (llama_cpp.llama_token * -count)()
        count = llama_cpp.llama_tokenize(vocab, data, len(data), buffer, -count, add_special, True)
    return list(buffer[:count])


def _name(llama_cpp: Any, model: Any) -> str:
    buffer = ctypes.create_string_buffer(1024)
    length = llama_cpp.llama_model_meta_val_str(model, b"general.name", buffer, len(buffer))
    return buffer.value.decode(errors="replace") if length > 0 else ""
