"""Granite and relatives."""
