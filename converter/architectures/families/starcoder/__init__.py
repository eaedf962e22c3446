"""StarCoder and StarCoder 2."""
