"""Gemma and relatives."""
