"""Llama and relatives."""
