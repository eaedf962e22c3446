"""Is a finished file faithful? It is loaded with llama.cpp and compared with its source."""

from converter.verification.thresholds import THRESHOLDS, Thresholds, thresholds_for
from converter.verification.verdict import Verification, verify

__all__ = ["THRESHOLDS", "Thresholds", "Verification", "thresholds_for", "verify"]
