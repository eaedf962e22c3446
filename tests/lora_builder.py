"""Adapters made by PEFT itself on random models, with random matrices, and what PEFT makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import llama_cpp_oracle
import numpy as np
from numpy.typing import NDArray

from converter.checkpoints import Checkpoint

TOKENS = [0, *np.random.default_rng(11).integers(2, 500, 31).tolist()]


def load(directory: Path) -> Any:
    """The model in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")


def randomize(model: Any, seed: int) -> None:
    """Give everything that an adapter trains random values, none of them zero."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            noise = torch.randn(parameter.shape, generator=generator)
            if "magnitude" in name:
                parameter.mul_(1 + 0.2 * noise)
            elif "lora_" in name:
                parameter.copy_(noise * (0.5 if "_A" in name else 0.1))
            else:
                parameter.add_(0.1 * noise)


def write_adapter(base: Path, directory: Path, seed: int = 1, *, safe: bool = True, **config: Any) -> Path:
    """Train nothing, but save an adapter as a training would."""
    import warnings

    from peft import LoraConfig, get_peft_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(load(base), LoraConfig(**{"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM"} | config))
        randomize(model, seed)
        model.save_pretrained(directory, safe_serialization=safe)
    return directory


def with_adapters(base: Path, *directories: Path) -> Any:
    """The base with adapters loaded by PEFT, all active."""
    import warnings

    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = load(base)
        for number, directory in enumerate(directories):
            if number == 0:
                model = PeftModel.from_pretrained(model, directory, adapter_name="0")
            else:
                model.load_adapter(directory, str(number))
        model.base_model.set_adapter([str(number) for number in range(len(directories))])
    return model.eval()


def merged(base: Path, *directories: Path) -> Any:
    """The model that PEFT merges them into."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return with_adapters(base, *directories).merge_and_unload()


def logits(model: Any, tokens: list[int] = TOKENS) -> NDArray[np.float32]:
    """Logits of shape (tokens, vocabulary)."""
    import torch

    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].numpy()


#: Causal masks that old checkpoints carry, which the model has no more.
BUFFERS = ("attn.bias", "attn.masked_bias")


def values(checkpoint: Checkpoint, name: str) -> NDArray[np.float32]:
    tensor = checkpoint.tensors[name]
    return tensor.read_rows(0, tensor.rows).reshape(tensor.shape)


def compare(checkpoint: Checkpoint, model: Any) -> None:
    """Each tensor against the merged model's."""
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    for name in checkpoint.tensors:
        if name.endswith(BUFFERS):
            continue
        now = [
            name,
            f"transformer.{name}",
            f"model.{name}",
            name.replace("language_model.model", "model.language_model"),
        ]
        now += ["lm_head.weight"] * (name == "embed_out.weight")
        expected = next(state[one] for one in now if one in state)
        found = values(checkpoint, name)
        assert found.shape == expected.shape, name
        error = np.abs(found - expected).max() / np.abs(expected).max()
        assert error < 1e-6, f"{name} differs by {error:.1e}"


def llama_logits(base: Path, adapter: Path, tokens: list[int] = TOKENS) -> NDArray[np.float32]:
    """Logits of llama.cpp with an adapter beside its base, shape (tokens, vocabulary)."""
    return llama_cpp_oracle.logits(base, tokens, adapter=adapter)
