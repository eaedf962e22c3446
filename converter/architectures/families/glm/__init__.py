"""GLM and relatives."""
