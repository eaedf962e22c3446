"""Nemotron and relatives."""
