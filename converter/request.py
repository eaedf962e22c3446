"""One conversion as the user asks for it: every option, declared once, with its default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from converter.option import Decides, Kind, check_values, option, unknown_to, within
from converter.recipes.overrides import Overrides

#: Names of the containers that are written; each is a module of ``converter.formats``.
FORMATS = ("gguf", "safetensors", "pytorch")
#: Levels of verification, each of which proves more than the one before it.
VERIFY_LEVELS = ("none", "load", "full")
#: What ``torch_dtype`` may say, and the type that the source's weights are rounded to first.
LOAD_DTYPES: Mapping[str, str | None] = {"auto": None, "float32": None, "float16": "f16", "bfloat16": "bf16"}

_GGUF = ("gguf",)
_MODEL, _OUTPUT, _QUANTIZATION = "Model", "Output", "Quantization"
_VERIFICATION, _RUN = "Verification", "Run"


@dataclass(frozen=True)
class Request:
    """What is to be made of which model, and how.

    The one place where an option is declared: the command line, YAML files, batches and the catalogue's key are made
    from these fields and from those of ``Overrides``.

    Attributes:
        model: directory of a checkpoint, a GGUF file, a Hub id (``org/name[@revision]``), or a URL.
        method: a name that the format knows; for GGUF those of ``converter.recipes.METHODS``.
        output: the file or directory to write, or an existing directory for it; by default
            ``<model>-<method>.gguf`` or ``<model>-<method>-<format>`` here. A URL is uploaded to.
        output_format: one of ``FORMATS``.
        adapters: LoRA adapters, merged one after the other.
        leave_out: regular expressions of whole names of the source's tensors to do without.
        pre: name of llama.cpp's pre-tokenizer; overrides the one that is detected.
        imatrix: importance matrices, added up.
        calibrate: texts on which an importance matrix is measured first; it is kept as ``<output>.imatrix.gguf``.
        overrides: what the user decides instead of the method.
        allow_requantize: quantize what a GGUF source holds quantized already.
        split_max_size: bytes of tensors in each file at most; None for one file (safetensors and pytorch: 5 GB).
        split_max_tensors: tensors in each file of a GGUF at most.
        modelfile: write a Modelfile for Ollama beside a GGUF.
        push_to_hub: repository on the Hub that the output is uploaded to, with a model card.
        verify: ``none``, ``load`` (it is loaded, tokenizes alike, generates) or ``full`` (logits compared with the
            source's).
        batch_size: windows of text at a time in a full verification.
        stream: read a Hub model's weights by ranges instead of downloading them first.
        overwrite: replace an existing output.
        force: convert even where the catalogue knows the very same output.
        tokenizer: where the tokenizer's files are, if not in ``model``; as ``model``.
        torch_dtype: ``auto``, or a dtype that the weights are rounded to first, as loading a model in it would.
        trust_remote_code: let transformers run the checkpoint's own code in a verification.
        catalogue: the SQLite file where results are recorded; by default ``catalogue.sqlite`` beside the output, and
            none with an empty path.
        threads: worker threads; by default one for each processor this process may use.
        dry_run: plan and prove, write nothing.

    Raises:
        UsageError: a value that is not among the few there are or a number below 1.
    """

    model: str | Path = field(
        metadata=option(
            "Checkpoint directory, GGUF file, Hub model (ORG/NAME[@REVISION]) or URL (s3://, gs://, hf://).",
            "--model",
            metavar="MODEL",
            key="model.model_name",
            group=_MODEL,
            decides=Decides.NOTHING,  # the source's content is compared, not its place
            per_job=False,
        )
    )
    method: str = field(
        metadata=option(
            "How to store the weights, e.g. q4_k_m or q8_0; several methods make several files. See: convert methods.",
            "--method",
            metavar="NAME[,NAME…]",
            default="q4_k_m; bf16 if --format is not gguf",
            several=True,
            group=_QUANTIZATION,
            decides=Decides.NOTHING,  # a part of the key of its own, as are the output, its format and the verification
            per_job=False,
        )
    )
    output: str | Path | None = field(
        default=None,
        metadata=option(
            "GGUF file to write, or a directory to put it in; for other formats, the model's directory; or a URL.",
            "--output",
            "-o",
            metavar="PATH",
            key="output_path",
            default="MODEL-METHOD.gguf here",
            group=_OUTPUT,
            decides=Decides.NOTHING,
            per_job=False,
        ),
    )
    output_format: str = field(
        default="gguf",
        metadata=option(
            "Format of the output.",
            "--format",
            choices=FORMATS,
            words={
                **dict.fromkeys(("ggml", "llama.cpp", "llamacpp", "ollama", "lmstudio"), "gguf"),
                **dict.fromkeys(("hf", "huggingface", "transformers", "vllm", "safetensor"), "safetensors"),
                **dict.fromkeys(("pt", "pth", "bin", "torch", "torchao"), "pytorch"),
            },
            default="gguf",
            group=_OUTPUT,
            decides=Decides.NOTHING,
        ),
    )
    adapters: Sequence[str | Path] = field(
        default=(),
        metadata=option(
            "LoRA adapter to merge into the model; repeatable.",
            "--adapter",
            kind=Kind.TEXTS,
            metavar="DIR",
            group=_MODEL,
            decides=Decides.CONTENT,
        ),
    )
    leave_out: Sequence[str] = field(
        default=(),
        metadata=option(
            "Leave out the tensors whose whole name matches; repeatable.",
            "--leave-out",
            kind=Kind.TEXTS,
            metavar="REGEX",
            group=_MODEL,
        ),
    )
    pre: str | None = field(
        default=None,
        metadata=option(
            "Name of llama.cpp's pre-tokenizer; overrides the one that is detected.",
            "--pre",
            metavar="NAME",
            group=_MODEL,
            formats=_GGUF,
        ),
    )
    imatrix: Sequence[str | Path] = field(
        default=(),
        metadata=option(
            "Importance matrix; repeatable, several are added up.",
            "--imatrix",
            kind=Kind.TEXTS,
            metavar="FILE",
            group=_QUANTIZATION,
            formats=_GGUF,
            decides=Decides.CONTENT,
        ),
    )
    calibrate: Sequence[str | Path] = field(
        default=(),
        metadata=option(
            "Text to measure an importance matrix on first; repeatable.",
            "--calibrate",
            kind=Kind.TEXTS,
            metavar="TEXT",
            group=_QUANTIZATION,
            formats=_GGUF,
            decides=Decides.CONTENT,
        ),
    )
    overrides: Overrides = field(
        default_factory=Overrides, metadata=within(Overrides, "a type, a key-value or a block chosen by hand", _GGUF)
    )
    allow_requantize: bool = field(
        default=False,
        metadata=option(
            "Allow quantizing weights of a GGUF that are already quantized.",
            "--allow-requantize",
            kind=Kind.FLAG,
            group=_QUANTIZATION,
        ),
    )
    split_max_size: int | None = field(
        default=None,
        metadata=option(
            "Split the output into files of at most this size, e.g. 4G or 500M.",
            "--split-max-size",
            kind=Kind.SIZE,
            group=_OUTPUT,
        ),
    )
    split_max_tensors: int | None = field(
        default=None,
        metadata=option(
            "Split a GGUF into files of at most this many tensors.",
            "--split-max-tensors",
            kind=Kind.COUNT,
            metavar="N",
            group=_OUTPUT,
            formats=_GGUF,
        ),
    )
    modelfile: bool = field(
        default=False,
        metadata=option(
            "Write a Modelfile for Ollama next to the GGUF.",
            "--modelfile",
            kind=Kind.FLAG,
            group=_OUTPUT,
            formats=_GGUF,
            decides=Decides.NOTHING,
        ),
    )
    push_to_hub: str | None = field(
        default=None,
        metadata=option(
            "Upload the output to this Hub repository, with a model card.",
            "--push-to-hub",
            metavar="ORG/NAME",
            group=_OUTPUT,
            decides=Decides.NOTHING,
        ),
    )
    verify: str = field(
        default="load",
        metadata=option(
            "How to check the output: load it, tokenize and generate; full also compares its logits with the source's.",
            "--verify",
            choices=VERIFY_LEVELS,
            words={
                **dict.fromkeys(("no", "off", "skip", "false", "0"), "none"),
                **dict.fromkeys(("yes", "on", "true", "quick", "fast", "1"), "load"),
                **dict.fromkeys(("all", "logits", "perplexity", "kl", "complete", "deep", "2"), "full"),
            },
            default="load",
            group=_VERIFICATION,
            decides=Decides.NOTHING,
        ),
    )
    batch_size: int = field(
        default=1,
        metadata=option(
            "Windows of text processed at once in a full verification.",
            "--batch-size",
            kind=Kind.COUNT,
            metavar="N",
            default="1",
            group=_VERIFICATION,
            decides=Decides.NOTHING,
        ),
    )
    stream: bool = field(
        default=False,
        metadata=option(
            "Read a Hub model's weights as they are needed instead of downloading them first.",
            "--stream",
            kind=Kind.FLAG,
            group=_MODEL,
            decides=Decides.NOTHING,
        ),
    )
    overwrite: bool = field(
        default=False,
        metadata=option(
            "Replace existing output.", "--overwrite", kind=Kind.FLAG, group=_OUTPUT, decides=Decides.NOTHING
        ),
    )
    force: bool = field(
        default=False,
        metadata=option(
            "Convert even if the catalogue already has this exact output.",
            "--force",
            kind=Kind.FLAG,
            group=_OUTPUT,
            decides=Decides.NOTHING,
        ),
    )
    tokenizer: str | Path | None = field(
        default=None,
        metadata=option(
            "Directory with the tokenizer's files, if they are not with the model.",
            "--tokenizer",
            metavar="DIR",
            key="model.tokenizer_name",
            group=_MODEL,
            decides=Decides.CONTENT,
        ),
    )
    torch_dtype: str = field(
        default="auto",
        metadata=option(
            "Round the weights to this type first, as loading the model with it would.",
            "--torch-dtype",
            key="model.model_kwargs.torch_dtype",
            choices=tuple(LOAD_DTYPES),
            words={
                **dict.fromkeys(("fp16", "f16", "half", "torch.float16"), "float16"),
                **dict.fromkeys(("bf16", "torch.bfloat16"), "bfloat16"),
                **dict.fromkeys(("fp32", "f32", "float", "full", "torch.float32"), "float32"),
            },
            default="auto",
            group=_MODEL,
        ),
    )
    trust_remote_code: bool = field(
        default=False,
        metadata=option(
            "Allow transformers to run the checkpoint's own code.",
            "--trust-remote-code",
            kind=Kind.FLAG,
            key="model.model_kwargs.trust_remote_code",
            group=_VERIFICATION,
            decides=Decides.NOTHING,
        ),
    )
    catalogue: str | Path | None = field(
        default=None,
        metadata=option(
            "File to record results in.",
            "--catalogue",
            metavar="FILE",
            default="catalogue.sqlite next to the output",
            group=_OUTPUT,
            decides=Decides.NOTHING,
            per_job=False,
        ),
    )
    threads: int | None = field(
        default=None,
        metadata=option(
            "Number of worker threads.",
            "--threads",
            kind=Kind.COUNT,
            metavar="N",
            key=None,
            default="all processors",
            group=_RUN,
            decides=Decides.NOTHING,
            per_job=False,
        ),
    )
    dry_run: bool = field(
        default=False,
        metadata=option(
            "Print what would be written, tensor by tensor, without writing it.",
            "--dry-run",
            kind=Kind.FLAG,
            key=None,
            group=_RUN,
            decides=Decides.NOTHING,
            per_job=False,
        ),
    )

    def __post_init__(self) -> None:
        check_values(self)

    def without_meaning(self) -> list[str]:
        """What is asked for that ``output_format`` knows nothing of, as the user calls it."""
        return list(unknown_to(self, self.output_format))
