"""Cohere's Command and relatives."""
