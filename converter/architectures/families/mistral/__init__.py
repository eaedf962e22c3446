"""Mistral, Mixtral and Ministral and relatives."""
