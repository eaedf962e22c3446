"""How much memory there is, and how much a full verification takes."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from converter.errors import ConversionError, EnvironmentFailure

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Available:
    """Memory that a new process may take.

    Attributes:
        nbytes: how much.
        limit: what sets this bound, to be read after a number of bytes.
    """

    nbytes: int
    limit: str

    def __str__(self) -> str:
        return f"{self.nbytes / 1e9:.1f} GB {self.limit}"


def available_memory() -> Available | None:
    """The least of what the system has free, what the control group leaves and what ``ulimit -v`` allows.

    None where the system tells nothing of the kind.
    """
    found = [each for each in (_of_system(), *_of_groups(), _of_process()) if each is not None]
    return min(found, key=lambda each: each.nbytes, default=None)


def address_space() -> int | None:
    """Bytes of address space a process may use (``ulimit -v``); None without a limit."""
    try:
        import resource
    except ImportError:  # not a Unix
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft


def _of_process() -> Available | None:
    limit = address_space()
    return None if limit is None else Available(limit, "allowed by ulimit -v")


def _of_system() -> Available | None:
    """``MemAvailable`` of ``/proc/meminfo``, in kB: free memory and caches that can be given up."""
    fields = _fields(PROC / "meminfo")
    return Available(fields["MemAvailable"] * 1024, "free") if "MemAvailable" in fields else None


def _of_groups() -> list[Available]:
    """What each control group above this process leaves, of version 2 (``memory.max``) or 1.

    Page cache counts as used and is given up before anything else: ``inactive_file`` and ``active_file`` of its
    ``memory.stat`` are free.
    """
    found = []
    for group, (limit, usage) in _groups():
        most, used = _number(group / limit), _number(group / usage)
        if most is None or used is None or most >= 1 << 60:  # version 1 spells "no limit" as a huge number
            continue
        stat = _fields(group / "memory.stat")
        cached = sum(stat.get(name, 0) for name in ("inactive_file", "active_file"))
        found.append(Available(max(0, most - max(0, used - cached)), "left to this container or control group"))
    return found


def _groups() -> list[tuple[Path, tuple[str, str]]]:
    """Directories of this process's control groups up to the root, and the names of limit and usage in them."""
    names = {"2": ("memory.max", "memory.current"), "1": ("memory.limit_in_bytes", "memory.usage_in_bytes")}
    found = []
    try:
        lines = (PROC / "self" / "cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            root, version = CGROUPS, "2"
        elif "memory" in controllers.split(","):
            root, version = CGROUPS / "memory", "1"
        else:
            continue
        inner = root / path.lstrip("/")
        # In a container the path is often the host's; then the root is the container's own group.
        for group in (inner, *inner.parents):
            if group.is_relative_to(root):
                found.append((group, names[version]))
    return found


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def _fields(path: Path) -> dict[str, int]:
    """Numbers by the word before them, line by line."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.replace(":", " ").split()[:2] for line in lines)
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


#: What torch, transformers and the results of a run take beside the weights: resident, and as addresses.
BASE, BASE_ADDRESSES = 550_000_000, 1_500_000_000

#: Tokens of a window, and how many copies of a window's logits there are at once.
_WINDOW, _COPIES = 256, 3

#: The number of an expert in a tensor's name: transformers keeps a layer's experts in one tensor.
_EXPERT = re.compile(r"(?<=\bexperts\.)\d+\.")


def memory_of_full_verification(weights: int, *, largest: int, vocab_size: int, batch_size: int = 1) -> int:
    """Bytes that the source takes while it is run, in float32.

    Args:
        weights: how many the checkpoint holds.
        largest: weights of the largest tensor that is copied while it is loaded, a layer's experts counting as one.
        vocab_size: length of a row of logits.
        batch_size: windows that are run at once.
    """
    return BASE + 4 * (weights + largest + batch_size * _WINDOW * vocab_size * _COPIES)


def check_memory(source: Path, *, vocab_size: int | None = None, batch_size: int = 1) -> None:
    """Refuse a full verification that cannot fit, by the headers of the checkpoint, before anything is loaded.

    A checkpoint that cannot be opened passes: whoever opens it next tells why.

    Args:
        source: the checkpoint's directory.
        vocab_size: length of a row of logits; that of the configuration by default.
        batch_size: windows that are run at once.

    Raises:
        EnvironmentFailure: how much it takes, how much there is, and what to do.
    """
    from converter.checkpoints import open_checkpoint

    free = available_memory()
    if free is None:
        return
    try:
        with open_checkpoint(source) as checkpoint:
            sizes: Counter[str] = Counter()
            for name, tensor in checkpoint.tensors.items():
                sizes[_EXPERT.sub("", name)] += math.prod(tensor.shape)
            config, stored = checkpoint.config, checkpoint.nbytes
    except ConversionError:
        return
    text = config.get("text_config")
    found = config.get("vocab_size") or (text.get("vocab_size") if isinstance(text, dict) else None)
    words = vocab_size or (found if isinstance(found, int) else 0)
    weights, largest = sizes.total(), max(sizes.values(), default=0)
    needed = memory_of_full_verification(weights, largest=largest, vocab_size=words, batch_size=batch_size)
    limit = address_space()
    if needed > free.nbytes or (limit is not None and needed - BASE + BASE_ADDRESSES + stored > limit):
        one = memory_of_full_verification(weights, largest=largest, vocab_size=words)
        smaller = "a smaller --batch-size or " if batch_size > 1 and one <= free.nbytes else ""
        raise EnvironmentFailure(
            f"a full verification runs the source in float32, which takes about {needed / 1e9:.1f} GB for "
            f"{weights:,} weights, with {free}; use {smaller}--verify load, or a machine with more memory"
        )
