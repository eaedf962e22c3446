"""The model families: a module each, relatives in a directory."""
