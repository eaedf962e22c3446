"""What each method costs in quality: ``python tools/quality.py`` prints the table of the README.

The sample model's held-out text, in windows of 256 tokens, run by transformers in float32 from the checkpoint and by
llama.cpp from each file. The importance matrix is measured on Python's own help topics, which the model was trained on.
"""

from __future__ import annotations

import json
import pydoc_data.topics
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
from tqdm import tqdm

from converter import convert
from converter.errors import RecipeError
from converter.pipeline import collect
from converter.recipes import METHODS
from converter.runtime import run_isolated
from converter.verification.divergence import Divergence

WINDOW = 256


@click.command()
@click.option("--model", type=click.Path(path_type=Path), default=Path("tests/fixtures/sample"), show_default=True)
@click.option("--text", type=click.Path(path_type=Path), help="UTF-8 text.  [default: heldout.txt of the model]")
@click.option("--windows", default=40, show_default=True, help="Windows of 256 tokens.")
@click.option("--threads", default=2, show_default=True)
def main(model: Path, text: Path | None, windows: int, threads: int) -> None:
    """Perplexity and mean KL divergence of every method, plain and with importance, as a Markdown table."""
    ids = windows_of(model, text or model / "heldout.txt")[:windows]
    source = source_logits(model, ids)
    with TemporaryDirectory() as name:
        folder = Path(name)
        topics = folder / "topics.txt"
        topics.write_text("\n".join(pydoc_data.topics.topics.values()), encoding="utf-8")
        importance = folder / "imatrix.gguf"
        collect(model, [topics], importance, threads=threads, chunks=200)
        rows = []
        for method in tqdm(METHODS.values(), unit=" methods"):
            figures: list[Divergence | None] = []
            for matrices in ([], [importance]):
                try:
                    made = convert(
                        model, method.name, folder / "x.gguf", imatrix=matrices, verify="none", overwrite=True
                    )
                except RecipeError:  # useless without importance
                    figures.append(None)
                    continue
                figures.append(measure(made.output, ids, source, threads))
            rows.append((made.bits_per_weight, method.name, *figures))
    source_perplexity = next(figure for row in rows for figure in row[2:] if figure is not None).source_perplexity
    click.echo(f"Source: perplexity {source_perplexity:.3f} over {sum(map(len, ids)) - len(ids):,} tokens.\n")
    click.echo(
        "| method | bits per weight | perplexity | mean KL (nats) | perplexity, importance | mean KL, importance |"
    )
    click.echo("|---|---|---|---|---|---|")
    for bits, name, plain, weighted in sorted(rows, key=lambda row: -row[0]):
        cells = [cell for figure in (plain, weighted) for cell in in_cells(figure)]
        click.echo(f"| `{name}` | {bits:.2f} | {' | '.join(cells)} |")


def in_cells(figure: Divergence | None) -> tuple[str, str]:
    return ("–", "–") if figure is None else (f"{figure.file_perplexity:.3f}", f"{figure.mean_kl:.2g}")


def windows_of(model: Path, text: Path) -> list[list[int]]:
    """Whole windows: the begin token, then consecutive tokens of the text."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    begin = json.loads((model / "config.json").read_text())["bos_token_id"]
    ids = tokenizer.encode(text.read_text(encoding="utf-8"), add_special_tokens=False).ids
    step = WINDOW - 1
    return [[begin, *ids[start : start + step]] for start in range(0, len(ids) - step + 1, step)]


def source_logits(model: Path, ids: list[list[int]]) -> list[np.ndarray]:
    """The source's logits of each window, float32 (256, vocabulary)."""
    import torch
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    with torch.no_grad():
        return [loaded(torch.tensor([window])).logits[0].numpy() for window in ids]


def measure(file: Path, ids: list[list[int]], source: list[np.ndarray], threads: int) -> Divergence:
    """How far a file's predictions are from the source's."""
    divergence = Divergence()
    expected = zip(ids, source, strict=True)

    def compare(logits: np.ndarray) -> None:
        window, wanted = next(expected)
        divergence.add(np.asarray(window), wanted, logits)

    run_isolated("quality:file_logits", progress=compare, file=file, ids=ids, threads=threads)
    return divergence


def file_logits(file: Path, ids: list[list[int]], threads: int) -> Iterator[np.ndarray]:
    """A file's logits of each window, float32 (256, vocabulary). Called in a child process."""
    from converter.verification.llama_cpp_model import LlamaModel

    with LlamaModel(file, threads) as model:
        for window in ids:
            model.open_context(WINDOW)
            yield model.decode(window, 0)


if __name__ == "__main__":
    main()
