"""Names that releases spell differently: a missing tensor is named as the checkpoint's release spells it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from checkpoint_layouts import with_config
from safetensors.torch import load_file, save_file

from converter import convert
from converter.errors import CheckpointError

#: Variation, a tensor of its checkpoint.
NAMES = [
    ("mixtral", r"model\.layers\.1\..*experts\.2\.w1\.weight"),
    ("mixtral", r"model\.layers\.0\..*gate\.weight"),
    ("granitemoe", r"model\.layers\.1\.block_sparse_moe\..*(output_linear\.weight|down_proj)"),
    ("granitemoe-fused-tied", r"model\.layers\.1\.block_sparse_moe\..*(output_linear\.weight|down_proj)"),
    ("nemotron-h", r"backbone\.layers\.0\.norm\.weight|model\.layers\.0\.norm\.weight"),
]


@pytest.mark.parametrize(("variation", "pattern"), NAMES)
def test_a_missing_tensor_has_its_releases_name(
    variation: str, pattern: str, checkpoints: Mapping[str, Path], tmp_path: Path
) -> None:
    model = with_config(checkpoints[variation], tmp_path / "model", {})
    weights = load_file(model / "model.safetensors")
    missing = next(name for name in weights if re.fullmatch(pattern, name))
    (model / "model.safetensors").unlink()
    save_file({name: weights[name] for name in weights if name != missing}, model / "model.safetensors")
    with pytest.raises(CheckpointError, match=re.escape(f"missing tensor {missing}")):
        convert(model, "f32", tmp_path / "out.gguf", verify="none")
