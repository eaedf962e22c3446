"""EXAONE and relatives."""
