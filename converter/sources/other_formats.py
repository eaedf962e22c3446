"""What a directory or repository holds instead of weights that are read: told by the names of its files."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path

_DIRECTORIES, _FILES = 32, 256
"""Directories in a directory whose files are looked at, and files of each."""

SAVED = "save the model with save_pretrained()"

KINDS: tuple[tuple[str, str], ...] = (
    (r".*\.gguf", "is a GGUF file; pass its path as the model to convert it"),
    (r"adapter_model\.(safetensors|bin)|adapters\.(safetensors|npz)",
     "is an adapter without its model; pass the model it was trained on, and this directory as the adapter"),
    (r"zero_to_fp32\.py|global_step\d+(/.*)?|(.*/)?zero_pp_rank_.*|(.*/)?mp_rank_\d+_model_states\.pt",
     "belongs to a checkpoint of DeepSpeed, which is gathered first: python zero_to_fp32.py . OUTPUT "
     "--safe_serialization (or python -m deepspeed.utils.zero_to_fp32); put config.json and the tokenizer into OUTPUT"),
    (r"latest_checkpointed_iteration\.txt|(.*/)?mp_rank_\d+(_\d+)?(/.*)?|iter_\d+(/.*)?|(.*/)?model_optim_rng\.pt",
     "belongs to a checkpoint of Megatron; convert it to Hugging Face's format with Megatron's or NeMo's own tools"),
    (r"(.*/)?(__\d+_\d+\.distcp|\.metadata)",
     "belongs to a checkpoint of torch.distributed (FSDP), which is joined first: accelerate merge-weights DIRECTORY "
     "OUTPUT, or python -m torch.distributed.checkpoint.format_utils dcp_to_torch DIRECTORY pytorch_model.bin"),
    (r"(.*/)?(.*_)?rank_?\d+\.pt|(.*/)?pytorch_model_fsdp.*",
     f"is a shard of FSDP; load all of them in the training's own program, and {SAVED}"),
    (r"model_index\.json|unet(/.*)?|vae(/.*)?",
     "belongs to a diffusion model (diffusers), which is no language model"),
    (r".*\.nemo", "is an archive of NeMo; convert it to Hugging Face's format with NeMo's own tools"),
    (r".*\.ckpt", f"is a checkpoint of Lightning or TensorFlow; load it in the program that wrote it, and {SAVED}"),
    (r"tf_model.*\.h5|.*\.weights\.h5|saved_model\.pb|model\.ckpt.*|.*\.keras",
     "holds weights of TensorFlow; load them with a release of transformers before 5, from_pretrained(…, "
     f"from_tf=True), and {SAVED}"),
    (r"flax_model.*\.msgpack",
     "holds weights of Flax; load them with a release of transformers before 5, from_pretrained(…, from_flax=True), "
     f"and {SAVED}"),
    (r"(.*/)?.*\.onnx(_data)?", "is an ONNX model; convert the checkpoint that it was exported from"),
    (r"openvino_.*", "is an OpenVINO model; convert the checkpoint that it was exported from"),
    (r"(ndarray-cache|tensor-cache)\.json|params_shard_\d+\.bin",
     "belongs to a model of MLC; convert the checkpoint that it was compiled from"),
    (r".*\.(mlpackage|mlmodel|tflite|engine)", "is compiled for one runtime; convert the checkpoint it was made of"),
    (r"_CHECKPOINT_METADATA|_METADATA|(.*/)?manifest\.ocdbt|.*\.orbax.*",
     f"belongs to a checkpoint of Orbax (JAX); load it in the program that wrote it, and {SAVED}"),
    (r".*\.(incomplete|part|partial|crdownload|aria2|tmp)", "is a download that did not finish; download it again"),
    (r".*\.(zip|tar|tgz|tar\.\w+|7z|rar)", "is an archive; unpack it and pass the directory that it holds"),
)  # fmt: skip
"""Names of files, or of directories in the directory, and what is said of one; the first kind that is there counts."""

_PATTERNS = tuple((re.compile(pattern, re.IGNORECASE), what) for pattern, what in KINDS)


def explained_files(names: Collection[str]) -> str | None:
    """What files are that are not weights as they are read: a file's name and the rest of a sentence about it.

    Args:
        names: of all files, those in directories with the directory's name before them.
    """
    ordered = sorted(names)
    for pattern, what in _PATTERNS:
        if found := next((name for name in ordered if pattern.fullmatch(name)), None):
            return f"{found} {what}"
    return None


def below(directory: Path, names: Iterable[str]) -> set[str]:
    """The names of files in a directory's directories, with the directory before them."""
    found: set[str] = set()
    inside = [name for name in sorted(names) if (directory / name).is_dir()]
    for name in inside[:_DIRECTORIES]:
        try:
            listed = sorted(path.name for path in (directory / name).iterdir())[:_FILES]
        except OSError:
            continue
        found.update(f"{name}/{file}" for file in listed if file.isprintable())
    return found
