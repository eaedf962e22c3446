"""How much memory there is for another process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
