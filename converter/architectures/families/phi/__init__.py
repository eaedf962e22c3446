"""Phi and relatives."""
