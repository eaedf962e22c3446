"""Which files of a repository a conversion needs: every small one that describes the model, and one set of weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from fnmatch import fnmatchcase

from converter.errors import CheckpointError
from converter.sources.other_formats import explained_files

#: Everything but weights that a conversion, a proof, a verification or a model card looks at.
SMALL = (
    "config*.json", "*_config.json", "params.json", "modules.json", "1_Pooling/config.json", "1_LogitScore/config.json",
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "vocab-*", "merges.txt", "tekken.json",
    "*.tiktoken", "*.model", "chat_template*", "*.jinja", "additional_chat_templates/*.jinja", "*.py",
    "README.md", "LICENSE*", "LICENCE*",
)  # fmt: skip

INDEX_ENDING = ".index.json"

#: Weights that belong to training or to another program, not to the model.
_NOT_MODEL = re.compile(
    r"(training_args|optimizer|scheduler|scaler|rng_state|openvino_|params_shard_|zero_pp_rank_|mp_rank_).*|.*\.fp16\..*"
)
_SPLIT = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)

#: Sets of weights, the one to be preferred first: the index that lists the set, and what its files are called.
_SETS: tuple[tuple[str | None, re.Pattern[str]], ...] = (
    ("model.safetensors.index.json", re.compile(r"model(-\d+-of-\d+)?\.safetensors")),
    ("pytorch_model.bin.index.json", re.compile(r"pytorch_model(-\d+-of-\d+)?\.bin")),
    (None, re.compile(r"consolidated\.\d+\.pth")),
    (None, re.compile(r"adapters\.safetensors")),  # MLX's, beside those of earlier steps
)
#: A file of weights by any name, where it is the only one of its kind.
_LONE = (re.compile(r"[^/]+\.safetensors"), re.compile(r"[^/]+\.(bin|pt|pth)"))


def small_files(names: Collection[str]) -> list[str]:
    """The files to have on this machine whatever becomes of the weights."""
    return sorted(
        name
        for name in names
        if any(fnmatchcase(name, pattern) and name.count("/") == pattern.count("/") for pattern in SMALL)
    )


def index_of(names: Collection[str]) -> str | None:
    """The index of the set of weights that :func:`weight_files` will choose, where it has one."""
    for index, pattern in _SETS:
        if index in names:
            return index
        if any(pattern.fullmatch(name) for name in names):
            return None
    return None


def weight_files(names: Collection[str], listed: Callable[[str], Collection[str]], where: str) -> list[str]:
    """One set of weights: safetensors, else PyTorch's, else Meta's, else the only file of weights there is.

    Args:
        names: all the repository's files.
        listed: reads an index: the files that it names.
        where: the repository, for messages.

    Raises:
        CheckpointError: files that the index names are missing, there are several sets to choose from, or none.
    """
    for index, pattern in _SETS:
        if index is not None and index in names:
            wanted = sorted(listed(index))
            if missing := [name for name in wanted if name not in names]:
                raise CheckpointError(
                    f"{where}: {index} names {missing[0]}, which is not there; ask its authors for it"
                )
            return wanted
        if found := sorted(name for name in names if pattern.fullmatch(name)):
            return found
    for pattern in _LONE:
        found = sorted(name for name in names if pattern.fullmatch(name) and not _NOT_MODEL.fullmatch(name))
        if len(found) > 1:
            raise CheckpointError(
                f"{where}: holds {len(found)} files of weights and no index that says how they belong together: "
                f"{', '.join(found[:3])}{', …' if len(found) > 3 else ''}; download the one you want and give its "
                "directory"
            )
        if found:
            return found
    return gguf_files(names, None, where)


def gguf_files(names: Collection[str], tag: str | None, where: str) -> list[str]:
    """The GGUF file whose name ends with the tag, or the only one; of a split one all its parts.

    Raises:
        CheckpointError: there is none, or several that could be meant.
    """
    files = sorted(name for name in names if name.lower().endswith(".gguf"))
    sets = sorted({parts_of(name, files) for name in files if tag is None or _tagged(name, tag)})
    if len(sets) == 1:
        return list(sets[0])
    if sets or files:
        choice = ", ".join(parts[0] for parts in (sets or [(name,) for name in files])[:4])
        found = f"no GGUF file of {tag}" if not sets else f"{len(sets)} GGUF files"
        raise CheckpointError(f"{where}: holds {found}; give one with its name, as in {where}/FILE.gguf: {choice}")
    expected = "expected *.safetensors, pytorch_model*.bin, consolidated.*.pth or a .gguf file"
    foreign = explained_files(names)
    raise CheckpointError(f"{where}: holds no weights{f' that are read: {foreign}' if foreign else f'; {expected}'}")


def parts_of(name: str, names: Collection[str]) -> tuple[str, ...]:
    """All parts of the split GGUF file that this one belongs to, the first one first; just this one if it is whole."""
    match = _SPLIT.fullmatch(name)
    if match is None:
        return (name,)
    pattern = re.compile(rf"{re.escape(match['stem'])}-\d{{5}}-of-{match['count']}\.gguf", re.IGNORECASE)
    return tuple(sorted(other for other in names if pattern.fullmatch(other)))


def all_parts(name: str) -> tuple[str, ...]:
    """The names of all parts that a split GGUF file must have, by that of one; just this one if it is whole."""
    match = _SPLIT.fullmatch(name)
    if match is None:
        return (name,)
    return tuple(
        f"{match['stem']}-{number:05}-of-{match['count']}{name[-len('.gguf') :]}"
        for number in range(1, int(match["count"]) + 1)
    )


def _tagged(name: str, tag: str) -> bool:
    return re.search(rf"(^|[^A-Za-z0-9]){re.escape(tag)}$", stem(name), re.IGNORECASE) is not None


def stem(name: str) -> str:
    """A GGUF file's name without its ending and number; any other name as it is."""
    if match := _SPLIT.fullmatch(name):
        return match["stem"]
    return name[: -len(".gguf")] if name.lower().endswith(".gguf") else name
