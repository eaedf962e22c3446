"""Damaged quantized checkpoints: whatever is changed, the answer is rows of the right shape or a refusal."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from converter.checkpoints import Checkpoint
from converter.errors import CheckpointError

Quantized = Callable[[Any, dict[str, torch.Tensor]], Checkpoint]
ROUNDS = 120

I32, U8, I8, F8 = torch.int32, torch.uint8, torch.int8, torch.float8_e4m3fn
VALUES = [None, 0, -1, 1, 3, 7, 32, 10**30, 1.5, float("nan"), "x", "gptq", True, False, [], [0, 1], [10**9, 2], {}]


def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype)


STATE = {"quant_type": "nf4", "blocksize": 64, "shape": [16, 64], "nested_blocksize": 256, "nested_offset": 0.5}
GROUP = {"weights": {"num_bits": 4, "type": "int", "symmetric": False, "strategy": "group", "group_size": 32}}
CASES: dict[str, tuple[dict[str, Any], dict[str, torch.Tensor]]] = {
    "fp8": (
        {"quant_method": "fp8", "weight_block_size": [8, 16]},
        {"a.weight": zeros(16, 64, dtype=F8), "a.weight_scale_inv": zeros(2, 4)},
    ),
    "mxfp4": (
        {"quant_method": "mxfp4"},
        {"a_blocks": zeros(2, 4, 3, 16, dtype=U8), "a_scales": zeros(2, 4, 3, dtype=U8)},
    ),
    "compressed-tensors": (
        {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"g": GROUP}},
        {"a.weight_packed": zeros(16, 8, dtype=I32), "a.weight_scale": zeros(16, 2),
         "a.weight_shape": torch.tensor([16, 64]), "a.weight_zero_point": zeros(2, 2, dtype=I32),
         "a.weight_g_idx": zeros(64, dtype=I32)},
    ),
    "gptq": (
        {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": True, "checkpoint_format": "gptq"},
        {"a.qweight": zeros(8, 16, dtype=I32), "a.qzeros": zeros(2, 2, dtype=I32), "a.scales": zeros(2, 16),
         "a.g_idx": zeros(64, dtype=I32), "a.bias": zeros(16)},
    ),
    "awq": (
        {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm", "zero_point": True},
        {"a.qweight": zeros(64, 2, dtype=I32), "a.qzeros": zeros(2, 2, dtype=I32), "a.scales": zeros(2, 16)},
    ),
    "bitsandbytes": (
        {"quant_method": "bitsandbytes", "load_in_4bit": True},
        {"a.weight": zeros(512, 1, dtype=U8), "a.weight.absmax": zeros(16, dtype=U8), "a.weight.quant_map": zeros(16),
         "a.weight.nested_absmax": zeros(1), "a.weight.nested_quant_map": zeros(256),
         "b.weight": zeros(4, 8, dtype=I8), "b.SCB": zeros(4), "b.weight_format": zeros(1, dtype=U8)},
    ),
}  # fmt: skip


def objects(value: Any) -> list[dict[str, Any]]:
    """Every object in a JSON value."""
    if not isinstance(value, dict):
        return []
    return [value, *(inner for member in value.values() for inner in objects(member))]


def mutate(chance: random.Random, settings: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """Change a setting, a shape or a type, fill a tensor with noise, or take a tensor away."""
    target = chance.choice([each for each in objects(settings) if each])
    name = chance.choice(list(tensors))
    match chance.randrange(5):
        case 0:
            target[chance.choice(list(target))] = copy.deepcopy(chance.choice(VALUES))
        case 1:
            shape = [chance.choice([0, 1, 2, 4, 8, 16, 17]) for _ in range(chance.randrange(5))]
            tensors[name] = zeros(*shape, dtype=tensors[name].dtype)
        case 2:
            dtypes = [I32, U8, I8, F8, torch.int64, torch.float16, torch.bfloat16, torch.float64, torch.bool]
            tensors[name] = zeros(*tensors[name].shape).to(chance.choice(dtypes))
        case 3:
            noise = np.random.default_rng(chance.randrange(1000)).bytes(tensors[name].nbytes)
            if noise:
                drawn = torch.frombuffer(bytearray(noise), dtype=U8)
                tensors[name] = drawn.view(tensors[name].dtype).reshape(tensors[name].shape)
        case _:
            del tensors[name]


@pytest.mark.parametrize("case", CASES)
def test_nothing_but_refusals(quantized: Quantized, case: str) -> None:
    refused, chance = 0, random.Random(1)
    for _ in range(ROUNDS):
        settings, tensors = copy.deepcopy(CASES[case][0]), dict(CASES[case][1])
        state = copy.deepcopy(STATE)
        for _ in range(chance.randrange(1, 3)):
            # bitsandbytes has settings in a tensor, too.
            mutate(chance, state if case == "bitsandbytes" and chance.random() < 0.4 else settings, tensors)
        if case == "bitsandbytes":
            text = json.dumps(state).encode()
            tensors["a.weight.quant_state.bitsandbytes__nf4"] = torch.tensor(list(text), dtype=U8)
        try:
            with quantized(settings, tensors) as opened:
                for tensor in opened.tensors.values():
                    if tensor.dtype in ("F64", "BOOL", "I64"):
                        continue  # stays as it is, and is refused when it is read
                    rows = tensor.read_rows(0, tensor.rows)
                    assert rows.shape == (tensor.rows, tensor.row_length)
        except CheckpointError as error:
            refused += 1
            assert str(error).isprintable()
            assert len(str(error)) < 1000
    assert 0 < refused < ROUNDS
