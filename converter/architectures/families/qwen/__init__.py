"""Qwen and relatives."""
