"""Is a finished file faithful? It is loaded with llama.cpp and compared with its source."""

from converter.verification.embedding_thresholds import EmbeddingThresholds
from converter.verification.thresholds import THRESHOLDS, Thresholds, thresholds_for
from converter.verification.verdict import Verification, verify

__all__ = ["THRESHOLDS", "EmbeddingThresholds", "Thresholds", "Verification", "thresholds_for", "verify"]
