"""The source as a model of transformers, in float32 on the CPU. Called in a child process of its own.

transformers reads the weights wherever it can: then the reference owes nothing to this converter. Where it cannot (it
lacks the package or the GPU for a quantization, or the weights have other names than it looks for), the model is filled
with the tensors that ``checkpoints`` reads, and the verdict says so.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from converter.errors import ConversionError, EnvironmentFailure, VerificationError
from converter.runtime.environment import environment_of, missing_package, require

if TYPE_CHECKING:
    import torch

    from converter.checkpoints import SourceTensor

#: Characters of another library's message that are passed on.
MAX_REASON = 400

#: The types weights can be rounded to before anything else, as a plan names them and as torch does.
ROUNDING = {"f16": "float16", "bf16": "bfloat16"}

#: What the verdict says where transformers could not read the weights.
READ_BY_US = "the source's weights were read by convert, because transformers cannot read them"

ADAPTER = "adapter_config.json"


class SourceModel(NamedTuple):
    """A model that is ready to run.

    Attributes:
        model: in float32, on the CPU, attention computed step by step.
        note: how it was read, where that isn't by transformers alone; else empty.
    """

    model: Any
    note: str


def load_source(
    source: str,
    classes: Sequence[str],
    *,
    unread: tuple[str, ...] = (),
    trust_remote_code: bool = False,
    load_dtype: str | None = None,
    adapters: Sequence[str] = (),
    stock: bool = False,
) -> SourceModel:
    """The checkpoint as transformers runs it.

    Args:
        source: directory of the checkpoint.
        classes: transformers' auto classes; the first that knows the model's configuration is taken, or the last.
        unread: beginnings of the names of weights that may be missing.
        trust_remote_code: let transformers run the checkpoint's own code.
        load_dtype: a key of ``ROUNDING``: the weights are rounded to that type.
        adapters: directories of LoRA adapters, which PEFT puts into the model.
        stock: only what transformers reads by itself counts.

    Raises:
        VerificationError: neither transformers nor this converter can make a model of it.
        EnvironmentFailure: a package is missing or broken, or there is too little memory.
    """
    torch = require("torch")
    require("transformers")
    options = {"unread": unread, "trust_remote_code": trust_remote_code}
    first = found = None
    try:
        if stock or not _quantized_unsaid(source):
            found = SourceModel(_read_by_transformers(source, classes, **options, named=stock and bool(unread)), "")
    except (VerificationError, EnvironmentFailure) as refusal:
        if stock:
            raise
        # The exception's own frames hold what the first attempt read; that must be gone before the second one.
        first = type(refusal)(str(refusal))
    if found is None:
        try:
            found = SourceModel(_read_by_us(source, classes, **options), READ_BY_US)
        except ConversionError as refusal:
            raise first or refusal from None
    model = found.model
    if adapters:
        model = _with_adapters(model, adapters, merged=load_dtype is not None)
    if load_dtype is not None:
        rounded = getattr(torch, ROUNDING[load_dtype])
        for parameter in model.parameters():
            parameter.data = parameter.data.to(rounded).float()
    return found._replace(model=model.eval())


def _read_by_transformers(source: str, classes: Sequence[str], **options: Any) -> Any:
    with without_adapter(source) as directory:
        return _made(directory, classes, **options)


def _quantized_unsaid(source: str) -> bool:
    """Whether weights are quantized and the configuration doesn't say so: transformers takes codes for weights."""
    from converter.checkpoints import open_checkpoint
    from converter.checkpoints.quantized.dequantized import DequantizedTensor

    try:
        with open_checkpoint(Path(source)) as checkpoint:
            parts = [checkpoint.config, *(part for part in checkpoint.config.values() if isinstance(part, dict))]
            said = any("quantization_config" in part for part in parts)
            return not said and any(isinstance(tensor, DequantizedTensor) for tensor in checkpoint.tensors.values())
    except ConversionError:
        return False  # what transformers makes of it is told


def _read_by_us(source: str, classes: Sequence[str], **options: Any) -> Any:
    from converter.checkpoints import open_checkpoint

    with open_checkpoint(Path(source)) as checkpoint, without_adapter(source) as directory:
        return _made(directory, classes, checkpoint.config, checkpoint.tensors, **options)


def _made(
    directory: str,
    classes: Sequence[str],
    settings: Mapping[str, Any] | None = None,
    tensors: Mapping[str, SourceTensor] | None = None,
    *,
    unread: tuple[str, ...],
    trust_remote_code: bool,
    named: bool = False,
) -> Any:
    """A model with every weight in its place.

    Args:
        directory: of the checkpoint.
        classes: as in :func:`load_source`.
        settings: the configuration, where the directory's is not to be read as it stands.
        tensors: the weights, where transformers is not to read the directory's.
        unread: as in :func:`load_source`.
        trust_remote_code: as in :func:`load_source`.
        named: as in :func:`auto_class`.
    """
    import torch

    options: dict[str, Any] = {"trust_remote_code": trust_remote_code, "local_files_only": True}
    try:
        config = configuration(directory, settings, **options)
        found, weights = auto_class(config, classes, named=named), {}
        place: str | None = directory
        if tensors is not None:
            with torch.device("meta"):  # nothing but the class, which from_config chooses as from_pretrained does
                empty = found.from_config(config, trust_remote_code=trust_remote_code)
            found, place, config = type(empty), None, empty.config
            weights = {"state_dict": {name: Lazily(tensor) for name, tensor in tensors.items() if _is_weight(tensor)}}
        model, info = found.from_pretrained(
            place,
            config=config,
            dtype=torch.float32,
            attn_implementation="eager",
            output_loading_info=True,
            **weights,
            **options,
        )
    except Exception as error:  # a stranger's files: transformers raises whatever it meets
        if (failure := environment_of(error)) is not None:
            raise failure from error
        raise VerificationError(f"transformers cannot load it: {one_line(error)}") from error
    check_loaded(model, info, unread)
    for parameter in model.parameters():
        # What a quantization left alone stays as it was stored, whatever type was asked for.
        if type(parameter) is torch.nn.Parameter and parameter.dtype in (torch.float16, torch.bfloat16):
            parameter.data = parameter.data.float()
    return model


def check_loaded(model: Any, info: Mapping[str, Any], unread: tuple[str, ...]) -> None:
    """Refuse a model of which weights are missing or of another shape.

    Args:
        model: of any class.
        info: what ``from_pretrained`` tells with ``output_loading_info``.
        unread: beginnings of the names of weights that may be missing. Where there are any, the model behind a head is
            all that counts.

    Raises:
        VerificationError: which.
    """
    missing = sorted(info["missing_keys"])
    if unread and model.base_model is not model:
        prefix = f"{model.base_model_prefix}."
        missing = [name.removeprefix(prefix) for name in missing if name.startswith(prefix)]
    if missing := [name for name in missing if not (unread and name.startswith(unread))]:
        raise VerificationError(f"transformers finds no weights for {', '.join(missing[:3])}")
    if mismatched := sorted(info["mismatched_keys"]):
        name, found, expected = mismatched[0]
        raise VerificationError(f"transformers expects {name} of shape {tuple(expected)}, it has {tuple(found)}")


def configuration(directory: str, settings: Mapping[str, Any] | None, **options: Any) -> Any:
    """transformers' configuration of a checkpoint.

    Args:
        directory: of the checkpoint.
        settings: its configuration as ``checkpoints`` reads it; None for that of the directory, quantized as it is.
        options: of ``from_pretrained``.
    """
    import transformers

    if settings is None:
        return transformers.AutoConfig.from_pretrained(directory, **options)
    try:
        config = transformers.AutoConfig.from_pretrained(directory, **options)
    except (OSError, ValueError):  # there is none, or not as transformers reads JSON
        config = transformers.AutoConfig.for_model(**settings)
    for part in (config, config.get_text_config()):
        if hasattr(part, "quantization_config"):
            del part.quantization_config
    return config


def auto_class(config: Any, names: Sequence[str], *, named: bool = False) -> Any:
    """The first of transformers' auto classes that knows a configuration; the last one otherwise.

    Args:
        config: transformers' configuration.
        names: of the auto classes.
        named: the class that the configuration itself names counts before them, where transformers has it. Which
            modules a quantization leaves alone is said in that class's names.
    """
    import transformers

    if named and config.architectures and hasattr(transformers, config.architectures[0]):
        return getattr(transformers, config.architectures[0])
    *preferred, last = (getattr(transformers, name) for name in names)
    return next((found for found in preferred if type(config) in found._model_mapping), last)


class Lazily:
    """A tensor that is read when transformers' loader takes all of it, as it does with safetensors' slices."""

    def __init__(self, tensor: SourceTensor) -> None:
        self._tensor = tensor

    def get_shape(self) -> list[int]:
        return list(self._tensor.shape)

    def get_dtype(self) -> str:
        return "F32"

    def __getitem__(self, _: Any) -> torch.Tensor:
        import torch

        rows = self._tensor.read_rows(0, self._tensor.rows)
        return torch.from_numpy(rows).reshape(self._tensor.shape)


def _is_weight(tensor: SourceTensor) -> bool:
    """Whether it isn't a buffer of whole numbers; what is dequantized while it is read counts by what it gives."""
    from converter.checkpoints.floats import STORED_FLOATS
    from converter.checkpoints.safetensors import SafetensorsTensor

    return not isinstance(tensor, SafetensorsTensor) or tensor.dtype in STORED_FLOATS


def _with_adapters(model: Any, adapters: Sequence[str], *, merged: bool) -> Any:
    from converter.adapters.reference import with_adapters

    try:
        return with_adapters(model, adapters, merged=merged)
    except ImportError as error:
        raise missing_package("peft", error) from error
    except Exception as error:  # PEFT raises whatever it meets
        if (failure := environment_of(error)) is not None:
            raise failure from error
        raise VerificationError(f"PEFT cannot load the adapters: {one_line(error)}") from error


@contextmanager
def without_adapter(directory: str) -> Iterator[str]:
    """The same directory, less the adapter that may lie in it: transformers would load that one unasked."""
    path = Path(directory)
    if not (path / ADAPTER).is_file():
        yield directory
        return
    with tempfile.TemporaryDirectory(prefix="without-adapter-") as scratch:
        for entry in path.resolve().iterdir():
            if not entry.name.startswith("adapter_"):
                (Path(scratch) / entry.name).symlink_to(entry)
        yield scratch


def one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= MAX_REASON else f"{text[:MAX_REASON]}…"
