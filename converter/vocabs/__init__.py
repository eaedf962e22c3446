"""Tokenizer files to GGUF tokenizer metadata, and the proof that llama.cpp makes the same tokens of it."""

from converter.vocabs.proof import Difference, TokenizerProof, prove, prove_file, read_vocabulary
from converter.vocabs.vocabulary import Vocabulary

__all__ = ["Difference", "TokenizerProof", "Vocabulary", "prove", "prove_file", "read_vocabulary"]
