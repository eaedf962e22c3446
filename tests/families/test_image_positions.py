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


@pytest.mark.parametrize("name", ["glm4v", "glm4vmoe", "glm-ocr", "paddleocr-vl"])
def test_positions_of_three_numbers(name: str, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", name)
    file = convert(model, "f32", tmp_path / "f32.gguf", verify="none").output
    embeddings, expected, of_a_text = transformers_logits(model, name)
    # Four numbers to a position, the fourth of which images don't have.
    found = llama_cpp_oracle.logits_of_embeddings(file, embeddings, np.stack([*POSITIONS, 0 * POSITIONS[0]]))
    found = found[:, : expected.shape[1]]
    largest = np.abs(expected).max()
    assert np.abs(of_a_text - expected).max() / largest > 0.1, "the positions are too much alike to prove anything"
    assert np.abs(found - expected).max() / largest < 3e-3
