"""Several adapters one after the other, other files than safetensors, and reads of parts of a tensor."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lora_builder
import numpy as np
import pytest
from lora_builder import compare, values

from converter.adapters import adapt
from converter.checkpoints import open_checkpoint

PLAIN: dict[str, Any] = {"target_modules": ["q_proj", "down_proj"]}
DORA: dict[str, Any] = {"target_modules": ["q_proj", "up_proj"], "use_dora": True, "r": 2}


@pytest.mark.parametrize("configs", [(PLAIN, PLAIN), (PLAIN, DORA), (DORA, PLAIN), (DORA, DORA, PLAIN)])
def test_one_after_the_other(configs: tuple[Any, ...], bases: Callable[[str], Path], tmp_path: Path) -> None:
    base = bases("llama")
    adapters = [
        lora_builder.write_adapter(base, tmp_path / str(number), seed=number, **config)
        for number, config in enumerate(configs)
    ]
    with adapt(open_checkpoint(base), adapters) as adapted:
        compare(adapted, lora_builder.merged(base, *adapters))


def test_bin_file(bases: Callable[[str], Path], tmp_path: Path) -> None:
    base = bases("llama")
    adapter = lora_builder.write_adapter(base, tmp_path / "adapter", safe=False, **PLAIN)
    assert (adapter / "adapter_model.bin").exists()
    with adapt(open_checkpoint(base), [adapter]) as adapted:
        compare(adapted, lora_builder.merged(base, adapter))


@pytest.mark.parametrize(
    ("variation", "name"),
    [
        ("llama", "model.layers.0.mlp.down_proj.weight"),
        ("gpt2", "transformer.h.1.attn.c_attn.weight"),
        ("llama", "model.embed_tokens.weight"),
    ],
)
@pytest.mark.parametrize("dora", [False, True])
def test_parts_are_parts_of_the_whole(
    variation: str, name: str, dora: bool, bases: Callable[[str], Path], tmp_path: Path
) -> None:
    base, module = bases(variation), name.split(".")[-2]
    adapter = lora_builder.write_adapter(base, tmp_path / "adapter", target_modules=[module], use_dora=dora)
    expected = lora_builder.merged(base, adapter).state_dict()[name].numpy()
    with adapt(open_checkpoint(base), [adapter]) as adapted:
        tensor = adapted.tensors[name]
        for rows, columns in [((3, 17), slice(5, 70)), ((0, 1), slice(0, 1)), ((7, 7), slice(2, 9))]:
            out = np.full((rows[1] - rows[0], columns.stop - columns.start), np.nan, np.float32)
            assert tensor.read_rows(*rows, columns, out) is out
            assert np.allclose(out, expected[slice(*rows), columns], rtol=0, atol=1e-6 * np.abs(expected).max())
        assert tensor.read_blocks("f32", 0, 1) is None
        with pytest.raises(IndexError):
            tensor.read_rows(0, tensor.rows + 1)


def test_files_and_bytes_of_the_adapter_count(bases: Callable[[str], Path], tmp_path: Path) -> None:
    base = bases("llama")
    adapter = lora_builder.write_adapter(base, tmp_path / "adapter", **PLAIN)
    with open_checkpoint(base) as plain, adapt(open_checkpoint(base), [adapter]) as adapted:
        added = [identity.path for identity in adapted.files[len(plain.files) :]]
        assert added == [adapter / "adapter_config.json", adapter / "adapter_model.safetensors"]
        parameters = 2 * 4 * (256 + 256) + 2 * 4 * (512 + 256)
        assert adapted.nbytes - plain.nbytes == 4 * parameters
        assert np.isfinite(values(adapted, "model.layers.0.self_attn.q_proj.weight")).all()


def test_another_base_is_only_a_warning(
    bases: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = bases("llama")
    adapter = lora_builder.write_adapter(base, tmp_path / "adapter", **PLAIN)
    caplog.set_level(logging.WARNING)  # an earlier command may have asked for less
    adapt(open_checkpoint(base), [adapter]).close()
    assert not [record for record in caplog.records if record.name.startswith("converter")]
    config = adapter / "adapter_config.json"
    config.write_text(config.read_text().replace(str(base), "someone/other-model"))
    adapt(open_checkpoint(base), [adapter]).close()
    (message,) = [record.getMessage() for record in caplog.records if record.name.startswith("converter")]
    assert message == f"{adapter}: was trained on 'someone/other-model', the base here is model"
