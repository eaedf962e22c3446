"""Tokenizer files to GGUF tokenizer metadata, and the proof that llama.cpp makes the same tokens of it.

The two processes of the proof import this package too, and start sooner without what only the parent needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from converter.vocabs.proof import Difference, TokenizerProof, prove, prove_file, read_vocabulary
    from converter.vocabs.vocabulary import Vocabulary

__all__ = ["Difference", "TokenizerProof", "Vocabulary", "prove", "prove_file", "read_vocabulary"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from converter.vocabs import proof

    return getattr(proof, name)
