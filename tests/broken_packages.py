"""Packages that fail in a child process as they do on users' machines, made in a directory for ``PYTHONPATH``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def raising(directory: Path, package: str, exception: str) -> Path:
    """A package whose import raises; ``exception`` is its expression in Python."""
    module = directory / package / "__init__.py"
    module.parent.mkdir(parents=True)
    module.write_text(f"raise {exception}\n")
    if package == "llama_cpp":  # its bindings are imported without its own code
        module.write_text("")
        module.with_name("llama_cpp.py").write_text(f"raise {exception}\n")
    return directory


def killed_on_import(directory: Path, package: str, signal: str) -> Path:
    """A package whose import ends the process by a signal."""
    killing = f"import os, signal\nos.kill(os.getpid(), signal.{signal})\n"
    for name in ("__init__.py", "llama_cpp.py") if package == "llama_cpp" else ("__init__.py",):
        module = directory / package / name
        module.parent.mkdir(parents=True, exist_ok=True)
        module.write_text(killing if name != "__init__.py" or package != "llama_cpp" else "")
    return directory


def llama_cpp_with(directory: Path, code: str) -> Path:
    """The real bindings, ``code`` run after them.

    ``default`` in it tells whether the last model was loaded with llama.cpp's own settings.
    """
    spec = find_spec("llama_cpp")
    assert spec is not None
    assert spec.origin is not None
    package = directory / "llama_cpp"
    package.mkdir(parents=True)
    for path in Path(spec.origin).parent.iterdir():
        (package / ("_real.py" if path.name == "llama_cpp.py" else path.name)).symlink_to(path)
    (package / "llama_cpp.py").write_text(
        "import os, signal\n"
        "from llama_cpp import _real\n"
        "from llama_cpp._real import *\n"
        "default = False\n"
        "def llama_model_load_from_file(path, params):\n"
        "    global default\n"
        "    default = params.use_extra_bufts\n"
        "    return _real.llama_model_load_from_file(path, params)\n" + code
    )
    return directory
