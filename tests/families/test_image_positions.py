"""Where tokens have a time, a row and a column, llama.cpp turns each pair by the number that transformers does."""

from __future__ import annotations

from pathlib import Path

import llama_cpp_oracle
import numpy as np
import pytest
from checkpoint_builder import write_model
from numpy.typing import NDArray
from variation import VARIATIONS

from converter import convert

TOKENS = 40
#: Time, row and column of each token; a later token has a later time, so that it sees all before it.
POSITIONS = np.stack([np.arange(TOKENS), np.arange(TOKENS) // 2 * 3 % 50, np.arange(TOKENS) * 7 % 31])


def transformers_logits(directory: Path, name: str) -> tuple[NDArray[np.float32], ...]:
    """Embeddings (tokens, width), logits (tokens, vocabulary) at these positions, and at those of a text."""
    import torch
    import transformers

    classes = getattr(transformers, VARIATIONS[name].model)
    model = classes.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    tokens = torch.from_numpy(np.random.default_rng(1).integers(2, 500, (1, TOKENS)))
    with torch.no_grad():
        embeddings = model.get_input_embeddings()(tokens)

        def logits(positions: NDArray[np.int64]) -> NDArray[np.float32]:
            found = model.model.language_model(
                inputs_embeds=embeddings,
                position_ids=torch.from_numpy(positions)[:, None],
                attention_mask=torch.ones_like(tokens),
            )
            return model.lm_head(found.last_hidden_state)[0].numpy()

        return embeddings[0].numpy(), logits(POSITIONS), logits(np.stack([POSITIONS[0]] * 3))


def llama_cpp_logits(path: Path, embeddings: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Logits (tokens, width) of tokens given by their embeddings, as llama.cpp's programs give an image's."""
    import llama_cpp

    llama_cpp_oracle.silence()
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
    assert model, f"llama.cpp does not load {path}"
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = 64
    parameters.type_k = parameters.type_v = llama_cpp.GGML_TYPE_F32
    parameters.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = llama_cpp.llama_init_from_model(model, parameters)
    # Four numbers to a position, the fourth of which images don't have.
    batch = llama_cpp.llama_batch_init(4 * TOKENS, embeddings.shape[1], 1)
    try:
        batch.n_tokens = TOKENS
        np.ctypeslib.as_array(batch.embd, (embeddings.size,))[:] = embeddings.ravel()
        np.ctypeslib.as_array(batch.pos, (4 * TOKENS,))[:] = [*POSITIONS.ravel(), *[0] * TOKENS]
        for token in range(TOKENS):
            batch.n_seq_id[token] = 1
            batch.seq_id[token][0] = 0
            batch.logits[token] = 1
        assert llama_cpp.llama_decode(context, batch) == 0
        rows = (llama_cpp.llama_get_logits_ith(context, token) for token in range(TOKENS))
        return np.stack([np.ctypeslib.as_array(row, (width,)).copy() for row in rows])
    finally:
        llama_cpp.llama_batch_free(batch)
        llama_cpp.llama_free(context)
        llama_cpp.llama_model_free(model)


@pytest.mark.parametrize("name", ["glm4v", "glm4vmoe", "glm-ocr", "paddleocr-vl"])
def test_positions_of_three_numbers(name: str, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", name)
    file = convert(model, "f32", tmp_path / "f32.gguf", verify="none").output
    embeddings, expected, of_a_text = transformers_logits(model, name)
    found = llama_cpp_logits(file, embeddings, expected.shape[1])
    largest = np.abs(expected).max()
    assert np.abs(of_a_text - expected).max() / largest > 0.1, "the positions are too much alike to prove anything"
    assert np.abs(found - expected).max() / largest < 3e-3
