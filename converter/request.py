"""One conversion as the user asks for it: every choice, with its default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from converter.errors import UsageError
from converter.recipes.overrides import Overrides

FORMATS = ("gguf", "safetensors", "pytorch")
VERIFY_LEVELS = ("none", "load", "full")
#: What ``torch_dtype`` may say, and the type that the source's weights are rounded to first.
LOAD_DTYPES: Mapping[str, str | None] = {"auto": None, "float32": None, "float16": "f16", "bfloat16": "bf16"}


@dataclass(frozen=True)
class Request:
    """What is to be made of which model, and how.

    Attributes:
        model: directory of a checkpoint, a GGUF file, a Hub id (``org/name[@revision]``), or a URL.
        method: a name that the format knows; for GGUF those of ``converter.recipes.METHODS``.
        output: the file or directory to write, or an existing directory for it; by default
            ``<model>-<method>.gguf`` or ``<model>-<method>-<format>`` here. A URL is uploaded to.
        output_format: one of ``FORMATS``.
        tokenizer: where the tokenizer's files are, if not in ``model``; as ``model``.
        adapters: LoRA adapters, merged one after the other.
        pre: name of llama.cpp's pre-tokenizer, overriding the one derived and proved.
        imatrix: importance matrices, added up.
        calibrate: texts on which an importance matrix is measured first; it is kept as ``<output>.imatrix.gguf``.
        overrides: what the user decides instead of the method.
        allow_requantize: quantize what a GGUF source holds quantized already.
        threads: worker threads; by default one for each processor this process may use.
        dry_run: plan and prove, write nothing.
        verify: ``none``, ``load`` (it is loaded, tokenizes alike, generates) or ``full`` (logits compared with the
            source's).
        overwrite: replace an existing output.
        force: convert even where the catalogue knows the very same output.
        catalogue: the SQLite file where results are recorded; by default ``catalogue.sqlite`` beside the output, and
            none with an empty path.
        torch_dtype: ``auto``, or a dtype that the weights are rounded to first, as loading a model in it would.
        trust_remote_code: let transformers run the checkpoint's own code in a verification.
        batch_size: windows of text at a time in a full verification.
        stream: read a Hub model's weights by ranges instead of downloading them first.
        split_max_size: bytes of tensors in each file at most; None for one file (safetensors and pytorch: 5 GB).
        split_max_tensors: tensors in each file of a GGUF at most.
        modelfile: write a Modelfile for Ollama beside a GGUF.
        push_to_hub: repository on the Hub that the output is uploaded to, with a model card.
    """

    model: str | Path
    method: str
    output: str | Path | None = None
    output_format: str = "gguf"
    tokenizer: str | Path | None = None
    adapters: Sequence[str | Path] = ()
    pre: str | None = None
    imatrix: Sequence[str | Path] = ()
    calibrate: Sequence[str | Path] = ()
    overrides: Overrides = field(default_factory=Overrides)
    allow_requantize: bool = False
    threads: int | None = None
    dry_run: bool = False
    verify: str = "load"
    overwrite: bool = False
    force: bool = False
    catalogue: str | Path | None = None
    torch_dtype: str = "auto"
    trust_remote_code: bool = False
    batch_size: int = 1
    stream: bool = False
    split_max_size: int | None = None
    split_max_tensors: int | None = None
    modelfile: bool = False
    push_to_hub: str | None = None

    def __post_init__(self) -> None:
        """Refuse values outside their lists; the command line has checked its own already."""
        for name, value, allowed in (
            ("output format", self.output_format, FORMATS),
            ("verify", self.verify, VERIFY_LEVELS),
            ("torch_dtype", self.torch_dtype, tuple(LOAD_DTYPES)),
        ):
            if value not in allowed:
                raise UsageError(f"{name} {value!r} does not exist; choose {', '.join(allowed)}")
        for name, number in (
            ("threads", self.threads),
            ("split_max_size", self.split_max_size),
            ("split_max_tensors", self.split_max_tensors),
        ):
            if number is not None and number < 1:
                raise UsageError(f"{name} is {number}, at least 1 expected")
