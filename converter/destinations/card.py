"""The model card that goes with an upload: what it is, how big, how good as far as measured, and how to run it.

Front matter: https://huggingface.co/docs/hub/model-cards#model-card-metadata.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from converter.outputs import nbytes_of, size

#: Facts of the source's own card that stay true of what is made of it.
INHERITED = ("license", "license_name", "license_link", "language", "pipeline_tag")
LIBRARIES = {"gguf": "gguf", "safetensors": "transformers", "pytorch": "transformers"}
#: What is told of a verification: an attribute of ``Verification``, its name for a reader, how to print it.
MEASURES = (
    ("top1_agreement", "same most likely token as the source", "{:.2%}"),
    ("mean_kl", "mean KL divergence from the source, nats per token", "{:.5f}"),
    ("source_perplexity", "perplexity of the source", "{:.3f}"),
    ("file_perplexity", "perplexity of this model on the same text", "{:.3f}"),
    ("cosine", "mean cosine with the source's embeddings", "{:.5f}"),
)


@dataclass(frozen=True)
class File:
    """An uploaded file: its name, bytes, and SHA-256 in hex."""

    name: str
    nbytes: int
    sha256: str


@dataclass(frozen=True)
class CardFacts:
    """What a card tells.

    Attributes:
        repo: the repository that the card is for.
        name: the source model's name.
        base_model: its Hub id; None where it is not on the Hub.
        commit: the source's commit.
        method: e.g. ``q4_0``.
        output_format: ``gguf``, ``safetensors`` or ``pytorch``.
        files: the files with weights.
        weights: number of elements.
        bits_per_weight: of all tensors.
        source_bytes: bytes of the source's tensors.
        quality: what was measured, by its name for a reader.
        source_card: text of the source's own ``README.md``; empty without one.
        auto_class: the class of transformers that loads it.
    """

    repo: str
    name: str
    method: str
    output_format: str
    files: Sequence[File]
    weights: int
    bits_per_weight: float
    source_bytes: int
    base_model: str | None = None
    commit: str | None = None
    quality: Mapping[str, str] = field(default_factory=dict)
    source_card: str = ""
    auto_class: str = "AutoModelForCausalLM"


def measured(figures: Mapping[str, Any]) -> dict[str, str]:
    """The figures of a full verification as a reader finds them.

    Args:
        figures: by the attribute of ``Verification``; what was not measured is None or absent.
    """
    found = ((label, layout, figures.get(name)) for name, label, layout in MEASURES)
    return {label: layout.format(value) for label, layout, value in found if value is not None}


def digested(path: Path) -> File:
    """A file with its digest; reads all of it."""
    with path.open("rb") as file:
        return File(path.name, nbytes_of(path), hashlib.file_digest(file, "sha256").hexdigest())


def model_card(facts: CardFacts) -> str:
    """The card's text, Markdown with YAML front matter."""
    return f"---\n{front_matter(facts)}---\n\n{body(facts)}"


def front_matter(facts: CardFacts) -> str:
    inherited = inherited_facts(facts.source_card)
    tags = [facts.output_format, facts.method, "quantized"]
    entries: dict[str, Any] = {}
    if facts.base_model:
        entries |= {"base_model": facts.base_model, "base_model_relation": "quantized"}
    entries |= {"library_name": LIBRARIES[facts.output_format], **inherited, "tags": tags}
    text: str = yaml.safe_dump(entries, sort_keys=False, allow_unicode=True, width=1000)
    return text


def inherited_facts(card: str) -> dict[str, Any]:
    """What a source's front matter says that its conversion may repeat; nothing where it is not readable.

    The card is free text by strangers: only short plain strings, and lists of them, are taken over.
    """
    parts = card.split("---", 2)
    if len(parts) < 3 or parts[0].strip():
        return {}
    try:
        found = yaml.safe_load(parts[1])
    except (yaml.YAMLError, RecursionError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: found[key] for key in INHERITED if plain(found.get(key))}


def plain(value: object) -> bool:
    if isinstance(value, list):
        return 0 < len(value) <= 100 and all(isinstance(one, str) and plain(one) for one in value)
    return isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable()


def body(facts: CardFacts) -> str:
    source = f"[{facts.base_model}](https://huggingface.co/{facts.base_model})" if facts.base_model else facts.name
    if facts.base_model and facts.commit:
        source += f" at commit `{facts.commit[:12]}`"
    total = sum(file.nbytes for file in facts.files)
    lines = [
        f"# {facts.name}, {facts.method}",
        "",
        f"{source}, converted to {facts.output_format} with method `{facts.method}`.",
        "",
        "| | |",
        "|---|---|",
        f"| weights | {facts.weights:,} |",
        f"| bits per weight | {facts.bits_per_weight:.2f} |",
        f"| size | {size(total)} (source: {size(facts.source_bytes)}) |",
        *(f"| {label} | {value} |" for label, value in facts.quality.items()),
        "",
        "## Run it",
        "",
        *HOW_TO_RUN[facts.output_format](facts),
        "",
        "## Files",
        "",
        "| file | bytes | SHA-256 |",
        "|---|---|---|",
        *(f"| `{file.name}` | {file.nbytes:,} | `{file.sha256}` |" for file in facts.files),
        "",
    ]
    return "\n".join(lines)


def _llama_cpp(facts: CardFacts) -> list[str]:
    file = facts.files[0].name
    return [
        "```sh",
        f"llama-cli --hf-repo {facts.repo} --hf-file {file}",
        f"ollama run hf.co/{facts.repo}:{facts.method.upper()}",
        "```",
    ]


def _transformers(facts: CardFacts) -> list[str]:
    return [
        "```python",
        f"from transformers import {facts.auto_class}, AutoTokenizer",
        "",
        f'model = {facts.auto_class}.from_pretrained("{facts.repo}")',
        f'tokenizer = AutoTokenizer.from_pretrained("{facts.repo}")',
        "```",
    ]


HOW_TO_RUN = {"gguf": _llama_cpp, "safetensors": _transformers, "pytorch": _transformers}
