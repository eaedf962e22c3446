"""What the tests of reported weights share: a small model as transformers saves it, and files made of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from checkpoint_builder import write_model
from command_line import refusal
from safetensors.torch import load_file, save_file

from converter.checkpoints import Checkpoint, open_checkpoint

State = dict[str, torch.Tensor]

SMALL = {"hidden_size": 128, "intermediate_size": 192, "num_key_value_heads": 2, "tie_word_embeddings": False}
WEIGHTS = "model.safetensors"


def saved(directory: Path, variation: str = "llama", **overrides: Any) -> State:
    """Write a model and give its weights as transformers loads them, float32."""
    write_model(directory, variation, **{**SMALL, **overrides})
    return loaded(directory)


def loaded(directory: Path) -> State:
    """A model's weights as transformers loads them, float32."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def rewrite(directory: Path, change: Callable[[State], Mapping[str, torch.Tensor]]) -> None:
    """Save a model's weights changed."""
    state = load_file(directory / WEIGHTS)
    (directory / WEIGHTS).unlink()
    changed = {name: tensor.clone().contiguous() for name, tensor in change(state).items()}
    save_file(changed, directory / WEIGHTS, {"format": "pt"})


def configure(directory: Path, **fields: Any) -> None:
    """Set fields of a model's config.json; those that are None are left out."""
    path = directory / "config.json"
    config = {**json.loads(path.read_text()), **fields}
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))


def values(checkpoint: Checkpoint, name: str) -> torch.Tensor:
    tensor = checkpoint.tensors[name]
    return torch.from_numpy(tensor.read_rows(0, tensor.rows)).reshape(tensor.shape)


def assert_holds(directory: Path, expected: Mapping[str, torch.Tensor]) -> Checkpoint:
    """The checkpoint has exactly these weights, bit for bit."""
    with open_checkpoint(directory) as checkpoint:
        assert set(checkpoint.tensors) == set(expected)
        for name, value in expected.items():
            np.testing.assert_array_equal(values(checkpoint, name).numpy(), value.numpy(), err_msg=name)
    return checkpoint


def projections(state: State, change: Callable[[str, torch.Tensor], State]) -> State:
    """The weights with the projections' changed: from a module's name and its weight."""
    changed: State = {}
    for name, tensor in state.items():
        changed.update(change(name.removesuffix(".weight"), tensor) if "proj" in name else {name: tensor})
    return changed


def packed_down(codes: torch.Tensor, bits: int = 4) -> torch.Tensor:
    """Codes as GPTQ packs them, down the columns, from the lowest bits on."""
    each = 32 // bits
    words = (codes.long().reshape(-1, each, codes.shape[1]) << (bits * torch.arange(each))[None, :, None]).sum(1)
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)


def gptq(
    module: str, weight: torch.Tensor, *, stored: int = 7, zero: int = 8, size: int = 32
) -> tuple[State, torch.Tensor]:
    """A weight in GPTQ's tensors, symmetric, and what it is then."""
    groups = weight.T.reshape(-1, size, len(weight))
    scale = (groups.abs().amax(1, keepdim=True) / 7).half().float()
    codes = (groups / scale + zero).round().clamp(0, 15)
    tensors = {
        "qweight": packed_down(codes.reshape(-1, len(weight))),
        "qzeros": packed_down(torch.full_like(scale[:, 0], stored).T.contiguous()).T,
        "scales": scale[:, 0].half(),
        "g_idx": (torch.arange(weight.shape[1]) // size).int(),
    }
    found = ((codes - zero) * scale).reshape(weight.shape[1], -1).T
    return {f"{module}.{name}": tensor for name, tensor in tensors.items()}, found


def refused(model: Path) -> str:
    """The line that refuses a checkpoint."""
    return refusal("--model", model, "--method", "f32", "--output", model.parent / "refused.gguf")
