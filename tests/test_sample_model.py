"""The sample model is what its record says: trained, small, in Llama's form, and made by the tool beside it."""

from __future__ import annotations

import importlib.util
import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

SAMPLE = Path(__file__).parent / "fixtures" / "sample"
TOOL = Path(__file__).parents[1] / "tools" / "train_sample_model.py"
SPECIAL_TOKENS = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]

# Llama 3's tokenizer.json, without its vocabulary.
LLAMA_3_PRE_TOKENIZER = {
    "type": "Sequence",
    "pretokenizers": [
        {
            "type": "Split",
            "pattern": {
                "Regex": "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}"
                "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
            },
            "behavior": "Isolated",
            "invert": False,
        },
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
    ],
}
LLAMA_3_DECODER = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}


@pytest.fixture(scope="module")
def record() -> dict:
    return json.loads((SAMPLE / "perplexity.json").read_text())


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_sample_model", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a model this small gains nothing from more, and loses much on a busy machine
    yield
    torch.set_num_threads(threads)


def perplexity(folder: Path) -> tuple[float, int]:
    """Held-out perplexity as ``perplexity.json`` defines it, from the logits; and the number of tokens predicted."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = tokenizer.encode((folder / "heldout.txt").read_text(encoding="utf-8"), add_special_tokens=False).ids
    bos = tokenizer.token_to_id("<|begin_of_text|>")
    rows = torch.tensor([[bos, *ids[start : start + 255]] for start in range(0, len(ids) - 254, 255)])
    nats = 0.0
    with torch.no_grad():
        for batch in rows.split(8):
            logits = model(batch).logits[:, :-1].double()
            nats -= logits.log_softmax(-1).gather(2, batch[:, 1:, None]).sum().item()
    return math.exp(nats / (255 * len(rows))), 255 * len(rows)


def test_heldout_perplexity_is_the_recorded_one(record: dict) -> None:
    value, predicted = perplexity(SAMPLE)
    assert value == pytest.approx(record["perplexity"], rel=1e-4)
    assert predicted == record["predicted_tokens"]


def test_model_predicts_much_better_than_token_frequencies(record: dict) -> None:
    tokenizer = Tokenizer.from_file(str(SAMPLE / "tokenizer.json"))
    ids = tokenizer.encode((SAMPLE / "heldout.txt").read_text(encoding="utf-8"), add_special_tokens=False).ids
    counts = Counter(ids)
    by_frequency = math.exp(-sum(n * math.log(n / len(ids)) for n in counts.values()) / len(ids))
    assert record["perplexity"] < by_frequency / 5


def test_everything_fits_in_six_megabytes() -> None:
    assert sum(file.stat().st_size for file in SAMPLE.rglob("*") if file.is_file()) <= 6_000_000


def test_weights_are_bfloat16_with_rows_in_whole_super_blocks(record: dict) -> None:
    elements = 0
    with safe_open(SAMPLE / "model.safetensors", "pt") as weights:
        names = set(weights.keys())
        for name in names:
            tensor = weights.get_slice(name)
            assert tensor.get_dtype() == "BF16", name
            assert tensor.get_shape()[-1] % 256 == 0, name
            elements += math.prod(tensor.get_shape())
    assert "lm_head.weight" in names  # the output matrix is its own, not the embedding's
    assert elements == record["training"]["parameters"]


def test_config_is_the_form_transformers_5_writes() -> None:
    config = json.loads((SAMPLE / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["rope_parameters"] == {"rope_theta": 10000.0, "rope_type": "default"}
    assert config["dtype"] == "bfloat16"
    assert config["vocab_size"] == Tokenizer.from_file(str(SAMPLE / "tokenizer.json")).get_vocab_size()


def test_tokenizer_has_llama_3s_structure() -> None:
    tokenizer = json.loads((SAMPLE / "tokenizer.json").read_text())
    assert tokenizer["normalizer"] is None
    assert tokenizer["pre_tokenizer"] == LLAMA_3_PRE_TOKENIZER
    assert tokenizer["decoder"] == LLAMA_3_DECODER
    assert [step["type"] for step in tokenizer["post_processor"]["processors"]] == ["ByteLevel", "TemplateProcessing"]
    assert tokenizer["model"]["ignore_merges"] is True
    assert [token["content"] for token in tokenizer["added_tokens"]] == SPECIAL_TOKENS
    assert not set(SPECIAL_TOKENS) & set(tokenizer["model"]["vocab"])  # they follow the vocabulary, as in Llama 3


@pytest.mark.parametrize(
    "text",
    [
        "The quick brown fox.",
        "  leading,  doubled   and trailing spaces  ",
        "\tdef f(x):\n\n\n        return x  # it's 1234567\r\n",
        "naïve café — 漢字 かな 한글 हिन्दी العربية 👩‍👩‍👧 \x00\x7f\u200b",
    ],
)
def test_tokenizer_gives_text_back(text: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(SAMPLE)
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids[1:]) == text


def test_chat_template_renders() -> None:
    tokenizer = AutoTokenizer.from_pretrained(SAMPLE)
    messages = [{"role": "user", "content": " What is a list? "}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nWhat is a list?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    special = [token for token in tokenizer.convert_ids_to_tokens(ids) if token in SPECIAL_TOKENS]
    assert special == [SPECIAL_TOKENS[i] for i in (0, 2, 3, 4, 2, 3)]


def test_generation_stops_at_the_end_of_a_text_or_a_turn() -> None:
    tokenizer = AutoTokenizer.from_pretrained(SAMPLE)
    model = LlamaForCausalLM.from_pretrained(SAMPLE)
    ends = tokenizer.convert_tokens_to_ids(["<|end_of_text|>", "<|eot_id|>"])
    assert model.generation_config.eos_token_id == ends


def test_held_out_pages_are_not_trained_on(tool: ModuleType) -> None:
    pages = {f"module {n}": f"page {n} " * 100 for n in range(200)} | {"module long": "x" * 100_000}
    trained, heldout = tool.split(pages)
    parts = set(heldout.removesuffix("\n").split("\n\n"))
    assert parts | set(trained.values()) == set(pages.values())
    assert not parts & set(trained.values())
    assert "module long" in trained
    assert len(heldout) == pytest.approx(tool.HELDOUT_CHARACTERS, rel=0.05)
    assert tool.split(dict(reversed(pages.items())))[1] == heldout


def test_docstrings_are_read_without_running_the_module(tool: ModuleType, tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        '"""Of a module."""\nraise SystemExit\nclass A:\n    """Of a class."""\n    def f(self): "Of f."\n'
    )
    assert list(tool.docstrings(module)) == ["Of a module.", "Of a class.", "Of f."]
    module.write_text("print 'Python 2'\n")
    assert list(tool.docstrings(module)) == []


def test_tool_makes_the_same_model_from_the_same_seed(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (SAMPLE / "heldout.txt").read_text(encoding="utf-8")
    pages = {f"topic {n}": text[n : n + 400] for n in range(0, 4_000, 400)} | {"module long": text}
    monkeypatch.setattr(tool, "read_pages", lambda: pages)
    monkeypatch.setattr(tool, "HELDOUT_CHARACTERS", 2_000)
    monkeypatch.setattr(tool, "THREADS", 1)
    folders = [tmp_path / name for name in ("first", "second", "other")]
    for folder, seed in zip(folders, ("1", "1", "2"), strict=True):
        tool.main(["--output", str(folder), "--steps", "1", "--seed", seed])
    first, second, other = ((folder / "model.safetensors").read_bytes() for folder in folders)
    assert first == second != other
    written = json.loads((folders[0] / "perplexity.json").read_text())
    assert perplexity(folders[0])[0] == pytest.approx(written["perplexity"], rel=1e-4)
    assert {file.name for file in folders[0].iterdir()} == {file.name for file in SAMPLE.iterdir()}
