"""What transformers cannot read, or reads wrongly: the reference of a full verification still has the right weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from reported_weights import State, configure, gptq, projections, rewrite, saved

from converter.verification.source_model import READ_BY_US, load_source

GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False, "sym": True}


def assert_reference(directory: Path, expected: Mapping[str, torch.Tensor], note: str) -> None:
    found = load_source(str(directory), ["AutoModelForCausalLM"])
    assert found.note == note
    weights = found.model.state_dict()
    for name, value in expected.items():
        np.testing.assert_allclose(weights[name].numpy(), value.float().numpy(), rtol=1e-6, atol=1e-7, err_msg=name)


def in_8_bits(directory: Path) -> State:
    """bitsandbytes' codes and scales, in a checkpoint whose configuration lost what they are."""
    expected = saved(directory)

    def change(module: str, weight: torch.Tensor) -> State:
        absmax = weight.abs().amax(1)
        codes = (weight / absmax[:, None] * 127).round().to(torch.int8)
        expected[f"{module}.weight"] = codes * absmax[:, None] / 127
        return {f"{module}.weight": codes, f"{module}.SCB": absmax}

    rewrite(directory, lambda state: projections(state, change))
    return expected


def in_gptq(directory: Path) -> State:
    """GPTQ, which transformers reads with further packages only."""
    expected = saved(directory)

    def change(module: str, weight: torch.Tensor) -> State:
        tensors, expected[f"{module}.weight"] = gptq(module, weight)
        return tensors

    rewrite(directory, lambda state: projections(state, change))
    configure(directory, quantization_config=GPTQ)
    return expected


def marked(directory: Path) -> State:
    """A configuration that begins with a byte-order mark."""
    expected = saved(directory)
    config = directory / "config.json"
    config.write_bytes(b"\xef\xbb\xbf" + config.read_bytes())
    return expected


@pytest.mark.parametrize("make", [in_8_bits, in_gptq, marked])
def test_what_only_this_converter_reads(tmp_path: Path, make: Callable[[Path], State]) -> None:
    assert_reference(tmp_path / "model", make(tmp_path / "model"), READ_BY_US)


def test_what_transformers_reads_is_left_to_it(tmp_path: Path) -> None:
    assert_reference(tmp_path / "model", saved(tmp_path / "model"), "")
