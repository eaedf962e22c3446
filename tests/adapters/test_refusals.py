"""Adapters that are damaged, of another model, or of a kind that cannot be merged or written: one line each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lora_builder
import numpy as np
import pytest
from command_line import refusal
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from converter.adapters import adapt
from converter.adapters.config import parse_config
from converter.adapters.export import export_adapter
from converter.checkpoints import open_checkpoint
from converter.errors import ConversionError, UsageError

WEIGHTS = "adapter_model.safetensors"
Q = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def good(bases: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain adapter for ``llama``."""
    return lora_builder.write_adapter(
        bases("llama"), tmp_path_factory.mktemp("good") / "adapter", target_modules=["q_proj"]
    )


@pytest.fixture
def adapter(good: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    copy = tmp_path / "adapter"
    copy.mkdir()
    for file in good.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def set_fields(adapter: Path, **fields: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def set_tensors(adapter: Path, changes: dict[str, tuple[int, ...] | None]) -> None:
    """Put zeros of these shapes in the file, or take a tensor out of it."""
    path = adapter / WEIGHTS
    tensors = load_file(path)
    for name, shape in changes.items():
        tensors.pop(name, None)
        if shape is not None:
            tensors[name] = np.zeros(shape, np.float32)
    save_file(tensors, path)


def message(base: Path, *adapters: Path) -> str:
    with open_checkpoint(base) as checkpoint, pytest.raises(ConversionError) as caught:
        adapt(checkpoint, adapters)
    text = str(caught.value)
    assert "\n" not in text
    return text


FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "ia3": ({"peft_type": "IA3"}, "'peft_type' is 'IA3', only 'LORA' can be merged; merge it with PEFT"),
    "no-type": ({"peft_type": None}, "'peft_type' is None, only 'LORA'"),
    "replicated": ({"layer_replication": [[0, 2]]}, "'layer_replication' is [[0, 2]], such an adapter repeats layers"),
    "qalora": ({"use_qalora": True}, "'use_qalora' is True, such an adapter averages"),
    "arrow": ({"arrow_config": {"top_k": 2}}, "'arrow_config' is {'top_k': 2}, such an adapter chooses"),
    "bdlora": ({"use_bdlora": {"nblocks": 2}}, "such an adapter is block-diagonal"),
    "monteclora": ({"monteclora_config": {"num_samples": 8}}, "such an adapter samples its weights"),
    "kasa": ({"kasa_config": {"beta": 1.0}}, "such an adapter changes the base's own weights"),
    "pissa": ({"init_lora_weights": "pissa_niter_4"}, "'init_lora_weights' is 'pissa_niter_4', which took a part out"),
    "olora": ({"init_lora_weights": "olora"}, "save it again with path_initial_model_for_weight_conversion"),
    "corda": ({"init_lora_weights": "corda"}, "which took a part out of the base's weights"),
    "loftq": ({"init_lora_weights": "loftq"}, "which took a part out of the base's weights"),
    "unknown-start": ({"init_lora_weights": "magic"}, "'init_lora_weights' is 'magic', one of true, false"),
    "rank": ({"r": 0}, "'r' is 0, a positive number expected"),
    "rank-type": ({"r": True}, "'r' is True, a positive number expected"),
    "half-rank": ({"r": 2.5}, "'r' is 2.5, a positive number expected"),
    "alpha": ({"lora_alpha": "8"}, "'lora_alpha' is '8', a positive number expected"),
    "pattern": ({"rank_pattern": ["q_proj"]}, "'rank_pattern' is ['q_proj'], an object of regular expressions"),
    "pattern-value": ({"alpha_pattern": {"q": -1}}, "'alpha_pattern' is -1, a positive number expected"),
    "expression": ({"alpha_pattern": {"(": 1}}, "'alpha_pattern': '(' is no regular expression"),
    "tokens": ({"trainable_token_indices": [3, 3]}, "'trainable_token_indices' is [3, 3], a list of token numbers"),
    "tokens-by-module": ({"trainable_token_indices": {"wte": [-1]}}, "a list of token numbers, or one for each module"),
    "invocation": ({"alora_invocation_tokens": "abc"}, "'alora_invocation_tokens' is 'abc', a list of token numbers"),
    "alora": ({"alora_invocation_tokens": [4]}, "'alora_invocation_tokens' is set, so the adapter acts on a part"),
    "other-rank": ({"r": 8}, "q_proj are [4, 256] and [256, 4], rank 8 expected from adapter_config.json"),
}


@pytest.mark.parametrize("case", FIELDS)
def test_configuration(case: str, adapter: Path, bases: Callable[[str], Path]) -> None:
    fields, expected = FIELDS[case]
    set_fields(adapter, **fields)
    found = message(bases("llama"), adapter)
    assert found.startswith(str(adapter))
    assert expected in found


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
NAMES = (
    "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "init_lora_weights", "trainable_token_indices",
    "alora_invocation_tokens", "base_model_name_or_path", "fan_in_fan_out", "layer_replication", "use_dora",
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4))
def test_any_configuration_is_taken_or_refused(fields: dict[str, Any]) -> None:
    try:
        config = parse_config(Path("adapter_config.json"), {"peft_type": "LORA", **fields})
    except ConversionError as error:
        assert str(error).isprintable()
    else:
        assert np.isfinite(config.scale("model.layers.0.self_attn.q_proj"))


TENSORS: dict[str, tuple[dict[str, tuple[int, ...] | None], str]] = {
    "half": ({f"{Q}.lora_B.weight": None}, "q_proj has lora_A.weight [4, 256]; two matrices A and B expected"),
    "convolution": ({f"{Q}.lora_A.weight": (4, 256, 1)}, "lora_A.weight [4, 256, 1], lora_B.weight [256, 4]"),
    "width": (
        {f"{Q}.lora_A.weight": (4, 128)},
        "model.layers.0.self_attn.q_proj is of shape [256, 128], but model.layers.0.self_attn.q_proj.weight of the "
        "base is [256, 256]; is this adapter one of this model?",
    ),
    "height": ({f"{Q}.lora_B.weight": (64, 4)}, "is of shape [64, 256], but"),
    "absent": (
        {Q.replace("0", "7") + f".lora_{side}.weight": shape for side, shape in (("A", (4, 256)), ("B", (256, 4)))},
        "adapts model.layers.7.self_attn.q_proj.weight, which the base does not hold",
    ),
    "magnitude": ({f"{Q}.lora_magnitude_vector": (17,)}, "lora_magnitude_vector is of shape [17], but"),
    "no-bias": ({f"{Q}.lora_B.bias": (256,)}, "adapts model.layers.0.self_attn.q_proj.bias, which the base does not"),
    "unknown-part": ({f"{Q}.lora_velora_embed": (3,)}, "lora_velora_embed is not part of any known adapter format"),
    "replaced": ({"base_model.model.model.norm.weight": (7,)}, "norm.weight is of shape [7], but model.norm.weight of"),
    "head": ({"base_model.model.score.weight": (2, 256)}, "adapts score.weight, which the base does not hold"),
    "narrow-rows": (
        {"base_model.model.lm_head.weight": (520, 128)},
        "lm_head.weight is of shape [520, 128], but lm_head.weight of the base is [512, 256]",
    ),
    "empty": ({f"{Q}.lora_A.weight": (0, 256)}, "lora_A.weight is F32 [0, 256], numbers of one of"),
    "tokens": (
        {"base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta": (2, 256)},
        "has trained tokens [2, 256], but trainable_token_indices names 0",
    ),
}


@pytest.mark.parametrize("case", TENSORS)
def test_tensors(case: str, adapter: Path, bases: Callable[[str], Path]) -> None:
    changes, expected = TENSORS[case]
    set_tensors(adapter, changes)
    found = message(bases("llama"), adapter)
    assert found.startswith(str(adapter))
    assert expected in found


def test_files(adapter: Path, bases: Callable[[str], Path], tmp_path: Path) -> None:
    base = bases("llama")
    assert message(base, tmp_path / "nothing").startswith(f"{tmp_path / 'nothing'}: has no adapter_config.json; ")
    weights = adapter / WEIGHTS
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-8])
    assert "is truncated" in message(base, adapter)
    save_file({"something": np.zeros(3, np.int32)}, weights)
    assert "something is I32 [3], numbers of one of" in message(base, adapter)
    weights.unlink()
    assert "has no adapter_model.safetensors and no adapter_model.bin" in message(base, adapter)
    (adapter / "adapter_model.bin").write_bytes(b"PK\x03\x04 no archive")
    assert message(base, adapter).startswith(str(adapter / "adapter_model.bin"))
    (adapter / "adapter_config.json").write_text("{")
    assert "adapter_config.json: is not valid JSON" in message(base, adapter)


def test_a_pickle_that_wants_more_than_tensors(adapter: Path, bases: Callable[[str], Path]) -> None:
    import torch

    (adapter / WEIGHTS).unlink()
    torch.save({"x": torch.zeros(2), "y": Path("/")}, adapter / "adapter_model.bin")
    assert "pathlib" in message(bases("llama"), adapter)


def test_tokens_beyond_the_vocabulary(bases: Callable[[str], Path], tmp_path: Path) -> None:
    base = bases("llama")
    adapter = lora_builder.write_adapter(
        base, tmp_path / "adapter", target_modules=["q_proj"], trainable_token_indices=[4]
    )
    set_fields(adapter, trainable_token_indices=[512])
    assert "names 512, model.embed_tokens.weight has 512 rows" in message(base, adapter)


def test_an_embedding_that_encoder_and_decoder_share(adapter: Path, tmp_path: Path) -> None:
    base, module = tmp_path / "base", "base_model.model.shared"
    base.mkdir()
    save_file({"shared.weight": np.ones((512, 128), np.float32)}, base / "model.safetensors")
    (base / "config.json").write_text('{"architectures": ["T5ForConditionalGeneration"]}')
    tensors = {f"{module}.lora_embedding_A": (4, 512), f"{module}.lora_embedding_B": (128, 4)}
    save_file({name: np.ones(shape, np.float32) for name, shape in tensors.items()}, adapter / WEIGHTS)
    assert "adapts shared.weight, which encoder and decoder share, but not alike" in message(base, adapter)


def test_two_adapters_that_replace_the_same(bases: Callable[[str], Path], tmp_path: Path) -> None:
    base = bases("llama")
    adapters = [
        lora_builder.write_adapter(base, tmp_path / name, target_modules=["q_proj"], modules_to_save=["lm_head"])
        for name in "ab"
    ]
    assert "replaces lm_head.weight, which another adapter has changed already" in message(base, *adapters)


def test_experts_of_another_model(bases: Callable[[str], Path], tmp_path: Path) -> None:
    stacked = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    adapter = lora_builder.write_adapter(
        bases("mixtral"), tmp_path / "adapter", target_modules=[], target_parameters=stacked
    )
    found = message(bases("qwen3moe"), adapter)
    assert "for each expert, but the base holds gate_up_proj [8, 192, 256], down_proj [8, 256, 96]; is" in found


def expert_adapter(adapter: Path, parts: dict[str, tuple[int, ...]], container: str) -> Path:
    """The adapter with nothing but these zeros."""
    tensors = {f"base_model.model.model.layers.0.{container}.{part}": shape for part, shape in parts.items()}
    save_file({name: np.zeros(shape, np.float32) for name, shape in tensors.items()}, adapter / WEIGHTS)
    return adapter


def test_dora_of_one_expert_in_a_stack(adapter: Path, bases: Callable[[str], Path]) -> None:
    parts = {"lora_A.weight": (4, 256), "lora_B.weight": (192, 4), "lora_magnitude_vector": (192,)}
    expert_adapter(adapter, parts, "mlp.experts.2.w1")
    expected = "one of the experts that the base stacks in model.layers.0.mlp.experts.gate_up_proj, by DoRA"
    assert expected in message(bases("mixtral-fused"), adapter)


def test_experts_of_several_shapes(adapter: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text('{"architectures": ["MixtralForCausalLM"]}')
    shapes = {"0.w2": (256, 192), "1.w2": (256, 200)}
    names = {f"model.layers.0.mlp.experts.{name}.weight": shape for name, shape in shapes.items()}
    save_file({name: np.ones(shape, np.float32) for name, shape in names.items()}, base / "model.safetensors")
    expert_adapter(adapter, {"lora_A.weight": (8, 192), "lora_B.weight": (256, 8)}, "mlp.experts")
    assert "adapts model.layers.0.mlp.experts, whose experts in the base are of several shapes" in message(
        base, adapter
    )


def test_names_that_could_mean_two_tensors(adapter: Path, bases: Callable[[str], Path], tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_bytes((bases("llama") / "config.json").read_bytes())
    names = [f"{tower}.layers.{layer}.self_attn.q_proj.weight" for tower in ("text", "vision") for layer in (0, 1)]
    save_file({name: np.zeros((256, 256), np.float32) for name in names}, base / "model.safetensors")
    expected = (
        "model.layers.0.self_attn.q_proj.weight could be text.layers.0.self_attn.q_proj.weight or "
        "vision.layers.0.self_attn.q_proj.weight of the base"
    )
    assert expected in message(base, adapter)


UNSAID: dict[str, tuple[str, dict[str, Any], str]] = {
    "dora": ("llama", {"use_dora": True}, "does more than adding a product of two matrices (DoRA, biases, tokens) to"),
    "bias": ("qwen2", {"lora_bias": True}, "does more than adding a product of two matrices"),
    "biases": ("qwen2", {"bias": "lora_only"}, "replaces model.layers.0.self_attn.q_proj.bias"),
    "module": ("llama", {"modules_to_save": ["lm_head"]}, "replaces lm_head.weight"),
    "tokens": ("llama", {"trainable_token_indices": [3]}, "does more than adding a product of two matrices"),
    "tied-output": ("qwen2-tied", {"target_modules": ["lm_head"]}, "changes only one of the embedding and the output"),
    "tied-embedding": ("qwen2-tied", {"target_modules": ["embed_tokens"]}, "changes only one of the embedding and the"),
    "positions": ("gpt2", {"target_modules": ["wpe"]}, "position_embd.weight: llama.cpp adds no adapter to such a"),
}


@pytest.mark.parametrize("case", UNSAID)
def test_what_a_gguf_adapter_cannot_say(case: str, bases: Callable[[str], Path], tmp_path: Path) -> None:
    variation, config, expected = UNSAID[case]
    adapter = lora_builder.write_adapter(
        bases(variation), tmp_path / "adapter", **{"target_modules": ["q_proj"]} | config
    )
    output = tmp_path / "adapter.gguf"
    found = refusal("adapter", adapter, "--base", bases(variation), "--output", output)
    assert expected in found
    assert "--adapter" in found
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]


def test_export_refuses_before_and_while_it_writes(adapter: Path, bases: Callable[[str], Path], tmp_path: Path) -> None:
    base, output = bases("llama"), tmp_path / "adapter.gguf"
    output.write_bytes(b"something")
    expected = f"{output}: exists already; pass --overwrite to replace it or choose another --output"
    assert refusal("adapter", adapter, "--base", base, "--output", output) == expected
    tensors = load_file(adapter / WEIGHTS)
    tensors[f"{Q}.lora_B.weight"][3, 1] = np.inf
    save_file(tensors, adapter / WEIGHTS)
    found = refusal("adapter", adapter, "--base", base, "--output", output, "--overwrite")
    assert "blk.0.attn_q.weight.lora_b holds NaN or infinity; the adapter is damaged" in found
    tensors[f"{Q}.lora_B.weight"][3, 1] = 1e6
    save_file(tensors, adapter / WEIGHTS)
    found = refusal("adapter", adapter, "--base", base, "--output", output, "--overwrite", "--type", "f16")
    assert "blk.0.attn_q.weight.lora_b exceeds the range of f16; use --type f32" in found
    assert output.read_bytes() == b"something"
    with open_checkpoint(base) as checkpoint, pytest.raises(UsageError, match="type 'q3' does not exist; choose f32, "):
        export_adapter(adapter, checkpoint, output, "q3")
