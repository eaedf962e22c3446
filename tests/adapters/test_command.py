"""``convert --adapter`` and ``convert adapter`` as a user types them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import lora_builder
import numpy as np
from command_line import convert, refusal
from safetensors.numpy import save_file

FIXTURES = Path(__file__).parents[1] / "fixtures"


def test_two_adapters_merged_and_verified(tmp_path: Path) -> None:
    """On the trained sample: the file's predictions against those of the model that PEFT runs."""
    base, output = FIXTURES / "sample", tmp_path / "out.gguf"
    adapters = [
        lora_builder.write_adapter(base, tmp_path / name, seed, target_modules=["q_proj", "down_proj"], lora_alpha=0.5)
        for seed, name in enumerate(("first", "second"))
    ]
    options = [part for adapter in adapters for part in ("--adapter", adapter)]
    outcome = convert("--model", base, *options, "--method", "q8_0", "--output", output, "--verify", "full")
    assert outcome.code == 0, outcome
    assert "verified in" in outcome.out
    merged = lora_builder.merged(base, *adapters).state_dict()
    found = next(tensor for tensor in gguf.GGUFReader(output).tensors if tensor.name == "blk.0.ffn_down.weight")
    expected = merged["model.layers.0.mlp.down_proj.weight"].numpy()
    # A weight in the middle between two codes may fall to either side.
    assert np.mean(found.data == gguf.quants.quantize(expected, gguf.GGMLQuantizationType.Q8_0)) > 0.999


def test_another_adapter_is_another_output(bases: Callable[[str], Path], tmp_path: Path) -> None:
    """The catalogue does not answer with the file that was made of the base alone, or with another adapter."""
    base, output = bases("llama"), tmp_path / "out.gguf"
    arguments = ["--model", base, "--method", "f16", "--output", output, "--verify", "none"]
    assert convert(*arguments).code == 0
    made = [output.read_bytes()]
    for seed in (1, 2):
        lora_builder.write_adapter(base, tmp_path / "adapter", seed, target_modules=["v_proj"])
        assert convert(*arguments, "--adapter", tmp_path / "adapter", "--overwrite").code == 0
        made.append(output.read_bytes())
    assert len(set(made)) == 3


def test_refused_in_one_line(bases: Callable[[str], Path], tmp_path: Path) -> None:
    output = tmp_path / "out.gguf"
    adapter = lora_builder.write_adapter(bases("gpt2"), tmp_path / "adapter", target_modules=["c_attn"])
    found = refusal("--model", bases("llama"), "--adapter", adapter, "--method", "f16", "--output", output)
    assert found == (
        f"{adapter}: adapts transformer.h.0.attn.c_attn.weight, which the base does not hold; is this adapter one of "
        "this model?"
    )
    assert not output.exists()


def test_what_the_command_prints(bases: Callable[[str], Path], tmp_path: Path) -> None:
    adapter = lora_builder.write_adapter(bases("llama"), tmp_path / "adapter", target_modules=["v_proj"])
    outcome = convert("adapter", adapter, "--base", bases("llama"), "--output", tmp_path / "f16.gguf", "--type", "f16")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith(f"{tmp_path / 'f16.gguf'} is 0.0")
    assert outcome.out.endswith(" MB: a LoRA in f16 for 2 tensors of a base of architecture llama\n")
    usage = convert("adapter", adapter, "--output", tmp_path / "x.gguf")
    assert (usage.code, usage.err.splitlines()[-1]) == (
        2,
        "convert: error: missing option '--base'; see: convert adapter --help",
    )


def test_a_base_of_another_name_is_warned_of(bases: Callable[[str], Path], tmp_path: Path) -> None:
    adapter = lora_builder.write_adapter(bases("llama"), tmp_path / "adapter", target_modules=["v_proj"])
    config = adapter / "adapter_config.json"
    config.write_text(config.read_text().replace(str(bases("llama")), "lab/trained-on"))
    expected = f"convert: {adapter}: was trained on 'lab/trained-on', the base here is model\n"
    for command in (
        ["adapter", adapter, "--base", bases("llama"), "--output", tmp_path / "adapter.gguf"],
        ["--model", bases("llama"), "--adapter", adapter, "--method", "f16", "--verify", "none", "--no-catalogue",
         "--output", tmp_path / "out.gguf"],
    ):  # fmt: skip
        outcome = convert(*command)
        assert outcome.code == 0, outcome
        assert expected in outcome.err


def test_memory_is_bounded(tmp_path: Path) -> None:
    """Reading 64 MiB of merged weights in pieces takes a few MiB beside the pieces."""
    import json
    import tracemalloc

    from converter.adapters import adapt
    from converter.checkpoints import open_checkpoint

    base, adapter = tmp_path / "base", tmp_path / "adapter"
    base.mkdir()
    adapter.mkdir()
    random = np.random.default_rng(2)
    name = "model.layers.0.mlp.up_proj"
    save_file({f"{name}.weight": random.standard_normal((8192, 2048), np.float32)}, base / "model.safetensors")
    (base / "config.json").write_text("{}")
    parts = {"A": random.standard_normal((16, 2048), np.float32), "B": random.standard_normal((8192, 16), np.float32)}
    tensors = {f"base_model.model.{name}.lora_{side}.weight": part for side, part in parts.items()}
    tensors[f"base_model.model.{name}.lora_magnitude_vector"] = np.ones(8192, np.float32)
    save_file(tensors, adapter / "adapter_model.safetensors")
    (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 16, "use_dora": True}))
    with adapt(open_checkpoint(base), [adapter]) as adapted:
        tensor, out = adapted.tensors[f"{name}.weight"], np.empty((256, 2048), np.float32)
        tracemalloc.start()
        try:
            for start in range(0, tensor.rows, len(out)):
                tensor.read_rows(start, start + len(out), out=out)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert np.allclose(np.linalg.norm(out, axis=1), 1, atol=1e-5)
    assert peak < 8 * 2**20
