"""llama.cpp's quantizer is given what each format holds; its bytes are ggml's with the same weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import llama_cpp_oracle
import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, LlamaFileType
from imatrix.conftest import Collected
from imatrix.ggml_oracle import ggml_bytes
from llama_cpp_oracle import tensors

from converter.imatrix import read_imatrix, write_imatrix


@pytest.mark.parametrize("suffix", [".gguf", ".dat"])
@pytest.mark.parametrize("name", ["sample", "mixtral"])
def test_q4_0_with_the_weights_of_each_format(
    name: str, suffix: str, collected: Callable[[str], Collected], tmp_path: Path
) -> None:
    made = collected(name)
    write_imatrix(tmp_path / f"imatrix{suffix}", made.matrix)
    read = read_imatrix(tmp_path / f"imatrix{suffix}")
    source = {tensor.name: tensor.data for tensor in GGUFReader(made.file).tensors}
    importance = {tensor: read.importance_of(tensor, source[tensor].shape) for tensor in read.entries}
    llama_cpp_oracle.quantize(
        made.file, tmp_path / "with.gguf", LlamaFileType.MOSTLY_Q4_0, importance=importance, pure=True
    )
    compared = 0
    for tensor, (kind, _, data) in tensors(tmp_path / "with.gguf").items():
        if kind == GGMLQuantizationType.Q4_0 and tensor in importance:
            matrices = np.array(source[tensor]).reshape(-1, *source[tensor].shape[-2:])
            assert data == ggml_bytes(kind, matrices, importance[tensor]), tensor
            assert data != ggml_bytes(kind, matrices, None), tensor
            compared += 1
    routers = sum("ffn_gate_inp" in tensor for tensor in importance)
    assert compared == len(importance) - routers


def test_a_type_that_needs_importance(collected: Callable[[str], Collected], tmp_path: Path) -> None:
    made, kind = collected("qwen3moe"), LlamaFileType.MOSTLY_IQ3_XXS
    source = {tensor.name: tensor.data for tensor in GGUFReader(made.file).tensors}
    importance = {tensor: made.matrix.importance_of(tensor, source[tensor].shape) for tensor in made.matrix.entries}
    assert llama_cpp_oracle.status_of_quantizer(made.file, tmp_path / "without.gguf", int(kind), pure=True) != 0
    llama_cpp_oracle.quantize(made.file, tmp_path / "with.gguf", kind, importance=importance, pure=True)
    found, _, data = tensors(tmp_path / "with.gguf")["blk.1.ffn_gate_exps.weight"]
    assert found == GGMLQuantizationType.IQ3_XXS
    tensor = "blk.1.ffn_gate_exps.weight"
    assert data == ggml_bytes(found, np.array(source[tensor]), importance[tensor])
