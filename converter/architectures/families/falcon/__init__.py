"""Falcon and relatives."""
