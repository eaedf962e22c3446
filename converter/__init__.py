"""Turn a language-model checkpoint into a small, fast, verified file in one command and one pass."""

__version__ = "0.1.0"
