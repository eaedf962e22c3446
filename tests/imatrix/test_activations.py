"""What is collected against transformers' activations of the same tokens, experts counted one by one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import MODEL_ARCH, get_tensor_name_map
from imatrix.conftest import CHUNK_SIZE, CHUNKS, TEXT, Collected
from numpy.typing import NDArray
from tokenizers import Tokenizer

Sums = dict[str, NDArray[np.float64]]


def chunks(checkpoint: Path) -> list[list[int]]:
    """The text's first chunks as the reference tokenizer cuts them, each begun as a text begins."""
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    first = tokenizer.encode("").ids
    ids = tokenizer.encode(TEXT.read_text()).ids
    starts = range(0, CHUNKS * CHUNK_SIZE, CHUNK_SIZE)
    return [[*first, *ids[start + len(first) : start + CHUNK_SIZE]] for start in starts]


def transformers_sums(checkpoint: Path, arch: MODEL_ARCH) -> tuple[Sums, dict[str, list[int]]]:
    """Sums of squares and counts of every linear layer's input, from hooks on transformers' float32 model."""
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager"
    )
    names = get_tensor_name_map(arch, model.config.num_hidden_layers)
    sums: Any = defaultdict(float)
    counts: Any = defaultdict(int)

    def square(name: str, rows: Any, expert: int | None = None, experts: int = 1) -> None:
        total = np.zeros((experts, rows.shape[-1]))
        total[expert or 0] = rows.double().square().reshape(-1, rows.shape[-1]).sum(0).numpy()
        key = f"{names.get_name(name)}.weight"
        sums[key] = sums[key] + total
        counts[key] = counts[key] + np.eye(experts, dtype=int)[expert or 0] * (rows.numel() // rows.shape[-1])

    def on_experts(name: str, module: Any, rows: Any, chosen: Any) -> None:
        for expert in range(module.num_experts):
            its = rows[(chosen == expert).any(-1)]
            gate, up = torch.nn.functional.linear(its, module.gate_up_proj[expert]).chunk(2, dim=-1)
            for part, inputs in (("gate_proj", its), ("up_proj", its), ("down_proj", module.act_fn(gate) * up)):
                square(f"{name}.{part}", inputs, expert, module.num_experts)

    for name, module in model.named_modules():
        if name.endswith(".experts"):
            module.register_forward_pre_hook(
                lambda module, args, name=name: on_experts(name.replace("block_sparse_moe", "mlp"), module, *args[:2])
            )
        elif isinstance(module, torch.nn.Linear) or name.endswith(".gate"):
            module.register_forward_pre_hook(lambda module, args, name=name: square(name, args[0]))
    with torch.no_grad():
        for chunk in chunks(checkpoint):
            model(torch.tensor([chunk]))
    return dict(sums), {name: np.atleast_1d(count).tolist() for name, count in counts.items()}


@pytest.mark.parametrize(
    ("name", "arch"),
    [("sample", MODEL_ARCH.LLAMA), ("mixtral", MODEL_ARCH.LLAMA), ("qwen3moe", MODEL_ARCH.QWEN3MOE)],
)
def test_every_sum_is_that_of_transformers(name: str, arch: MODEL_ARCH, collected: Callable[[str], Collected]) -> None:
    found = collected(name).matrix
    sums, counts = transformers_sums(collected(name).checkpoint, arch)
    if name != "sample":
        del sums["output.weight"], counts["output.weight"]  # not asked for
    assert sorted(found.entries) == sorted(sums)
    for tensor, expected in sums.items():
        entry = found.entries[tensor]
        assert entry.counts.tolist() == counts[tensor], tensor
        assert entry.sums.shape == expected.shape, tensor
        np.testing.assert_allclose(entry.sums, expected, rtol=1e-4, err_msg=tensor)
    if name != "sample":
        experts = found.entries["blk.0.ffn_gate_exps.weight"].counts
        assert len(set(experts.tolist())) > 1, "experts chosen alike prove nothing about their counts"


def test_what_was_collected_is_told(sample: Collected) -> None:
    assert (sample.matrix.chunk_size, sample.matrix.chunk_count) == (CHUNK_SIZE, CHUNKS)
    assert sample.matrix.datasets == (str(TEXT),)
