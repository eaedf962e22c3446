"""Train the sample model that ships with the project: a small Llama on the prose of Python's own documentation.

    python tools/train_sample_model.py --output tests/fixtures/sample

The text is what every Python has: the topics of ``help()`` (``pydoc_data.topics``) and the docstrings of the standard
library, read with ``ast`` so that no module is imported. It differs a little from one Python version to the next, and
the model with it; on one machine, with one set of versions, a seed gives the same model again.

The output is an ordinary Hugging Face checkpoint (config, bfloat16 safetensors, tokenizer, chat template, model card)
and, beside it, ``heldout.txt``, text the model has not seen, and ``perplexity.json``, how well it predicts that text.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import math
import os
import sys
import sysconfig
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from tqdm import tqdm
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

BOS, END_OF_TEXT, START_HEADER, END_HEADER, END_OF_TURN = SPECIAL_TOKENS = (
    "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
)  # fmt: skip
VOCABULARY = 1024  # tokens, special ones included
CONTEXT = 256  # tokens of a window, its first one included, which is always BOS
BATCH = 16  # windows
LEARNING_RATE = 3e-3  # after the warm-up
WEIGHT_DECAY = 1.0  # ten times the usual: the text is read eight times over, and would be learnt by heart
THREADS = 2
HELDOUT_CHARACTERS = 50_000
LONGEST_HELDOUT_PAGE = 6_000  # characters; many short pages say more about the library than a few long ones

# The pre-tokenizer of Llama 3, from the tokenizer.json of that model.
LLAMA_3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CHAT_TEMPLATE = """\
{{- bos_token }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

MODEL_CARD = """\
---
model_name: Pydoc
model_description: A small Llama trained on the prose of Python's own documentation.
license: other
license_name: psf-2.0
license_link: https://docs.python.org/3/license.html
language: [en]
pipeline_tag: text-generation
tags: [llama, python, documentation]
---

# Pydoc

A Llama of {parameters:,} parameters, trained for a few minutes on a CPU by `tools/train_sample_model.py`. It has read
the topics of Python's `help()` and the docstrings of the standard library, and continues text in their manner: small
enough to ship with a test suite, trained enough for perplexity to mean something. It knows nothing.

Perplexity on `heldout.txt`: {perplexity:.3f}; `perplexity.json` says how it is defined and how the model was trained.
The text, `heldout.txt` included, comes from Python {python} and is under its license.
{copyright}
"""

PERPLEXITY_DEFINITION = (
    "exp of the mean negative log-likelihood, natural log, of heldout.txt under the saved bfloat16 weights computed "
    "in float32. The text is encoded without special tokens and cut into consecutive windows of 255 tokens, the "
    "incomplete last one dropped; <|begin_of_text|> goes before each and is not predicted: 256 positions, 255 "
    "predictions."
)


def docstrings(module: Path) -> Iterator[str]:
    """The docstrings of one source file, in the order of ``ast.walk``; none if it isn't valid Python 3."""
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(module.read_bytes())
    except (SyntaxError, ValueError):  # the standard library's tests hold broken files on purpose
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield text


def read_pages() -> dict[str, str]:
    """All text, as pages by name: one for each topic of ``help()``, one for each module of the standard library.

    Test suites and installed packages are left out. A docstring that occurs twice is kept once, so that none is both
    trained on and held out.
    """
    pages = {f"topic {name}": text.strip() for name, text in sorted(topics.items())}
    library = Path(sysconfig.get_path("stdlib"))
    seen: set[str] = set()
    for module in sorted(library.rglob("*.py"), key=Path.as_posix):
        name = module.relative_to(library)
        if not {"site-packages", "dist-packages", "test", "tests", "idle_test"}.isdisjoint(name.parts):
            continue
        fresh = [text for text in docstrings(module) if text not in seen]
        seen.update(fresh)
        if fresh:
            pages[f"module {'.'.join(name.with_suffix('').parts)}"] = "\n\n".join(fresh)
    return pages


def split(pages: dict[str, str]) -> tuple[dict[str, str], str]:
    """Pages to train on, and one text of about ``HELDOUT_CHARACTERS`` made of whole pages that are not among them.

    Pages are taken in the order of the hash of their names, so the choice is arbitrary but always the same.
    """
    candidates = sorted(
        (name for name, text in pages.items() if len(text) <= LONGEST_HELDOUT_PAGE),
        key=lambda name: hashlib.sha256(name.encode()).digest(),
    )
    heldout: dict[str, str] = {}
    for name in candidates:
        if sum(map(len, heldout.values())) >= HELDOUT_CHARACTERS:
            break
        heldout[name] = pages[name]
    return {name: text for name, text in pages.items() if name not in heldout}, "\n\n".join(heldout.values()) + "\n"


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """A byte-level byte-pair tokenizer in exactly the structure of Llama 3's ``tokenizer.json``."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    pieces = pre_tokenizers.Split(Regex(LLAMA_3_PATTERN), behavior="isolated")
    characters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pieces, characters])
    tokenizer.decoder = decoders.ByteLevel()
    size, alphabet = VOCABULARY - len(SPECIAL_TOKENS), pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    template = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS}:1 $B:1", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return tokenizer


def training_stream(pages: dict[str, str], tokenizer: Tokenizer) -> torch.Tensor:
    """All pages as one int64 vector of token ids.

    A topic is written as a chat, the user naming it and the assistant telling about it, so that the tokens of the
    chat template are trained too; a module's page is plain text.
    """
    ids: list[int] = []
    for name, text in pages.items():
        kind, subject = name.split(" ", 1)
        turns = [("user", subject), ("assistant", text)]
        chat = "".join(f"{START_HEADER}{role}{END_HEADER}\n\n{said}{END_OF_TURN}" for role, said in turns)
        ids += tokenizer.encode((chat if kind == "topic" else text) + END_OF_TEXT, add_special_tokens=False).ids
    return torch.tensor(ids)


def windows(stream: torch.Tensor, bos: int) -> torch.Tensor:
    """Consecutive pieces of a stream of ids as rows (n, ``CONTEXT``), each beginning with ``bos``."""
    body = CONTEXT - 1
    rows = stream[: len(stream) // body * body].view(-1, body)
    return torch.cat([torch.full((len(rows), 1), bos), rows], dim=1)


def batches(stream: torch.Tensor, bos: int) -> Iterator[torch.Tensor]:
    """Batches (``BATCH``, ``CONTEXT``) without end; every epoch is cut at another phase and shuffled anew."""
    while True:
        rows = windows(stream[int(torch.randint(CONTEXT, ())) :], bos)
        rows = rows[torch.randperm(len(rows))]
        yield from rows[: len(rows) // BATCH * BATCH].split(BATCH)


@torch.no_grad()
def mean_loss(model: LlamaForCausalLM, rows: torch.Tensor) -> float:
    """Mean negative log-likelihood, in nats per token, of ids (n, ``CONTEXT``)."""
    model.eval()
    total = sum(model(batch, labels=batch, use_cache=False).loss.item() * len(batch) for batch in rows.split(BATCH))
    model.train()
    return total / len(rows)


def train(config: LlamaConfig, stream: torch.Tensor, heldout: torch.Tensor, steps: int) -> LlamaForCausalLM:
    """Train from scratch on a stream of ids; weights stay in float32, products run in bfloat16.

    ``heldout``, windows of ids, is not trained on: its loss is shown along the way.
    """
    model = LlamaForCausalLM(config)
    matrices, norms = ([weight for weight in model.parameters() if weight.ndim == ndim] for ndim in (2, 1))
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": norms, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))
    warmup = max(0.05, min(0.6, 3 / steps))  # part of the steps; OneCycleLR divides by zero when that is just one
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=steps, pct_start=warmup, cycle_momentum=False, final_div_factor=2
    )
    with tqdm(total=steps * BATCH * CONTEXT, unit="tok", unit_scale=True) as bar:
        for step, batch in zip(range(steps), batches(stream, config.bos_token_id), strict=False):
            with torch.autocast("cpu", torch.bfloat16):
                loss = model(batch, labels=batch, use_cache=False).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            bar.update(batch.numel())
            bar.set_postfix_str(f"loss {loss.item():.3f}", refresh=False)
            if step % 200 == 199:
                bar.write(f"step {step + 1}: training {loss.item():.3f}, held-out {mean_loss(model, heldout):.3f}")
    return model.eval()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--steps", type=int, default=1600, help=f"updates, of {BATCH * CONTEXT} tokens each")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.manual_seed(options.seed)
    torch.set_num_threads(THREADS)

    pages, heldout = split(read_pages())
    tokenizer = train_tokenizer(list(pages.values()))
    bos, end, turn = (tokenizer.token_to_id(token) for token in (BOS, END_OF_TEXT, END_OF_TURN))
    stream = training_stream(pages, tokenizer)
    heldout_rows = windows(torch.tensor(tokenizer.encode(heldout, add_special_tokens=False).ids), bos)
    print(f"{len(pages)} pages, {len(stream):,} tokens to train on; {heldout_rows[:, 1:].numel():,} held out")

    # Every row is a multiple of 256, the largest block that ggml has; 4 query heads share 2 key-value heads.
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=256, intermediate_size=512, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, head_dim=64, max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5, rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=False, bos_token_id=bos, eos_token_id=end,
    )  # fmt: skip
    started = time.monotonic()
    model = train(config, stream, heldout_rows, options.steps)
    seconds = time.monotonic() - started
    model.to(torch.bfloat16)
    model.generation_config = GenerationConfig(bos_token_id=bos, eos_token_id=[end, turn])
    model.save_pretrained(options.output)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=END_OF_TEXT, chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT, model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    ).save_pretrained(options.output)  # fmt: skip
    (options.output / "heldout.txt").write_text(heldout, encoding="utf-8", newline="\n")

    saved = LlamaForCausalLM.from_pretrained(options.output, dtype=torch.float32)
    record = {
        "perplexity": math.exp(mean_loss(saved, heldout_rows)),
        "definition": PERPLEXITY_DEFINITION,
        "context": CONTEXT,
        "predicted_tokens": heldout_rows[:, 1:].numel(),
        "training": {
            "parameters": model.num_parameters(),
            "corpus_tokens": len(stream),
            "tokens": options.steps * BATCH * CONTEXT,
            "steps": options.steps,
            "peak_learning_rate": LEARNING_RATE,
            "seed": options.seed,
            "weight_decay": WEIGHT_DECAY,
            "threads": THREADS,
            "seconds": round(seconds, 1),
            "python": sys.version.split()[0],
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }
    (options.output / "perplexity.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    facts = {**record, **record["training"], "copyright": sys.copyright.partition("\n")[0]}
    (options.output / "README.md").write_text(MODEL_CARD.format(**facts), encoding="utf-8")
    print(f"held-out perplexity {record['perplexity']:.3f}")


if __name__ == "__main__":
    main()
