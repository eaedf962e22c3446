"""Adapters made by PEFT itself on random models, with random matrices, and what PEFT makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
    import ctypes

    import llama_cpp
    from llama_cpp_oracle import silence

    silence()
    model = llama_cpp.llama_model_load_from_file(str(base).encode(), llama_cpp.llama_model_default_params())
    assert model, f"llama.cpp does not load {base}"
    loaded = llama_cpp.llama_adapter_lora_init(model, str(adapter).encode())
    assert loaded, f"llama.cpp does not load {adapter}"
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = 64
    parameters.type_k = parameters.type_v = llama_cpp.GGML_TYPE_F32
    parameters.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = llama_cpp.llama_init_from_model(model, parameters)
    adapters, scales = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(loaded), (ctypes.c_float * 1)(1.0)
    assert llama_cpp.llama_set_adapters_lora(context, adapters, 1, scales) == 0
    batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
    try:
        batch.n_tokens = len(tokens)
        for position, token in enumerate(tokens):
            batch.token[position], batch.pos[position] = token, position
            batch.n_seq_id[position], batch.seq_id[position][0], batch.logits[position] = 1, 0, 1
        assert llama_cpp.llama_decode(context, batch) == 0
        width = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        found = [llama_cpp.llama_get_logits_ith(context, position) for position in range(len(tokens))]
        return np.stack([np.ctypeslib.as_array(row, (width,)).copy() for row in found])
    finally:
        llama_cpp.llama_batch_free(batch)
        llama_cpp.llama_free(context)
        llama_cpp.llama_model_free(model)
