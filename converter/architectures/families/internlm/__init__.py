"""InternLM and relatives."""
