"""What is done with an output that has its final name: a Modelfile, uploads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from converter.destinations import CardFacts, model_card
from converter.destinations.card import digested, measured
from converter.result import Progress, Result

if TYPE_CHECKING:
    from converter.pipeline.accepted import Accepted
    from converter.sources import Source


def deliver(accepted: Accepted, source: Source, result: Result, tell: Callable[[Progress], None]) -> Result:
    """Write and upload what was asked for beside the output.

    Args:
        accepted: what was asked for.
        source: what the output was made of.
        result: the output under its final name.
        tell: called with each step.

    Raises:
        ConversionError: a Modelfile cannot be made.
        OutputError: an upload failed; the output is kept.
    """
    written = list(result.files or [result.output])
    if accepted.request.modelfile:
        write_modelfile(accepted.modelfile, result.output, source.path)
        written.append(accepted.modelfile)

    def told(item: str, done: int, total: int) -> None:
        tell(Progress("deliver", done, total, item))

    if accepted.repository is not None:
        from converter.destinations.hub import push_to_hub

        card = model_card(card_facts(result, source, accepted.repository))
        what = result.output if result.output.is_dir() else written
        result = replace(result, url=push_to_hub(what, accepted.repository, card=card, progress=told))
    if accepted.destination.url is not None:
        result = replace(result, url=accepted.destination.deliver(written, told))
    return result


def card_facts(result: Result, source: Source, repository: str) -> CardFacts:
    """What a model card tells of a result. Reads the files for their digests.

    Args:
        result: what was made.
        source: what it was made of.
        repository: the repository that the card is for.
    """
    readme = source.path / "README.md"
    hub = source.origin.removeprefix("hub:") if source.origin.startswith("hub:") else ""
    base, _, rest = hub.partition("@")
    return CardFacts(
        repo=repository,
        name=source.name,
        method=result.method,
        output_format=result.output_format,
        files=[digested(path) for path in weight_files(result)],
        weights=result.weights,
        bits_per_weight=result.bits_per_weight,
        source_bytes=result.source_bytes,
        base_model=base or None,
        commit=rest.partition("/")[0] or None,
        quality=measured({} if result.verification is None else vars(result.verification)),
        source_card=readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else "",
    )


def weight_files(result: Result) -> list[Path]:
    """The files of a result that hold weights."""
    if result.output.is_dir():
        return sorted(path for path in result.output.iterdir() if path.suffix in (".safetensors", ".bin"))
    return list(result.files or (result.output,))


def write_modelfile(path: Path, gguf: Path, source: Path) -> None:
    """Write the Modelfile of a finished GGUF.

    Args:
        path: the file to write.
        gguf: the model.
        source: the checkpoint that it was made of.

    Raises:
        ConversionError: what it says cannot be read from the GGUF or the checkpoint.
    """
    from converter.ollama import modelfile

    text = modelfile(gguf, directory=source if source.is_dir() else None)
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
