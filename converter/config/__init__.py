"""Conversions as YAML: the sections of a file, what they may hold, and refusals that say where a mistake is."""
