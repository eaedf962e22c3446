"""Mamba, Mamba 2 and hybrids of them with attention."""
